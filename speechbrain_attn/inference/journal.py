"""Finished work of an extraction on disk, whole after a kill at any instant.

Each process appends to two files of its own: the embeddings of a bucket, then
a line that says what they are. A line counts if it is whole and the embeddings
agree with its checksum; what lies behind the last such line is dropped.
"""

import json
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Entry(NamedTuple):
    """What became of one bucket; utterances are numbers in the whole list."""

    bucket: int
    rows: list  # of int, the utterances that have an embedding
    samples: list  # of int, their lengths at 16 kHz
    refused: dict  # str of int -> why that utterance has no embedding
    size: int  # of an embedding; 0 without any
    checksum: int  # of the embeddings' bytes


class Journal:
    """The two files of one process, open for appending."""

    def __init__(self, folder, rank):
        lines, data = _paths(folder, rank)
        ends = [(0, 0), *(ends for _, *ends in _scan(lines, data))]
        lines_end, data_end = ends[-1]
        self._lines = _open_at(lines, lines_end)
        self._data = _open_at(data, data_end)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._lines.close()
        self._data.close()

    def append(self, bucket, rows, samples, refused, embeddings):
        """Add a bucket; it is safe from a kill when this returns."""
        body = embeddings.astype(np.float32).tobytes()
        size = embeddings.shape[1] if len(rows) else 0
        entry = Entry(bucket, rows, samples, refused, size, zlib.crc32(body))
        self._data.write(body)
        self._data.flush()
        self._lines.write(json.dumps(entry).encode() + b"\n")
        self._lines.flush()


def entries(folder):
    """The best entry of each finished bucket, as {bucket: (entry, place)}.

    ``place`` is what ``embeddings_at`` takes. Of two entries of a bucket, as
    a second try leaves them, the one with fewer refused utterances counts.
    """
    found = {}
    for lines in sorted(Path(folder).glob("part-*.jsonl")):
        data = lines.with_suffix(".f32")
        for entry, _, data_end in _scan(lines, data):
            start = data_end - _num_bytes(entry)
            earlier = found.get(entry.bucket)
            if not earlier or len(entry.refused) < len(earlier[0].refused):
                found[entry.bucket] = entry, (data, start)
    return found


def embeddings_at(entry, place):
    """Embeddings of an entry, [utterances, embedding_size] float32."""
    path, start = place
    count = len(entry.rows) * entry.size
    flat = np.fromfile(path, dtype=np.float32, count=count, offset=start)
    return flat.reshape(len(entry.rows), entry.size)


def _paths(folder, rank):
    stem = Path(folder) / f"part-{rank}"
    return stem.with_suffix(".jsonl"), stem.with_suffix(".f32")


def _open_at(path, end):
    """File that is cut at ``end`` and open for writing there."""
    file = open(path, "ab")
    os.truncate(path, end)
    return file


def _scan(lines, data):
    """Yield (entry, end of its line, end of its embeddings), both in bytes."""
    if not (lines.exists() and data.exists()):
        return
    lines_end = data_end = 0
    with open(lines, "rb") as line_file, open(data, "rb") as data_file:
        for line in line_file:
            try:
                entry = Entry(*json.loads(line))
            except (ValueError, TypeError):
                return  # killed within the line
            body = data_file.read(_num_bytes(entry))
            # After a loss of power the line may be there and its data not.
            if line[-1:] != b"\n" or zlib.crc32(body) != entry.checksum:
                return
            lines_end += len(line)
            data_end += len(body)
            yield entry, lines_end, data_end


def _num_bytes(entry):
    return len(entry.rows) * entry.size * np.dtype(np.float32).itemsize
