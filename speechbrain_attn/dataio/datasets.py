"""Datasets of a training run, from manifests."""

import logging

from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.data_pipeline import provides, takes

from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.batching import pad_waveforms
from speechbrain_attn.dataio.crops import fit_length
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


def read_manifest(path, data_folder):
    """The host's dataset of a manifest; None if it has no rows.

    Arguments
    ---------
    path : str
        CSV file in SpeechBrain's columns.
    data_folder : str
        Stands for ``$data_root`` in it.

    Raises
    ------
    AttnError
        The file cannot be read.
    """
    try:
        rows = load_data_csv(path, {"data_root": data_folder})
    except (OSError, ValueError, KeyError) as error:
        raise AttnError(
            f"{path}: this manifest cannot be read ({error}). Remove it, and "
            "run with --skip_prep=False to have it written again."
        ) from None
    # The host's dataset cannot be empty.
    return DynamicItemDataset(rows) if rows else None


def speaker_encoder(train_data, path, num_classes):
    """Class numbers of the training speakers, kept in a file.

    Arguments
    ---------
    train_data : DynamicItemDataset
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
        The file lacks speakers of the data, or the classifier has fewer
        classes than there are speakers.
    """
    speakers = sorted({row["spk_id"] for row in train_data.data.values()})
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


def set_training_pipeline(data, encoder, crops, random_chunk):
    """Make training rows give ``id``, ``sig`` (a crop), ``spk_id_encoded``.

    Arguments
    ---------
    data : DynamicItemDataset
        Changed in place.
    encoder : CategoricalEncoder
        As ``speaker_encoder`` returns it.
    crops : RandomCrops
    random_chunk : bool
        Whether a row gives a random crop of its file; otherwise it gives its
        own chunk, repeated or cut to the length of a crop.
    """

    @takes("id", "wav", "start", "stop", "duration")
    @provides("sig")
    def crop(item_id, path, start, stop, duration):
        if random_chunk:
            return crops.read(item_id, path, duration)
        chunk = read_waveform(path, int(start), int(stop))
        return fit_length(chunk, crops.num_samples)

    _set_pipeline(data, encoder, crop)


def validation_rows(data, encoder):
    """Dev rows of known speakers, with the same items as training rows.

    Each gives its own chunk, so that validation hears the same samples after
    every epoch. A speaker with few utterances may have all of them among the
    dev rows; those are left out.
    """

    @takes("wav", "start", "stop")
    @provides("sig")
    def chunk(path, start, stop):
        return read_waveform(path, int(start), int(stop))

    known = data.filtered_sorted(
        key_test={"spk_id": lambda speaker: speaker in encoder.lab2ind}
    )
    _set_pipeline(known, encoder, chunk)
    return known


def _set_pipeline(data, encoder, chunk):
    @takes("spk_id")
    @provides("spk_id_encoded")
    def label(spk_id):
        return encoder.encode_label(spk_id)

    data.add_dynamic_item(chunk)
    data.add_dynamic_item(label)
    data.set_output_keys(["id", "sig", "spk_id_encoded"])
