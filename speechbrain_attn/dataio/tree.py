"""Utterances of a VoxCeleb-like tree, <speaker>/<session>/<utterance>."""

import hashlib
import os
import re
from typing import NamedTuple

from speechbrain_attn.dataio.shards import is_shard_folder, shard_members
from speechbrain_attn.errors import AttnError

# Where one utterance lies there in two formats, the earlier one is taken:
# the lossless ones first, and m4a, the slowest to decode, last.
AUDIO_EXTENSIONS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")

# Folders between the data folder and the speakers, as the archives of
# VoxCeleb1 and 2 unpack: wav/, dev/aac/, vox1_dev_wav/wav/, ...
_CONTAINER = re.compile(r"(wav|aac|flac|m4a|train|dev|test|vox(celeb)?[12].*)$")
_NOT_SPEAKERS = ("noise", "rir")  # SpeechBrain unpacks its noises beside them
_DEEPEST = 4  # below the speakers


class Utterance(NamedTuple):
    """One audio file of the tree; ``name`` is without its extension."""

    speaker: str
    session: str
    name: str
    path: str

    @property
    def utterance_id(self):
        """``speaker/session/name``, the ID in enrol.csv and test.csv."""
        return f"{self.speaker}/{self.session}/{self.name}"


class Tree(NamedTuple):
    """What ``find_utterances`` found in one data folder."""

    utterances: list  # of Utterance, sorted by path
    misplaced: list  # paths of audio files above or below the sessions
    fingerprint: str  # of all names, sizes and times of change


def strip_extension(name):
    """File name without its audio extension; other dots stay."""
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in AUDIO_EXTENSIONS else name


def find_utterances(folder):
    """List the utterances of a data folder, in a fixed order.

    The speakers' folders may lie in ``folder`` itself or in ``wav/``,
    ``dev/aac/`` and the like; links are followed, hidden files are not seen.
    Or ``folder`` holds tar shards, see ``shards``.

    Arguments
    ---------
    folder : str
        Data folder.

    Returns
    -------
    Tree
        Its paths are absolute and begin with ``folder`` as given.

    Raises
    ------
    AttnError
        The folder is missing or unreadable, or no audio lies at
        <speaker>/<session>/<utterance>.
    """
    folder = os.path.abspath(folder)
    if not os.path.isdir(folder):
        raise AttnError(
            f"{folder}: no such data folder; give the folder that holds "
            "<speaker>/<session>/<utterance>, or wav/ or dev/aac/ with them."
        )
    if is_shard_folder(folder):
        return _shard_tree(folder)
    utterances, misplaced, digest = [], [], hashlib.sha256()
    try:
        for level in speaker_levels(folder):
            for above, entry in _audio_files(level):
                digest.update(_fingerprint(entry).encode(errors="replace"))
                if len(above) == 2:
                    name = os.path.splitext(entry.name)[0]
                    utterances.append(Utterance(*above, name, entry.path))
                else:
                    misplaced.append(entry.path)
    except OSError as error:
        raise AttnError(
            f"{error.filename}: cannot be listed ({error.strerror}); make it "
            "readable, or move it out of the data folder."
        ) from None
    if not utterances:
        raise AttnError(_no_utterance(folder, misplaced))
    return Tree(utterances, misplaced, digest.hexdigest())


def _shard_tree(folder):
    paths, fingerprint = shard_members(folder)
    utterances = [
        Utterance(*os.path.splitext(name)[0].split("/"), path)
        for name, path in paths.items()
    ]
    return Tree(sorted(utterances), [], fingerprint)


def speaker_levels(folder):
    """Folders of a data folder that hold the speakers' folders."""
    inside = [
        entry.path
        for entry in _sorted_entries(folder)
        if _CONTAINER.match(entry.name.lower())
        and entry.is_dir()
        and not _leads_up(entry)
    ]
    if not inside:
        return [folder]
    return [level for path in inside for level in speaker_levels(path)]


def _audio_files(folder, above=()):
    """Pairs (names of the folders above, directory entry)."""
    for entry in _sorted_entries(folder):
        if entry.is_dir():
            if (
                len(above) < _DEEPEST
                and (above or entry.name not in _NOT_SPEAKERS)
                and not _leads_up(entry)
            ):
                yield from _audio_files(entry.path, (*above, entry.name))
        elif entry.name.lower().endswith(AUDIO_EXTENSIONS):
            yield above, entry


def _leads_up(entry):
    """Whether a folder is a link to one that it lies in: a walk in circles."""
    if not entry.is_symlink():
        return False
    place = os.path.realpath(os.path.dirname(entry.path))
    target = os.path.realpath(entry.path)
    return os.path.commonpath([place, target]) == target


def _sorted_entries(folder):
    with os.scandir(folder) as entries:
        # Hidden ones are no speech: macOS leaves ._00001.wav in archives.
        seen = [entry for entry in entries if entry.name[0] != "."]
    return sorted(seen, key=lambda entry: entry.name)


def _fingerprint(entry):
    try:
        status = entry.stat()
    except FileNotFoundError:  # a link to nothing: reported with the headers
        return f"{entry.path}\0missing\n"
    return f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}\n"


def _no_utterance(folder, misplaced):
    if misplaced:
        found = (
            f"{len(misplaced)} audio files elsewhere, such as {misplaced[0]}"
        )
    else:
        names = [entry.name for entry in _sorted_entries(folder)]
        found = f"no audio file; the folder holds {', '.join(names[:8])}" + (
            ", ..." if len(names) > 8 else "" if names else "nothing"
        )
    return (
        f"{folder}: no audio at <speaker>/<session>/<utterance> "
        f"({', '.join(AUDIO_EXTENSIONS)}), neither in it nor in its wav/, "
        f"dev/aac/, test/wav/ and the like. Found {found}. Unpack the "
        "archives, or give the folder above the speakers."
    )


def merge_utterances(trees):
    """Utterances of several data folders by their ids.

    Arguments
    ---------
    trees : list of Tree

    Returns
    -------
    utterances : dict
        Utterance id to Utterance.
    spare : list
        Pairs (path not taken, path taken) of one utterance in two formats.

    Raises
    ------
    AttnError
        Two files would have the same id.
    """
    utterances, spare = {}, []
    for utterance in (item for tree in trees for item in tree.utterances):
        key = utterance.utterance_id
        other = utterances.setdefault(key, utterance)
        if other is utterance:
            continue
        first, second = sorted((other, utterance), key=_preference)
        if _preference(first) == _preference(second):
            raise AttnError(
                f"{other.path} and {utterance.path}: both would be utterance "
                f"'{key}'. Give each data folder once, and rename or remove "
                "one of the two files."
            )
        utterances[key] = first
        spare.append((second.path, first.path))
    return utterances, spare


def _preference(utterance):
    extension = os.path.splitext(utterance.path)[1].lower()
    return AUDIO_EXTENSIONS.index(extension)
