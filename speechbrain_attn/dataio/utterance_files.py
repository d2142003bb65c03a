"""Which utterances a script is to embed, and where their files lie."""

import csv
import os
from typing import NamedTuple

from speechbrain_attn.dataio.tree import (
    find_utterances,
    merge_utterances,
    strip_extension,
)
from speechbrain_attn.dataio.trials import trial_files, trials_from_file
from speechbrain_attn.errors import AttnError


class UtteranceList(NamedTuple):
    """Names of a text file, one a line, as ``trial_files`` looks them up."""

    path: str
    utterances: list

    def place_of(self, utterance):
        """Where the file names an utterance, for messages."""
        return f"{self.path} (utterance {self.utterances.index(utterance) + 1})"


def utterance_files(data_folder, verification_file=None, files=None):
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
        ``wav`` column counts; goes before the trial list. Without either, all
        utterances of the tree.

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
        return _manifest_files(files)
    if files is not None:
        return trial_files(_utterance_list(files), data_folder)
    if verification_file is not None:
        return trial_files(trials_from_file(verification_file), data_folder)
    folders = [str(data_folder)]
    if not os.path.isdir(data_folder):  # its name may hold a comma
        folders = [folder.strip() for folder in folders[0].split(",")]
    utterances, _ = merge_utterances([find_utterances(f) for f in folders])
    return {name: utterance.path for name, utterance in utterances.items()}


def _utterance_list(path):
    lines = _text(path).splitlines()
    names = [strip_extension(line.strip()) for line in lines if line.strip()]
    if not names:
        raise AttnError(f"{path}: names no utterance.")
    return UtteranceList(str(path), list(dict.fromkeys(names)))


def _manifest_files(path):
    """{speaker/session/name: path}; the chunks of one file count once."""
    rows = csv.DictReader(_text(path).splitlines())
    if "wav" not in (rows.fieldnames or ()):
        raise AttnError(
            f"{path}: has no column 'wav'; want a manifest as "
            "voxceleb_prepare.py writes it."
        )
    files = {}
    for row in rows:
        wav = row["wav"] or ""
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
