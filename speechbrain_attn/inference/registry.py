"""Enrolled voices on disk, changed and read by any number of processes."""

import sqlite3
import unicodedata
import uuid
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.inference.registry_file import (
    Head,
    damaged,
    make,
    opened,
    told,
    transaction,
)
from speechbrain_attn.scoring.rows import (
    blocks,
    checked_embeddings,
    same_size,
    unit_rows,
)
from speechbrain_attn.scoring.store import writing

_BLOCK = 4096  # voices read at a time
_FEW = 500  # ids in a query; SQLite takes 999 at least


class Speaker(NamedTuple):
    """An enrolled speaker."""

    name: str
    utterances: int


class Registry:
    """Enrolled voices of one model in a folder; see ``open`` and ``create``.

    The voice of a speaker is the mean of the embeddings of all utterances,
    each brought to unit length first, and is of unit length itself. All lies
    in one SQLite file. A change is one transaction: it is there whole or not
    at all, whenever a process is killed, and writers wait for one another.
    What is removed is overwritten with zeros. An object belongs to the thread
    that made it; close it, or use it in a ``with`` statement.

    Example
    -------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with Registry.create(folder, "hash of a model", 3) as registry:
    ...     _ = registry.add(["anna", "anna", "ben"], np.eye(3))
    ...     registry.speakers()
    [Speaker(name='anna', utterances=2), Speaker(name='ben', utterances=1)]
    """

    def __init__(self, folder, database, model_sha256, embedding_size, uuid):
        self.folder = folder
        self.model_sha256 = model_sha256
        self.embedding_size = embedding_size
        self.uuid = uuid  # of these very data, for what is derived from them
        self._database = database

    @classmethod
    def open(cls, folder, model_sha256=None):
        """The registry of a folder.

        Arguments
        ---------
        folder : str or Path
        model_sha256 : str
            ``fingerprint.network_sha256`` of the model whose embeddings are
            to be compared; None where there are none.

        Raises
        ------
        AttnError
            There is no registry, it is damaged, or its voices are of another
            model.
        """
        folder = Path(folder)
        database, row = opened(folder)
        if model_sha256 not in (None, row.model_sha256):
            database.close()
            raise AttnError(
                f"{folder}: holds voices of another model (fingerprint "
                f"{row.model_sha256[:12]}, this one has {model_sha256[:12]}), "
                "and embeddings of two models cannot be compared. Give the "
                "model that enrolled them, or enrol all again into another "
                "folder."
            )
        return cls(folder, database, *row)

    @classmethod
    def create(cls, folder, model_sha256, embedding_size):
        """The registry of a folder, which is made if there is none.

        Arguments
        ---------
        folder, model_sha256
            As for ``open``.
        embedding_size : int

        Raises
        ------
        AttnError
            As ``open``, or the folder cannot be written.
        """
        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        make(folder, Head(model_sha256, embedding_size, uuid.uuid4().hex))
        return cls.open(folder, model_sha256)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Let go of the file; changes are safe without it."""
        self._database.close()

    def __len__(self):
        """Enrolled speakers."""
        return self.num_voices()

    def refuse_empty(self):
        """Raise an AttnError if nobody is enrolled."""
        if not len(self):
            raise AttnError(
                f"{self.folder}: nobody is enrolled; `speechbrain-attn enroll "
                f"NAME FILES... --registry {self.folder}` does it."
            )

    def add(self, names, embeddings):
        """Enrol utterances, of new speakers or of known ones.

        An embedding that its speaker has already is not taken twice, so the
        same call may be made again after a kill. All are added, or none.

        Arguments
        ---------
        names : list of str
            The speaker of each row; printable and on one line.
        embeddings : numpy.ndarray
            [utterances, embedding_size].

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        AttnError
            A name is empty or not printable, the shapes do not fit, an
            embedding is zero or not finite, or those of a speaker cancel out.
        """
        names = [checked_name(name) for name in names]
        unit = self.unit_embeddings(embeddings)
        if len(names) != len(unit):
            raise AttnError(
                f"names: got {len(names):,} for {len(unit):,} embeddings; "
                "want the speaker of each."
            )
        rows_of = {}
        for row, name in enumerate(names):
            rows_of.setdefault(name, []).append(row)
        with self._changing() as revision:
            return sum(
                self._add_to(name, unit[rows], revision)
                for name, rows in rows_of.items()
            )

    def _add_to(self, name, unit, revision):
        """Add utterances to one speaker; returns how many were new."""
        found = self._rows("SELECT id FROM speakers WHERE name = ?", name)
        query = "SELECT embedding FROM utterances WHERE speaker = ?"
        old = (
            [blob for (blob,) in self._rows(query, *found[0])] if found else []
        )
        new = dict.fromkeys(row.tobytes() for row in unit)
        new = [blob for blob in new if blob not in old]
        if not new:
            return 0
        mean = self._array([*old, *new]).mean(0, dtype=np.float64)
        (voice,) = unit_rows(mean[None], f"mean of {name!r}")
        if not found:
            speaker = self._database.execute(
                "INSERT INTO speakers (name, changed, voice) VALUES (?, ?, ?)",
                (name, revision, voice.tobytes()),
            ).lastrowid
        else:
            speaker = found[0][0]
            self._database.execute(
                "UPDATE speakers SET changed = ?, voice = ? WHERE id = ?",
                (revision, voice.tobytes(), speaker),
            )
        self._database.executemany(
            "INSERT INTO utterances VALUES (?, ?)",
            ((speaker, blob) for blob in new),
        )
        return len(new)

    def remove(self, name):
        """Remove a speaker and all that is known of the voice.

        An index of a large registry keeps a coarse code of it, without a
        name, until it is made anew. Raises AttnError on an unknown name.
        """
        with self._changing():
            speaker = self._id_of(name)
            for query in (
                "DELETE FROM utterances WHERE speaker = ?",
                "DELETE FROM speakers WHERE id = ?",
            ):
                self._database.execute(query, (speaker,))

    def rename(self, name, new_name):
        """Give a speaker another name.

        Raises AttnError if the speaker is unknown, or the new name is taken
        or no name.
        """
        new_name = checked_name(new_name)
        with self._changing():
            speaker = self._id_of(name)
            try:
                self._database.execute(
                    "UPDATE speakers SET name = ? WHERE id = ?",
                    (new_name, speaker),
                )
            except sqlite3.IntegrityError:
                raise AttnError(
                    f"{self.folder}: has a speaker {new_name!r} already; "
                    "choose another name, or remove that speaker first."
                ) from None

    def _id_of(self, name):
        name = checked_name(name)
        found = self._rows("SELECT id FROM speakers WHERE name = ?", name)
        if found:
            return found[0][0]
        names = [one for one, _ in self._speakers()]
        close = get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]!r}?" if close else "`list` shows all."
        raise AttnError(
            f"{self.folder}: has no speaker {name!r} among {len(names):,}; "
            f"{hint}"
        )

    def speakers(self):
        """List of ``Speaker``, by name."""
        return [Speaker(*row) for row in self._speakers()]

    def _speakers(self):
        return self._rows(
            "SELECT name, (SELECT count(*) FROM utterances "
            "WHERE speaker = speakers.id) FROM speakers ORDER BY name"
        )

    def set_cohort(self, embeddings):
        """Keep embeddings of people who are not enrolled, for thresholds.

        They take the place of earlier ones. ``embeddings`` [utterances,
        embedding_size], best one of each person; none removes the cohort.
        """
        unit = self.unit_embeddings(embeddings)
        with self._changing():
            self._database.execute("DELETE FROM cohort")
            self._database.executemany(
                "INSERT INTO cohort VALUES (?)",
                ((row.tobytes(),) for row in unit),
            )

    def cohort(self):
        """Unit embeddings of the cohort, [utterances, embedding_size]."""
        found = self._rows("SELECT embedding FROM cohort")
        return self._array([blob for (blob,) in found])

    def unit_embeddings(self, embeddings):
        """Embeddings as unit rows of the size of this registry."""
        embeddings = checked_embeddings(embeddings)
        here = f"the registry {self.folder}"
        same_size(embeddings, self.embedding_size, "embeddings", here)
        return unit_rows(embeddings)

    @contextmanager
    def reading(self):
        """Keep what is read in the block of one state; gives its revision.

        Writers wait for its end: keep it short.
        """
        with transaction(self.folder, self._database, "DEFERRED"):
            yield self._revision()

    @contextmanager
    def _changing(self):
        """A change, whole or not at all; gives the revision that it makes."""
        with transaction(self.folder, self._database, "IMMEDIATE"):
            query = "UPDATE registry SET revision = revision + 1"
            self._database.execute(query)
            yield self._revision()

    def _revision(self):
        return self._rows("SELECT revision FROM registry")[0][0]

    def num_voices(self, until=None):
        """Enrolled speakers; of those unchanged after revision ``until``."""
        query = "SELECT count(*) FROM speakers INDEXED BY speakers_changed"
        if until is None:
            return self._rows(query)[0][0]
        return self._rows(f"{query} WHERE changed <= ?", until)[0][0]

    def ids(self):
        """Ids of all voices, [voices] int64."""
        query = "SELECT id FROM speakers INDEXED BY speakers_changed"
        return np.array(self._rows(query), dtype=np.int64).reshape(-1)

    def voices(self):
        """Yield all voices in blocks, ([block] ids, [block, size] float32).

        Within ``reading`` they are of one state. Outside of it no writer has
        to wait, and each is as it was when its block was read.
        """
        query = (
            "SELECT id, voice FROM speakers WHERE id > ? ORDER BY id LIMIT ?"
        )
        found = self._rows(query, -1, _BLOCK)
        while found:
            yield self._ids_and_voices(found)
            found = self._rows(query, found[-1][0], _BLOCK)

    def voices_since(self, revision):
        """Those that changed after a revision, as ``voices`` yields them."""
        query = "SELECT id, voice FROM speakers WHERE changed > ?"
        return self._ids_and_voices(self._rows(query, revision))

    def voices_of(self, ids):
        """Voices of some ids, without those that are no more.

        Returns
        -------
        names : list of str
        ids : numpy.ndarray
            [found] int64.
        voices : numpy.ndarray
            [found, embedding_size] float32.
        """
        found = []
        for part in blocks(len(ids), _FEW):
            some = [int(one) for one in ids[part]]
            marks = ",".join("?" * len(some))
            query = (
                f"SELECT id, voice, name FROM speakers WHERE id IN ({marks})"
            )
            found += self._rows(query, *some)
        return [name for *_, name in found], *self._ids_and_voices(found)

    def _rows(self, query, *values):
        with told(self.folder):
            return self._database.execute(query, values).fetchall()

    def _ids_and_voices(self, found):
        ids = np.array([row[0] for row in found], dtype=np.int64)
        return ids, self._array([row[1] for row in found])

    def _array(self, blobs):
        try:
            flat = np.frombuffer(b"".join(blobs), dtype=np.float32)
            return flat.reshape(len(blobs), self.embedding_size)
        except ValueError:
            raise damaged(self.folder, "an embedding is cut short") from None


def checked_name(name):
    """A speaker's name in one spelling (NFC).

    Raises AttnError where it is empty, begins or ends with a blank, or holds
    what cannot be printed on a line.

    Example
    -------
    >>> checked_name("Zoe\u0308") == checked_name("Zo\u00eb")
    True
    """
    if not isinstance(name, str) or not name.strip():
        raise AttnError(f"speaker {name!r}: want a name, not empty.")
    if not name.isprintable() or name != name.strip():
        raise AttnError(
            f"speaker {name!r}: want a name on one line, of characters that "
            "can be printed, without blanks around it."
        )
    return unicodedata.normalize("NFC", name)
