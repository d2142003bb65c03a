"""Which utterances a script is to embed, and where their files lie."""

import csv
import os
from typing import NamedTuple

from speechbrain_attn.dataio.shards import is_shard_folder, shard_members
from speechbrain_attn.dataio.tree import (
    AUDIO_EXTENSIONS,
    find_utterances,
    merge_utterances,
    speaker_levels,
    strip_extension,
)
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError


class UtteranceList(NamedTuple):
    """Names of a text file, one a line, as ``trial_files`` looks them up."""

    path: str
    utterances: list

    def place_of(self, utterance):
        """Where the file names an utterance, for messages."""
        return f"{self.path} (utterance {self.utterances.index(utterance) + 1})"


def utterance_files(
    data_folder, verification_file=None, files=None, enrol_map=None
):
    """Find the files of a list, of a manifest or of a whole corpus.

    An utterance is named as trial lists name it: by its path below the
    speakers' folder, or as the list has it, without the extension.

    Arguments
    ---------
    data_folder : str or Path
        VoxCeleb-like tree; several joined by commas.
    verification_file : str or Path
        Trial list: the utterances that it names.
    files : str or Path
        Text file with an utterance a line, or a manifest (``.csv``), whose
        ``wav`` column counts, with the data folder for ``$data_root``; goes
        before the trial list. Without either, all utterances of the tree.
    enrol_map : str or Path
        Lines ``model utterance ...``, of a trial list that names models.

    Returns
    -------
    dict
        Utterance -> path.

    Raises
    ------
    AttnError
        A list or folder cannot be read, or an utterance has no file.
    """
    if files is not None and str(files).endswith(".csv"):
        return _manifest_files(files, data_folder)
    if files is not None:
        return trial_files(_utterance_list(files), data_folder)
    if verification_file is not None:
        trials = trials_from_file(verification_file, enrol_map)
        return trial_files(trials, data_folder)
    trees = [find_utterances(folder) for folder in _folders(data_folder)]
    utterances, _ = merge_utterances(trees)
    return {name: utterance.path for name, utterance in utterances.items()}


def trial_files(trials, data_folder):
    """Find the audio file of each utterance of a list.

    A name counts from a data folder itself, or from its ``wav/``,
    ``dev/aac/``, ``test/wav/`` and the like; the tree is not walked. In a
    folder of shards its last three parts count.

    Arguments
    ---------
    trials : Trials
    data_folder : str or Path
        One folder, or several joined by commas.

    Returns
    -------
    dict
        Utterance -> path.

    Raises
    ------
    AttnError
        A folder or a file is missing; names the list and line.
    """
    folders = _folders(data_folder)
    for folder in folders:
        if not os.path.isdir(folder):
            raise AttnError(f"{folder}: no such data folder.")
    try:
        levels = [level for one in folders for level in speaker_levels(one)]
    except OSError as error:
        raise AttnError(
            f"{error.filename}: cannot be listed ({error.strerror})."
        ) from None
    roots = dict.fromkeys(folders + levels)
    members = {}
    for folder in filter(is_shard_folder, folders):
        for name, path in shard_members(folder)[0].items():
            members.setdefault(strip_extension(name), path)
    files = {}
    for utterance in trials.utterances:
        places = (
            os.path.join(root, utterance + extension)
            for extension in AUDIO_EXTENSIONS
            for root in roots
        )
        member = members.get("/".join(utterance.split("/")[-3:]))
        files[utterance] = next(filter(os.path.isfile, places), member)
    missing = [utterance for utterance in files if files[utterance] is None]
    if missing:
        raise AttnError(
            f"{trials.place_of(missing[0])}: no audio file "
            f"for utterance {missing[0]!r} in {', '.join(roots)} "
            f"({', '.join(AUDIO_EXTENSIONS)}); {len(missing):,} of "
            f"{len(files):,} are missing. Is this the list of another corpus?"
        )
    return files


def _folders(data_folder):
    """Folders of an option that may join several by commas."""
    if os.path.isdir(data_folder):  # its name may hold a comma
        return [str(data_folder)]
    return [folder.strip() for folder in str(data_folder).split(",")]


def _utterance_list(path):
    lines = _text(path).splitlines()
    names = [strip_extension(line.strip()) for line in lines if line.strip()]
    if not names:
        raise AttnError(f"{path}: names no utterance.")
    return UtteranceList(str(path), list(dict.fromkeys(names)))


def _manifest_files(path, data_folder):
    """{speaker/session/name: path}; the chunks of one file count once."""
    rows = csv.DictReader(_text(path).splitlines())
    if "wav" not in (rows.fieldnames or ()):
        raise AttnError(
            f"{path}: has no column 'wav'; want a manifest as "
            "voxceleb_prepare.py writes it."
        )
    files = {}
    for row in rows:
        wav = (row["wav"] or "").replace("$data_root", str(data_folder))
        name = strip_extension("/".join(wav.split(os.sep)[-3:]))
        if not name or files.setdefault(name, wav) != wav:
            raise AttnError(
                f"{path} line {rows.line_num}: utterance {name!r} cannot be "
                f"both {wav} and {files.get(name)}."
            )
    return files


def _text(path):
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise AttnError(f"{path}: cannot be read ({error}).") from None
