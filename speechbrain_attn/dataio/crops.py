"""Crops of audio files, read without decoding the rest."""

import random

import soxr
import torch

from speechbrain_attn.dataio.audio import SAMPLE_RATE, read_waveform
from speechbrain_attn.errors import AttnError

SLOWEST, FASTEST = 50, 200  # percent of the real speed


def fit_length(wavs, num_samples):
    """Waveforms [..., samples] cut, or repeated, to ``num_samples``.

    Example
    -------
    >>> fit_length(torch.tensor([1, 2, 3]), 7)
    tensor([1, 2, 3, 1, 2, 3, 1])
    """
    repeats = -(-num_samples // wavs.shape[-1])
    if repeats > 1:
        wavs = torch.cat([wavs] * repeats, dim=-1)
    return wavs[..., :num_samples]


def checked_speeds(speeds, key, there=()):
    """Percents of speed as a list; one may stand alone.

    ``key`` is the option, for the message, and ``there`` are speeds that are
    meant without being named.

    Raises
    ------
    AttnError
        One is no whole number of percent between 50 and 200, or named twice.
    """
    listed = list(speeds) if isinstance(speeds, list | tuple) else [speeds]
    seen = list(there)
    for speed in listed:
        whole = isinstance(speed, int) and not isinstance(speed, bool)
        if not whole or not SLOWEST <= speed <= FASTEST or speed in seen:
            besides = "".join(f" and without {one}" for one in there)
            raise AttnError(
                f"{key}={listed}: want whole numbers of percent from "
                f"{SLOWEST} to {FASTEST}, each once{besides}; for example "
                "[90, 110]."
            )
        seen.append(speed)
    return listed


def change_speed(wav, speed, num_samples):
    """Play a waveform [samples] at ``speed`` percent, ``num_samples`` of it.

    Pitch and tempo change together, as those of a tape: 110 makes it shorter
    and higher. What lacks at the end is repeated from the beginning.

    Example
    -------
    >>> change_speed(torch.rand(17600), 110, 16000).shape
    torch.Size([16000])
    """
    if speed != 100:
        wav = torch.from_numpy(soxr.resample(wav.numpy(), speed, 100))
    return fit_length(wav, num_samples)


def read_crop(path, num_samples, file_samples, position, speed=100):
    """Read ``num_samples`` of a file; a shorter file is repeated.

    Arguments
    ---------
    path : str or Path
        Audio file.
    num_samples : int
        Length of the crop, counted at 16 kHz.
    file_samples : int
        Length of the file, counted at 16 kHz.
    position : float
        In [0, 1): 0 is the first possible crop and 1 would be the last.
    speed : int
        Percent; so much more of the file is read, and played in the time of
        the crop.

    Returns
    -------
    torch.Tensor
        [num_samples], float32.

    Raises
    ------
    AudioError
        The file cannot be read; the message names it.
    """
    stretch = -(-num_samples * speed // 100)
    start = int(position * (max(0, file_samples - stretch) + 1))
    wav = read_waveform(path, start=start, stop=start + stretch)
    return change_speed(wav, speed, num_samples)


class RandomCrops:
    """Reads a random crop per item: a new one each epoch, the same again.

    Where the crop lies, and its speed, follow from seed, epoch and item id
    alone, so a resumed run, or another number of workers, reads the same
    samples.

    Arguments
    ---------
    num_samples : int
        Length of a crop, counted at 16 kHz.
    seed : int
        Of the run.
    speeds : sequence of int
        Percents, of which an item gets one in each epoch.
    """

    def __init__(self, num_samples, seed, speeds=(100,)):
        self.num_samples = num_samples
        self.seed = seed
        self.speeds = tuple(speeds)
        # Shared memory: persistent workers hold a copy of this object from
        # the first epoch, and must see the number change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch):
        """Choose the crops of this epoch."""
        self._epoch.fill_(epoch)

    def speed_index(self, item_id):
        """Which of ``speeds`` an item has in this epoch."""
        # A draw of its own, so that crops lie where they lay without speeds.
        draw = random.Random(f"{self.seed} {int(self._epoch)} speed {item_id}")
        return draw.randrange(len(self.speeds))

    def read(self, item_id, path, duration_s):
        """Crop of a file of ``duration_s`` seconds, [num_samples]."""
        draw = random.Random(f"{self.seed} {int(self._epoch)} {item_id}")
        return read_crop(
            path,
            self.num_samples,
            file_samples=round(duration_s * SAMPLE_RATE),
            position=draw.random(),
            speed=self.speeds[self.speed_index(item_id)],
        )
