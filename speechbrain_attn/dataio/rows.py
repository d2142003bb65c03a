"""Rows of a manifest in arrays, so that millions of them fit into memory.

A dict for each row takes several times as much in each process, and workers
of a loader get copies of their own: to look at a Python object is to write to
it. Arrays they share.
"""

import csv
import zlib
from array import array
from typing import NamedTuple

import numpy as np

from speechbrain_attn.dataio.manifest import COLUMNS
from speechbrain_attn.errors import AttnError


class Row(NamedTuple):
    """One row: a stretch of a file."""

    id: str
    path: str
    duration: float  # seconds of the file
    start: int  # first sample at 16 kHz
    stop: int  # the one after the last
    speaker: str


class ManifestRows:
    """Rows of a manifest, read once.

    Arguments
    ---------
    path : str
        CSV file in SpeechBrain's columns.
    data_folder : str
        Stands for ``$data_root`` in it.

    Attributes
    ----------
    paths : sequence of str
        The files, each once.
    speakers : list of str
        Each once.
    file_numbers, speaker_numbers : numpy.ndarray
        [rows] int32: which of them each row is of.

    Raises
    ------
    AttnError
        The file cannot be read, lacks a column or has a broken row.
    """

    def __init__(self, path, data_folder):
        numbers = {key: array("i") for key in ("start", "stop", "file", "who")}
        durations = array("d")
        ids, paths = _TextBuilder(), _TextBuilder()
        file_of, speaker_of = {}, {}
        for row_id, duration, wav, start, stop, speaker in _cells(path):
            ids.append(row_id)
            if wav not in file_of:
                file_of[wav] = len(file_of)
                paths.append(wav.replace("$data_root", str(data_folder)))
            durations.append(duration)
            numbers["start"].append(start)
            numbers["stop"].append(stop)
            numbers["file"].append(file_of[wav])
            numbers["who"].append(
                speaker_of.setdefault(speaker, len(speaker_of))
            )
        self._ids, self.paths = ids.texts(), paths.texts()
        self.speakers = list(speaker_of)
        self._durations = np.asarray(durations)
        self._starts = np.asarray(numbers["start"])
        self._stops = np.asarray(numbers["stop"])
        self.file_numbers = np.asarray(numbers["file"])
        self.speaker_numbers = np.asarray(numbers["who"])

    def __len__(self):
        return len(self._ids)

    def fingerprint(self):
        """Number that changes where rows are added, removed or reordered.

        It follows from their ids alone: a corpus may be moved, or put into
        shards.
        """
        return zlib.crc32(self._ids.body)

    def __getitem__(self, number):
        """The ``Row`` of a number from 0 on."""
        return Row(
            self._ids[number],
            self.paths[self.file_numbers[number]],
            float(self._durations[number]),
            int(self._starts[number]),
            int(self._stops[number]),
            self.speakers[self.speaker_numbers[number]],
        )


def _cells(path):
    """Yield the cells of each row, in the order of ``COLUMNS``."""
    line = 1
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            heading = next(lines, [])
            places = [heading.index(name) for name in COLUMNS]
            for cells in filter(None, lines):  # no blank lines
                line = lines.line_num
                row_id, duration, wav, start, stop, speaker = (
                    cells[place] for place in places
                )
                yield (
                    *(row_id, float(duration), wav),
                    *(int(start), int(stop), speaker),
                )
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise AttnError(
            f"{path} line {line}: this manifest cannot be read ({error}). "
            "Remove it, and run with --skip_prep=False to have it written "
            "again."
        ) from None


class _Texts:
    """Sequence of str in one block of bytes."""

    def __init__(self, body, ends):
        self.body = body
        self._ends = ends

    def __len__(self):
        return len(self._ends) - 1

    def __getitem__(self, number):
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.body[self._ends[number] : self._ends[number + 1]].decode()


class _TextBuilder:
    def __init__(self):
        self._body = bytearray()
        self._ends = array("q", [0])

    def append(self, text):
        self._body += text.encode()
        self._ends.append(len(self._body))

    def texts(self):
        return _Texts(self._body, np.asarray(self._ends))
