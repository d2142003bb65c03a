"""Rows of numbers on disk, where there may be too many for memory."""

import contextlib
import tempfile
import weakref

import numpy as np
import torch

from speechbrain_attn.errors import AttnError


class Scratch:
    """Rows of float32 in a file that vanishes with this object.

    The file has no name and lies where ``tempfile`` puts it: in the folder
    that the environment variable TMPDIR names, else in /tmp. It is read and
    written, not mapped, so that it does not count as memory in use.

    Arguments
    ---------
    row_size : int
        Numbers in a row.
    """

    def __init__(self, row_size):
        self._row_size = row_size
        self._num_rows = 0
        with _disk_errors(0):
            self._file = tempfile.TemporaryFile(buffering=0)
        weakref.finalize(self, self._file.close)

    def __len__(self):
        """Rows so far."""
        return self._num_rows

    def append(self, rows):
        """Add ``rows`` [rows, row_size], float32 tensor, at the end."""
        self.write(self._num_rows, rows)

    def write(self, start, rows):
        """Write ``rows`` [rows, row_size] from row ``start`` on.

        Raises AttnError where there is no room on the disk.
        """
        with _disk_errors(self._num_rows * self._row_size):
            self._file.seek(4 * start * self._row_size)
            rest = memoryview(np.ascontiguousarray(rows.cpu())).cast("B")
            while len(rest):
                rest = rest[self._file.write(rest) :]
        self._num_rows = max(self._num_rows, start + len(rows))

    def read(self, start, stop):
        """Rows ``start`` to ``stop`` as a tensor [stop - start, row_size]."""
        rows = torch.empty(stop - start, self._row_size)
        self._file.seek(4 * start * self._row_size)
        self._file.readinto(rows.numpy().data)
        return rows


@contextlib.contextmanager
def _disk_errors(num_written):
    try:
        yield
    except OSError as error:
        raise AttnError(
            f"scratch file in {tempfile.gettempdir()}: {error.strerror} after "
            f"{4 * num_written / 1e6:,.0f} MB. Set TMPDIR to a folder with "
            "more room."
        ) from None
