"""Batches of so many speakers and so many utterances of each."""

import logging
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.dataio.batching import HOP_SAMPLES
from speechbrain_attn.dataio.crops import read_crop
from speechbrain_attn.errors import AttnError

logger = logging.getLogger(__name__)


class Crop(NamedTuple):
    """What a dataset is asked for in place of a row number.

    Arguments
    ---------
    row : int
        Of the dataset.
    num_samples : int
        Length of the crop, counted at 16 kHz.
    position : float
        Where it lies in its file, in [0, 1): see ``crops.read_crop``.
    """

    row: int
    num_samples: int
    position: float


class SpeakerBatchSampler(Sampler):
    """Batches of ``num_speakers`` x ``num_utterances`` crops, for GE2E.

    The speakers of a batch are different ones, and so are the files of a
    speaker. An epoch goes through all files: each is used once, a few of a
    speaker twice, where their number is not a multiple of ``num_utterances``.
    What does not fill a last step is left out, other files each time, and so
    are files of a speaker who has more of them than the epoch has steps. All
    crops of a batch have one length.

    Everything, the place of each crop included, follows from seed and epoch
    alone: call ``set_epoch`` before each. So a run goes on in the middle of
    an epoch by passing over batches, as the host's ``SaveableDataLoader``
    does; nothing is read for them, and no random state needs to be saved.

    With several processes each takes its own part of a step, in which no
    speaker comes twice. Don't wrap this in a distributed sampler.

    Arguments
    ---------
    speakers, files : sequence
        Speaker and file of each row of the dataset, as names or numbers; a
        file with several rows counts once.
    num_speakers, num_utterances : int
        Speakers in a batch, and files of each (the paper's N and M).
    min_frames, max_frames : int
        A crop has so many frames of 10 ms, drawn for each batch.
    few : str
        Speakers with fewer than ``num_utterances`` files: "crops" takes
        several crops of a file, "leave_out" does without them.
    seed : int
        Of the run.
    rank, world_size : int
        Number of this process, and how many there are.

    Attributes
    ----------
    num_few : int
        Speakers with fewer than ``num_utterances`` files.
    step_size : int
        Crops of a step over all processes.

    Raises
    ------
    AttnError
        ``num_speakers`` or ``num_utterances`` is below 1 or no whole number,
        ``few`` is neither, no length is between ``min_frames`` and
        ``max_frames``, or there are too few speakers for a step.

    Example
    -------
    >>> sampler = SpeakerBatchSampler(list("aaabbbccc"), range(9), 2, 3)
    >>> batch = next(iter(sampler))
    >>> len(sampler), len(batch), 140 <= batch[0].num_samples / 160 <= 180
    (1, 6, True)
    """

    def __init__(
        self,
        speakers,
        files,
        num_speakers=64,
        num_utterances=10,
        min_frames=140,
        max_frames=180,
        few="crops",
        seed=0,
        rank=0,
        world_size=1,
    ):
        if few not in ("crops", "leave_out"):
            raise AttnError(f"few={few!r}; want 'crops' or 'leave_out'.")
        for name, number in (
            ("num_speakers", num_speakers),
            ("num_utterances", num_utterances),
        ):
            if number < 1 or number != int(number):
                raise AttnError(
                    f"{name}={number}; want a whole number, 1 or more."
                )
        if not 1 <= min_frames <= max_frames:
            raise AttnError(
                f"min_frames={min_frames}, max_frames={max_frames}; want 1 or "
                "more, and the second no less than the first."
            )
        self.num_speakers = num_speakers
        self.num_utterances = num_utterances
        self.frames = min_frames, max_frames
        self.seed = seed
        self.rank = rank
        self.epoch = 0
        self._step_speakers = num_speakers * world_size
        self.step_size = self._step_speakers * num_utterances
        rows = _rows_of_speakers(np.asarray(speakers), np.asarray(files))
        enough = [one for one in rows if len(one) >= num_utterances]
        self.num_few = len(rows) - len(enough)
        self._rows = rows if few == "crops" else enough
        found = len(self._rows)
        if found < self._step_speakers:
            there = "is 1 speaker" if found == 1 else f"are {found} speakers"
            raise AttnError(
                f"num_speakers={num_speakers} in each of {world_size} "
                f"processes, but there {there} "
                f"({len(enough)} with num_utterances={num_utterances} files "
                "or more); lower one of them."
            )
        sizes = np.array([len(rows) for rows in self._rows])
        self._groups = -(-sizes // num_utterances)
        # A speaker of very many files may not get through them all, since it
        # cannot be in a step twice. Fewer steps may then be filled, and of
        # those speakers fewer groups: until it comes out even.
        groups, steps = self._groups, self._groups.sum()
        while groups.sum() < steps * self._step_speakers:
            steps = groups.sum() // self._step_speakers
            groups = np.minimum(groups, steps)
        self._steps = int(steps)
        logger.info(
            "%d batches of %d speakers x %d utterances an epoch; %d of %d "
            "speakers have fewer than %d files and %s.",
            *(len(self), num_speakers, num_utterances),
            *(self.num_few, len(rows), num_utterances),
            "give several crops of each" if few == "crops" else "are left out",
        )

    def __len__(self):
        return self._steps

    def set_epoch(self, epoch):
        """Choose the batches of this epoch."""
        self.epoch = epoch

    def __iter__(self):
        """Yield lists of ``Crop``, speaker after speaker."""
        draw = np.random.default_rng([self.seed, self.epoch])
        rows = [draw.permutation(rows) for rows in self._rows]
        left = self._groups.copy()
        first = self.rank * self.num_speakers
        own = slice(first, first + self.num_speakers)
        for steps_left in range(self._steps, 0, -1):
            chosen = self._draw_speakers(draw, left, steps_left)
            left[chosen] -= 1
            num_frames = draw.integers(*self.frames, endpoint=True)
            # Drawn for all processes, so that all draw the same.
            places = draw.random((len(chosen), self.num_utterances))
            yield [
                crop
                for speaker, place in zip(chosen[own], places[own], strict=True)
                for crop in self._group(
                    rows[speaker], left[speaker], num_frames, place
                )
            ]

    def _draw_speakers(self, draw, left, steps_left):
        """Speakers of a step, the likelier the more groups they have left."""
        # The smallest of exponential numbers with these rates are a weighted
        # draw without replacement.
        keys = draw.exponential(size=len(left)) / np.maximum(left, 1)
        keys[left == 0] = np.inf
        # Those that are needed in every step from now on come first; where a
        # step has no room for all of them, others are left out each time.
        spare = left < steps_left
        return np.lexsort((keys, spare))[: self._step_speakers]

    def _group(self, rows, number, num_frames, places):
        """Crops of one speaker: group ``number`` of its files ``rows``."""
        num_samples = int(num_frames) * HOP_SAMPLES
        first = number * self.num_utterances
        rounds, rest = divmod(self.num_utterances, len(rows))
        crops = []
        for one, place in enumerate(places):
            turn, file = divmod(one, len(rows))
            row = int(rows[(first + one) % len(rows)])
            # A file that gives several crops gives one of each part of it.
            parts = rounds + (file < rest)
            crops.append(Crop(row, num_samples, float(turn + place) / parts))
        return crops


def _rows_of_speakers(speakers, files):
    """Array of the first rows of the files of each speaker.

    Speakers and files come in the order of their first rows.
    """
    _, speakers = np.unique(speakers, return_inverse=True)
    _, files = np.unique(files, return_inverse=True)
    pairs = speakers.astype(np.int64) * len(files) + files
    first = np.sort(np.unique(pairs, return_index=True)[1])
    order = np.argsort(speakers[first], kind="stable")
    bounds = np.flatnonzero(np.diff(speakers[first][order])) + 1
    return sorted(np.split(first[order], bounds), key=lambda rows: rows[0])


class CropDataset(Dataset):
    """Rows of a manifest, asked for a ``Crop`` at a time.

    Arguments
    ---------
    rows : ManifestRows
    encoder : CategoricalEncoder
        Class numbers of the speakers.
    speeds : sequence of int
        Percents. For each the rows come once more, and a speaker at another
        speed is another speaker.
    num_speakers : int
        Of one speed; what the class number grows by with each speed.
    """

    def __init__(self, rows, encoder, speeds=(100,), num_speakers=0):
        self.rows = rows
        self.encoder = encoder
        self.speeds = tuple(speeds)
        self.num_speakers = num_speakers

    def __len__(self):
        return len(self.rows) * len(self.speeds)

    def speakers_and_files(self):
        """Arrays of the class number and of the file of each row."""
        classes = np.array(
            [self.encoder.encode_label(name) for name in self.rows.speakers]
        )
        numbers = classes[self.rows.speaker_numbers]
        shifts = self.num_speakers * np.arange(len(self.speeds))
        files = np.tile(self.rows.file_numbers, len(self.speeds))
        return (shifts[:, None] + numbers).ravel(), files

    def __getitem__(self, crop):
        """``id``, ``sig`` [samples] and ``spk_id_encoded`` of a ``Crop``."""
        speed, number = divmod(crop.row, len(self.rows))
        row = self.rows[number]
        speaker = self.encoder.encode_label(row.speaker)
        return {
            "id": row.id,
            "sig": read_crop(
                row.path,
                crop.num_samples,
                file_samples=round(row.duration * SAMPLE_RATE),
                position=crop.position,
                speed=self.speeds[speed],
            ),
            "spk_id_encoded": speaker + speed * self.num_speakers,
        }
