"""The SQLite file of a registry: how it is made, opened and changed."""

import sqlite3
from contextlib import contextmanager
from typing import NamedTuple

from speechbrain_attn.errors import AttnError

FILE = "registry.sqlite"
# Seconds to wait for another process; a change takes milliseconds.
WAIT_S = 60
_APPLICATION = int.from_bytes(b"SbAt", "big")  # which program's file it is
_VERSION = 1
_TABLES = (
    # One row: what all embeddings here have in common.
    """CREATE TABLE registry (
        model_sha256 TEXT NOT NULL,
        embedding_size INTEGER NOT NULL,
        uuid TEXT NOT NULL,
        revision INTEGER NOT NULL
    )""",
    # AUTOINCREMENT: the id of a removed speaker never comes back, so that an
    # index that still holds it leads to nobody.
    """CREATE TABLE speakers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        changed INTEGER NOT NULL,
        voice BLOB NOT NULL
    )""",
    "CREATE INDEX speakers_changed ON speakers (changed)",
    """CREATE TABLE utterances (
        speaker INTEGER NOT NULL,
        embedding BLOB NOT NULL
    )""",
    "CREATE INDEX utterances_speaker ON utterances (speaker)",
    "CREATE TABLE cohort (embedding BLOB NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_NUM_TABLES = "SELECT count(*) FROM sqlite_master"


class Head(NamedTuple):
    """What all embeddings of a registry have in common."""

    model_sha256: str
    embedding_size: int
    uuid: str  # of this registry, for what is derived from its data


def make(folder, head):
    """Make the file of a folder, unless it is there."""
    database = _connected(folder, "rwc")
    try:
        # Locked before it looks: another process may be about to make it.
        with transaction(folder, database, "IMMEDIATE"):
            if database.execute(_NUM_TABLES).fetchone() == (0,):
                for statement in _TABLES:
                    database.execute(statement)
                database.execute(
                    "INSERT INTO registry VALUES (?, ?, ?, 0)", head
                )
    finally:
        database.close()


def opened(folder):
    """Connection to the file of a folder, and its ``Head``.

    Raises AttnError if there is none, or it is damaged or something else.
    """
    if not (folder / FILE).is_file():
        raise _missing(folder)
    database = _connected(folder, "rw")
    try:
        with transaction(folder, database, "DEFERRED"):
            if database.execute(_NUM_TABLES).fetchone() == (0,):
                raise _missing(folder)  # killed before it was made
            found = tuple(
                database.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            )
            if found != (_APPLICATION, _VERSION):
                raise AttnError(
                    f"{folder / FILE}: is no registry of version {_VERSION}; "
                    "was it made by another release, or another program?"
                )
            columns = ", ".join(Head._fields)
            row = database.execute(f"SELECT {columns} FROM registry")
            return database, Head(*row.fetchone())
    except BaseException:
        database.close()
        raise


def _connected(folder, mode):
    path = folder / FILE
    with told(folder):
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=WAIT_S,
            isolation_level=None,  # a transaction begins where BEGIN stands
        )
    # What is removed is overwritten with zeros.
    database.execute("PRAGMA secure_delete = ON")
    return database


@contextmanager
def transaction(folder, database, kind):
    """Do all of the block, or undo it.

    ``kind`` is "DEFERRED" to read, "IMMEDIATE" to write: to turn from a
    reader into a writer could mean to wait for another who does the same.
    """
    with told(folder):
        database.execute(f"BEGIN {kind}")
        try:
            yield
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")


@contextmanager
def told(folder):
    """Turn an error of SQLite into one that says what to do."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a fault of ours, such as the use of a closed file
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise AttnError(
                f"{folder}: another process has been changing this registry "
                f"for {WAIT_S} s; try again when it has ended."
            ) from None
        raise AttnError(
            f"{folder / FILE}: {error}. Is there room on the disk, and may "
            "you write there?"
        ) from None
    except sqlite3.DatabaseError as error:
        raise damaged(folder, error) from None


def damaged(folder, reason):
    """The error that says so."""
    return AttnError(
        f"{folder / FILE}: is damaged ({reason}). Put a copy in its place, or "
        "enrol again into another folder."
    )


def _missing(folder):
    what = "holds no registry" if folder.is_dir() else "folder not found"
    return AttnError(
        f"{folder}: {what}. `speechbrain-attn enroll NAME FILES... --registry "
        f"{folder}` makes one."
    )
