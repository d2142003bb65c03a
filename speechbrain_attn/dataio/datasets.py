"""Datasets of a training run, from manifests."""

import logging

import numpy as np
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.encoder import CategoricalEncoder
from torch.utils.data import Dataset

from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.batching import pad_waveforms
from speechbrain_attn.dataio.crops import change_speed
from speechbrain_attn.errors import AttnError

logger = logging.getLogger(__name__)


def collate(examples):
    """The host's batch: ``sig`` padded to whole hops, class numbers [batch].

    Example
    -------
    >>> import torch
    >>> rows = [{"id": "a", "sig": torch.ones(161)}]
    >>> collate(rows).sig.data.shape
    torch.Size([1, 320])
    """
    return PaddedBatch(
        examples, padded_keys=["sig"], padding_func=pad_waveforms
    )


def speaker_encoder(rows, path, num_classes):
    """Class numbers of the training speakers, kept in a file.

    Arguments
    ---------
    rows : ManifestRows
    path : str
        Text file; read if it is there, written otherwise.
    num_classes : int
        Of the classifier; None leaves the check to the loss.

    Returns
    -------
    speechbrain.dataio.encoder.CategoricalEncoder

    Raises
    ------
    AttnError
        There is one speaker alone, the file lacks speakers of the data, or
        the classifier has fewer classes than there are speakers.
    """
    speakers = sorted(rows.speakers)
    if len(speakers) < 2:
        raise AttnError(
            f"train.csv holds one speaker, {speakers[0]!r}; want two or more, "
            "which training tells apart. Are the others in the trial lists?"
        )
    encoder = CategoricalEncoder()
    encoder.load_or_create(path, from_iterables=[speakers])
    encoder.expect_len(len(encoder))
    unknown = [name for name in speakers if name not in encoder.lab2ind]
    if unknown:
        raise AttnError(
            f"{path}: lacks {len(unknown)} of {len(speakers)} speakers, such "
            f"as {unknown[0]!r}: the training data changed since this run "
            "began. Choose another output_folder."
        )
    if num_classes is not None and num_classes < len(encoder):
        raise AttnError(
            f"out_n_neurons={num_classes}, but train.csv holds {len(encoder)} "
            f"speakers; set --out_n_neurons={len(encoder)}."
        )
    if num_classes is not None and num_classes > len(encoder):
        logger.info(
            "out_n_neurons=%d, and there are %d speakers: some classes have "
            "no examples.",
            num_classes,
            len(encoder),
        )
    return encoder


class TrainingExamples(Dataset):
    """``id``, ``sig`` (a crop, [samples]) and ``spk_id_encoded`` of rows.

    Numbers from ``len()`` on are the same rows again, with another crop each
    time (``epochs.EpochBatchSampler``).

    Arguments
    ---------
    rows : ManifestRows
    encoder : CategoricalEncoder
        As ``speaker_encoder`` returns it.
    crops : RandomCrops
    random_chunk : bool
        Whether a row gives a random crop of its file; otherwise it gives its
        own chunk, repeated or cut to the length of a crop.
    num_speakers : int
        Added to the class number for each step along ``crops.speeds``, so
        that a speaker at another speed is another speaker.
    """

    def __init__(self, rows, encoder, crops, random_chunk, num_speakers=0):
        self.rows = rows
        self.encoder = encoder
        self.crops = crops
        self.random_chunk = random_chunk
        self.num_speakers = num_speakers

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        times_before, number = divmod(number, len(self.rows))
        row = self.rows[number]
        drawn = f"{row.id} {times_before}" if times_before else row.id
        speed = self.crops.speed_index(drawn)
        if self.random_chunk:
            wav = self.crops.read(drawn, row.path, row.duration)
        else:
            chunk = read_waveform(row.path, row.start, row.stop)
            wav = change_speed(
                chunk, self.crops.speeds[speed], self.crops.num_samples
            )
        speaker = self.encoder.encode_label(row.speaker)
        return _example(row, wav, speaker + self.num_speakers * speed)


class ValidationExamples(Dataset):
    """Dev rows of known speakers, with the same items as training rows.

    Each gives its own chunk, so that validation hears the same samples after
    every epoch. A speaker with few utterances may have all of them among the
    dev rows; those are left out.

    Arguments
    ---------
    rows : ManifestRows
    encoder : CategoricalEncoder
        Of the training speakers.
    """

    def __init__(self, rows, encoder):
        self.rows = rows
        self.encoder = encoder
        known = [speaker in encoder.lab2ind for speaker in rows.speakers]
        self.chosen = np.flatnonzero(np.array(known)[rows.speaker_numbers])

    def __len__(self):
        return len(self.chosen)

    def __getitem__(self, number):
        row = self.rows[self.chosen[number]]
        chunk = read_waveform(row.path, row.start, row.stop)
        return _example(row, chunk, self.encoder.encode_label(row.speaker))


def _example(row, wav, speaker):
    return {"id": row.id, "sig": wav, "spk_id_encoded": speaker}
