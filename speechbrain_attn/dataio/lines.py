"""Lines of a text file, plain or gzip, a block at a time."""

import gzip
import zlib
from contextlib import ExitStack

import numpy as np

from speechbrain_attn.errors import AttnError

BLOCK_BYTES = 1 << 18  # its words and their numbers stay within the cache
_LONGEST_LINE = 1 << 24  # bytes; beyond it the file is no list
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin a file with it


def line_blocks(path, kind):
    """Yield whole lines of a file, about ``BLOCK_BYTES`` at a time.

    Empty lines at the end of the file are dropped; an empty file is one empty
    line. Gzip is recognised by its first two bytes, not by the file's name.

    Arguments
    ---------
    path : str or Path
    kind : str
        What the file is, as messages name it: "trial list".

    Yields
    ------
    number : int
        Of the block's first line, from 1.
    body : bytes
        Lines in UTF-8, each with its line feed.

    Raises
    ------
    AttnError
        The file is missing or cannot be read or unpacked, or is not text.

    Example
    -------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/list.txt"
    >>> with open(path, "w") as file:
    ...     _ = file.write("a b\\nc d\\n\\n")
    >>> list(line_blocks(path, "list"))
    [(1, b'a b\\n'), (2, b'c d\\n')]
    """
    number, offset, rest = 1, 0, b""
    for block in _byte_blocks(path, kind):
        block = rest + block
        # Empty lines wait for what follows: at the end they are dropped.
        end = block.rstrip().rfind(b"\n") + 1
        body, rest = block[:end], block[end:]
        if len(rest) > _LONGEST_LINE:
            raise AttnError(
                f"{kind} {path} line {number + body.count(10)}: goes on for "
                f"more than {_LONGEST_LINE:,} bytes. Is it a text file?"
            )
        if body:
            yield number, _text(body, offset, path, kind)
            number += body.count(b"\n")
            offset += len(body)
    if rest.strip() or number == 1:
        yield number, _text(rest.rstrip() + b"\n", offset, path, kind)


def fields_per_line(body):
    """Number of words in each line of a block, [lines].

    Example
    -------
    >>> fields_per_line(b"a b\\n c\\n\\n")
    array([2, 1, 0])
    """
    characters = np.frombuffer(body, np.uint8)
    # What bytes.split() splits at: the space, and 9 (tab) to 13.
    blank = (characters == 32) | (characters - np.uint8(9) <= 4)
    ends = np.flatnonzero(~blank[:-1] & blank[1:])
    lines = np.flatnonzero(characters == 10)
    return np.diff(np.searchsorted(ends, lines), prepend=0)


def _byte_blocks(path, kind):
    if "://" in str(path):
        raise AttnError(
            f"{kind} {path}: nothing is downloaded here; fetch it first "
            f"(curl -O {path}) and give the file."
        )
    try:
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "rb"))
            if file.peek(2)[:2] == b"\x1f\x8b":
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            while block := file.read(BLOCK_BYTES):
                yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise AttnError(
            f"{kind} {path}: cannot be unpacked ({error}). Was it cut short "
            "while it was copied?"
        ) from None
    except OSError as error:
        raise AttnError(
            f"{kind} {path}: cannot be read ({error.strerror}); check the path."
        ) from None


def _text(body, offset, path, kind):
    """A block that is UTF-8; ``offset`` is its place in the file."""
    if not body.isascii() or b"\0" in body:
        try:
            body.decode()
            reason, place = "zero byte", body.find(b"\0")
        except UnicodeDecodeError as error:
            reason, place = error.reason, error.start
        if place >= 0:
            raise AttnError(
                f"{kind} {path}: is not a text file ({reason} at byte "
                f"{offset + place})."
            )
    return body if offset else body.removeprefix(_BYTE_ORDER_MARK)
