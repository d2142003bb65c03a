"""Embeddings of many utterances in a folder, read without loading them all."""

import json
import os
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np

from speechbrain_attn.errors import AttnError

FORMAT = "speechbrain_attn embeddings, version 1"
STORE_FILE = "store.json"  # written last: without it a store is not finished
LEFT_OUT_FILE = "left_out.csv"
_IDS, _EMBEDDINGS, _DURATIONS = "ids.txt", "embeddings.npy", "durations.npy"


class EmbeddingStore:
    """A folder of embeddings, one row an utterance; see ``open``, ``create``.

    It holds ``embeddings.npy`` and ``durations.npy`` (numpy arrays, no
    pickle), ``ids.txt`` (an utterance a line), and ``store.json``, which says
    by what the embeddings were made. One that was extracted from files has
    ``left_out.csv`` too, the files that could not be used and why.

    Arguments
    ---------
    folder : Path
    ids : list of str
        The utterance of each row.
    embeddings : numpy.ndarray
        [utterances, embedding_size] float32.
    durations : numpy.ndarray
        [utterances] float32, seconds; NaN where not known.
    settings : dict
        What the embeddings depend on, such as the hash of the model.

    Example
    -------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> store = EmbeddingStore.create(folder, ["a/1", "b/1"], np.eye(2))
    >>> store = EmbeddingStore.open(folder)
    >>> store.embeddings[store.rows(["b/1", "a/1"])]
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    """

    def __init__(self, folder, ids, embeddings, durations, settings):
        self.folder = folder
        self.ids = ids
        self.embeddings = embeddings
        self.durations = durations
        self.settings = settings

    def __len__(self):
        return len(self.ids)

    @classmethod
    def open(cls, folder):
        """The finished store of a folder; the embeddings stay on disk.

        Raises
        ------
        AttnError
            There is no such folder or no finished store in it, or its files
            do not fit together.
        """
        folder = Path(folder)
        if not folder.is_dir():
            problem = "is a file" if folder.exists() else "no such folder"
            raise AttnError(
                f"{folder}: {problem}. Want a store of embeddings: a "
                "folder as extract_speaker_embeddings.py writes it from audio "
                "files, and EmbeddingStore.create from arrays."
            )
        settings = read_settings(folder)
        if settings is None:
            raise AttnError(
                f"{folder}: holds no finished embeddings (no {STORE_FILE}). "
                "Run the extraction, which goes on where it ended."
            )
        embeddings = _array(folder / _EMBEDDINGS, np.float32, 2, "r")
        durations = _array(folder / _DURATIONS, np.float32, 1, None)
        ids = _ids(folder / _IDS)
        if not len(ids) == len(embeddings) == len(durations):
            raise AttnError(
                f"{folder}: {len(ids):,} utterances in {_IDS}, "
                f"{len(embeddings):,} rows in {_EMBEDDINGS}, "
                f"{len(durations):,} in {_DURATIONS}. {_DAMAGED}"
            )
        return cls(folder, ids, embeddings, durations, settings)

    @classmethod
    def create(cls, folder, ids, embeddings, durations=None, settings=None):
        """Write a store of embeddings of any origin, and open it.

        Arguments
        ---------
        folder : str or Path
            Made if need be; must hold no store.
        ids : list of str
            The utterance of each row, as trial lists name it, each once.
        embeddings : array
            [utterances, embedding_size], kept as float32.
        durations : array
            [utterances], seconds; None: not known.
        settings : dict
            Anything that JSON can hold.

        Raises
        ------
        AttnError
            The folder holds a store or cannot be written, the shapes do not
            fit, or an utterance is there twice or cannot be a line of a file.
        """
        folder = Path(folder)
        if durations is None:
            durations = np.full(len(ids), np.nan)
        embeddings = np.asarray(embeddings, dtype=np.float32)
        durations = np.asarray(durations, dtype=np.float32)
        check_ids(ids)
        if embeddings.ndim != 2 or durations.shape != (len(ids),):
            raise AttnError(
                "embeddings, durations: want [utterances, embedding_size] and "
                f"[utterances], got {embeddings.shape} and {durations.shape}."
            )
        if len(embeddings) != len(ids):
            raise AttnError(
                f"embeddings: {len(embeddings):,} rows for {len(ids):,} "
                "utterances."
            )
        if (folder / STORE_FILE).exists():
            raise AttnError(
                f"{folder}: holds a store already; give another folder, or "
                "remove it."
            )
        try:
            head = {"format": FORMAT, "settings": settings or {}}
            head = json.dumps(head, indent=2)
        except (TypeError, ValueError) as error:
            raise AttnError(
                f"settings: want what JSON can hold; {error}."
            ) from None
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_file(folder / _EMBEDDINGS, lambda f: np.save(f, embeddings))
            write_file(folder / _DURATIONS, lambda f: np.save(f, durations))
            write_text(folder / _IDS, "".join(f"{name}\n" for name in ids))
            write_text(folder / STORE_FILE, head + "\n")
        return cls.open(folder)

    @cached_property
    def _row_of(self):
        return {name: row for row, name in enumerate(self.ids)}

    def rows(self, names):
        """Row of each utterance, [names] int64.

        Raises
        ------
        AttnError
            Some are not in the store; names the first of them.
        """
        rows = [self._row_of.get(name, -1) for name in names]
        rows = np.array(rows, dtype=np.int64)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            why = "is it the store of another corpus?"
            if (self.folder / LEFT_OUT_FILE).exists():
                why = f"{LEFT_OUT_FILE} there tells which could not be read."
            raise AttnError(
                f"{self.folder}: holds no utterance {names[missing[0]]!r}; "
                f"{len(missing):,} of {len(rows):,} are missing; {why}"
            )
        return rows


_DAMAGED = "Is a file cut short? Copy the store again, or make it anew."


def read_settings(folder):
    """Settings of the finished store of a folder; None without one."""
    path = Path(folder) / STORE_FILE
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AttnError(f"{path}: cannot be read ({error}).") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise AttnError(f"{path}: is not of the format {FORMAT!r}.")
    return head.get("settings", {})


def check_ids(ids):
    """Refuse ids that are there twice, or that cannot be a line of a file."""
    seen = set()
    for name in ids:
        if name in seen:
            raise AttnError(f"utterance {name!r}: is there twice.")
        if not isinstance(name, str) or not name or "\n" in name:
            raise AttnError(
                f"utterance {name!r}: want a name on one line, text and not "
                "empty."
            )
        seen.add(name)


def _array(path, dtype, ndim, mmap_mode):
    try:
        array = np.load(path, mmap_mode=mmap_mode)  # refuses pickles
    except (OSError, ValueError, EOFError) as error:
        raise AttnError(
            f"{path}: cannot be read ({error}). {_DAMAGED}"
        ) from None
    if array.dtype != dtype or array.ndim != ndim:
        raise AttnError(
            f"{path}: want {np.dtype(dtype)} of {ndim} axes, got "
            f"{array.dtype} of shape {array.shape}."
        )
    return array


def _ids(path):
    try:
        # Names of files need not be UTF-8: their bytes come back as they were.
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
    except OSError as error:
        raise AttnError(f"{path}: cannot be read ({error}).") from None
    return text.split("\n")[:-1]


def write_text(path, text):
    """Write a text file of any file names at once, as ``write_file``."""
    body = text.encode("utf-8", errors="surrogateescape")
    write_file(path, lambda file: file.write(body))


def write_file(path, write):
    """Have ``write(file)`` fill a file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())  # a power cut must not leave an empty file
    os.replace(temporary, path)


@contextmanager
def writing(folder):
    """Turn a write that failed into an AttnError that names the folder."""
    try:
        yield
    except OSError as error:
        raise AttnError(
            f"{error.filename or folder}: cannot be written "
            f"({error.strerror or error}); make room or choose another "
            "folder, then run the same command again."
        ) from None
