"""Batches that go through all rows, over all processes together."""

import itertools
import math
import zlib

import torch
from torch.utils.data import Sampler

from speechbrain_attn.errors import AttnError


class EpochBatchSampler(Sampler):
    """Each row in one batch of one process an epoch: none twice, none lost.

    Only where the rows make fewer steps than ``min_steps``, an epoch goes
    through all of them again, in another order: the n-th time, from 0 on,
    ``n * num_rows`` is added to a row's number.

    A step takes ``batch_size`` rows for each process. What is left for the
    last one is shared as evenly as it goes; if a process would get fewer than
    two, on which batch norm cannot train, the step before takes them, too. So
    all processes make the same number of steps, and none waits for another.

    The order follows from seed and epoch alone: call ``set_epoch`` before
    each. A run goes on in the middle of an epoch by passing over batches, as
    the host's ``SaveableDataLoader`` does. On another number of processes the
    steps, but for the end of an epoch, are the same if ``step_size`` is.

    Arguments
    ---------
    num_rows : int
        Of the dataset.
    batch_size : int
        Rows in a batch of one process.
    shuffle : bool
        Another order in each epoch; else that of the rows.
    seed : int
        Of the run.
    rank, world_size : int
        Number of this process, and how many there are.
    min_steps : int
        Of an epoch.

    Attributes
    ----------
    step_size : int
        Rows that a step takes over all processes.

    Raises
    ------
    AttnError
        A process would have fewer than two rows in a step, or ``min_steps``
        is no whole number.

    Example
    -------
    >>> list(EpochBatchSampler(9, batch_size=2, shuffle=False))
    [[0, 1], [2, 3], [4, 5], [6, 7, 8]]
    >>> list(EpochBatchSampler(9, 2, shuffle=False, rank=1, world_size=2))
    [[2, 3], [7, 8]]
    """

    def __init__(
        self,
        num_rows,
        batch_size,
        shuffle=True,
        seed=0,
        rank=0,
        world_size=1,
        min_steps=0,
    ):
        if batch_size < 2:
            raise AttnError(
                f"batch_size={batch_size}: want two crops at least."
            )
        if num_rows < 2 * world_size:
            raise AttnError(
                f"{num_rows} rows to train on for {world_size} processes; each "
                "needs two at least. Are all speakers of data_folder in the "
                "trial lists?"
            )
        if not isinstance(min_steps, int) or min_steps < 0:
            raise AttnError(
                f"min_epoch_steps={min_steps}: want a whole number of "
                "batches, 0 to go through the rows once."
            )
        self.num_rows = num_rows
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.step_size = batch_size * world_size
        wanted = min_steps * self.step_size
        self.passes = max(1, math.ceil(wanted / num_rows))
        stop = num_rows * self.passes
        starts = list(range(0, stop, self.step_size))
        if stop - starts[-1] < 2 * world_size:
            starts.pop()
        self._bounds = [*starts, stop]

    def __len__(self):
        return len(self._bounds) - 1

    def set_epoch(self, epoch):
        """Choose the order of this epoch."""
        self.epoch = epoch

    def __iter__(self):
        """Yield lists of row numbers."""
        if self.shuffle:
            # Not by their sum: the second epoch of one seed would be the
            # first of the next.
            key = f"{self.seed} {self.epoch}"
            draw = torch.Generator().manual_seed(zlib.crc32(key.encode()))
            passes = [
                torch.randperm(self.num_rows, generator=draw)
                + number * self.num_rows
                for number in range(self.passes)
            ]
            order = torch.cat(passes)
        else:
            order = torch.arange(self.num_rows * self.passes)
        for start, stop in itertools.pairwise(self._bounds):
            parts = order[start:stop].tensor_split(self.world_size)
            yield parts[self.rank].tolist()
