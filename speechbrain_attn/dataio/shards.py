"""Corpora in tar shards, whose members are read in place.

A folder of shards, as ``shard_writing`` makes it, stands wherever a data
folder may. Tar files hold their members uncompressed and in one piece, so a
crop is read from the middle of a shard as it is from a file of its own, in
any order. An utterance has the path

    /data/shards/shard-000003.tar@1536+64044/speaker/session/utterance.wav

which names the shard, the first byte of the member and its number of bytes:
to read it no index is needed.
"""

import contextlib
import hashlib
import io
import json
import os
import re

from speechbrain_attn.errors import AttnError

INDEX_FILE = "shards.json"

_MEMBER = re.compile(r"(.+\.tar)@(\d+)\+(\d+)/.")


def member_path(shard, offset, size, name):
    """Path of a member of a tar file, as ``open_audio`` takes it.

    Example
    -------
    >>> member_path("/data/shard-000003.tar", 1536, 64044, "id1/x/1.wav")
    '/data/shard-000003.tar@1536+64044/id1/x/1.wav'
    """
    return f"{shard}@{offset}+{size}/{name}"


def stored_in(path):
    """The file on disk that holds an audio file: its shard, or itself."""
    found = _MEMBER.match(path)
    return found[1] if found else path


@contextlib.contextmanager
def open_audio(path):
    """What soundfile and PyAV open: the path, or a window into a shard.

    Raises OSError where a file or the shard cannot be opened.
    """
    found = _MEMBER.match(path)
    if found is None and _is_utf8(path):
        yield path
        return
    if found is None:
        # soundfile takes no other name, but the file itself.
        with open(path, "rb") as file:
            yield file
        return
    with _Window(found[1], int(found[2]), int(found[3])) as window:
        yield window


def _is_utf8(path):
    """Whether a name is not one of bytes that mean nothing in UTF-8."""
    return not any("\udc80" <= letter <= "\udcff" for letter in path)


class _Window(io.RawIOBase):
    """The bytes of one member, as a file by itself."""

    def __init__(self, path, offset, size):
        self._descriptor = os.open(path, os.O_RDONLY)
        self._offset, self._size, self._position = offset, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        origins = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self._size,
        }
        self._position = max(0, origins[whence] + offset)
        return self._position

    def tell(self):
        return self._position

    def readinto(self, buffer):
        left = max(0, self._size - self._position)
        buffer = memoryview(buffer).cast("B")[:left]
        count = os.preadv(
            self._descriptor, [buffer], self._offset + self._position
        )
        self._position += count
        return count

    def close(self):
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def is_shard_folder(folder):
    """Whether a folder was written by ``shard_writing``."""
    return os.path.isfile(os.path.join(folder, INDEX_FILE))


def shard_members(folder):
    """The members of all shards of a folder.

    Arguments
    ---------
    folder : str
        With a ``shards.json``.

    Returns
    -------
    paths : dict
        Name, ``speaker/session/utterance.extension``, to path.
    fingerprint : str
        Of names, sizes and places of all members.

    Raises
    ------
    AttnError
        The folder is not written to its end, or a shard is missing, cut
        short or not the one of the index.
    """
    shards = read_index(folder)["shards"]
    if shards is None:
        raise AttnError(
            f"{folder}: its shards are not all there yet; run make_shards.py "
            "to its end, with the command that began it."
        )
    paths, digest = {}, hashlib.sha256()
    for shard in shards:
        stem = os.path.join(folder, shard["name"])
        _check_size(f"{stem}.tar", shard["bytes"])
        for name, offset, size, _ in read_json(f"{stem}.json")["members"]:
            paths[name] = member_path(f"{stem}.tar", offset, size, name)
            digest.update(f"{name}\0{offset}\0{size}\n".encode())
    return paths, digest.hexdigest()


def read_index(folder):
    """Settings and shards of a folder; AttnError for one of another origin."""
    path = os.path.join(folder, INDEX_FILE)
    index = read_json(path)
    if not isinstance(index, dict) or not {"settings", "shards"} <= set(index):
        raise AttnError(
            f"{path}: is no index of shards as make_shards.py writes it. "
            "Rename the file if it is yours."
        )
    return index


def read_json(path):
    """What an index file holds; AttnError names one that cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise AttnError(
            f"{path}: this index of shards cannot be read ({error}). Copy it "
            "again, or write the shards into another folder."
        ) from None


def _check_size(path, num_bytes):
    try:
        found = os.path.getsize(path)
    except OSError as error:
        raise AttnError(
            f"{path}: this shard cannot be read ({error.strerror}); copy it "
            "again, or run make_shards.py again, which writes it anew."
        ) from None
    if found != num_bytes:
        raise AttnError(
            f"{path}: has {found:,} bytes, and {INDEX_FILE} says "
            f"{num_bytes:,}. Was it cut short while it was copied? Copy it "
            "again, or run make_shards.py again, which writes it anew."
        )
