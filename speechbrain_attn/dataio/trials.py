"""Lists of verification trials as arrays of integers."""

import os
from dataclasses import dataclass

import numpy as np

from speechbrain_attn.dataio.tree import (
    AUDIO_EXTENSIONS,
    speaker_levels,
    strip_extension,
)
from speechbrain_attn.errors import AttnError


@dataclass(frozen=True)
class Trials:
    """Pairs of utterances, each a target (same speaker) or a nontarget.

    Arguments
    ---------
    path : str
        The list, as named in messages.
    utterances : list of str
        Every utterance once, in order of first appearance; no extension.
    enrol, test : numpy.ndarray
        [trials] int32, indices into ``utterances``.
    labels : numpy.ndarray
        [trials] bool, True for targets.
    """

    path: str
    utterances: list
    enrol: np.ndarray
    test: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def line_of(self, utterance):
        """Number of the first line that names an utterance, from 1."""
        index = self.utterances.index(utterance)
        named = (self.enrol == index) | (self.test == index)
        return int(named.argmax()) + 1


def trials_from_file(path):
    """Read a trial list in VoxCeleb's format, ``1 enrol.wav test.wav``.

    The label comes first, 1 for the same speaker and 0 for two speakers.
    Utterances may be written with or without an extension; it is dropped, so
    that ``a.wav`` and ``a`` are one utterance.

    Arguments
    ---------
    path : str or Path
        Text file, one trial a line.

    Returns
    -------
    Trials

    Raises
    ------
    AttnError
        The file cannot be read, a line is malformed, or all trials are of
        one kind. The message names file, line and value.

    Example
    -------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/trials.txt"
    >>> with open(path, "w") as file:
    ...     _ = file.write("1 a/1.wav a/2.wav\\n0 a/1.wav b/1.wav\\n")
    >>> trials = trials_from_file(path)
    >>> trials.utterances, trials.test
    (['a/1', 'a/2', 'b/1'], array([1, 2], dtype=int32))
    """
    index = {}
    labels, pairs = [], []
    for number, line in enumerate(_lines(path), start=1):
        label, *names = _fields(line, path, number)
        labels.append(label)
        for name in names:
            pairs.append(index.setdefault(name, len(index)))
    labels = np.array(labels, dtype=bool)
    targets = int(labels.sum())
    if targets in (0, len(labels)):
        raise AttnError(
            f"{path} line {len(labels)}: the list ends here with {targets} "
            f"targets and {len(labels) - targets} nontargets, and a list "
            "needs both kinds. Is the file cut short?"
        )
    pairs = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return Trials(str(path), list(index), pairs[:, 0], pairs[:, 1], labels)


def trial_files(trials, data_folder):
    """Find the audio file of each utterance of a list.

    A name counts from a data folder itself, or from its ``wav/``,
    ``dev/aac/``, ``test/wav/`` and the like; the tree is not walked.

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
    folders = [str(data_folder)]
    if not os.path.isdir(data_folder):  # its name may hold a comma
        folders = [folder.strip() for folder in folders[0].split(",")]
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
    files = {}
    for utterance in trials.utterances:
        places = (
            os.path.join(root, utterance + extension)
            for extension in AUDIO_EXTENSIONS
            for root in roots
        )
        files[utterance] = next(filter(os.path.isfile, places), None)
    missing = [utterance for utterance in files if files[utterance] is None]
    if missing:
        raise AttnError(
            f"{trials.path} line {trials.line_of(missing[0])}: no audio file "
            f"for utterance {missing[0]!r} in {', '.join(roots)} "
            f"({', '.join(AUDIO_EXTENSIONS)}); {len(missing):,} of "
            f"{len(files):,} are missing. Is this the list of another corpus?"
        )
    return files


def _lines(path):
    """Lines of a text file, without the empty ones at its end."""
    if "://" in str(path):
        raise AttnError(
            f"trial list {path}: nothing is downloaded here; fetch it first "
            f"(curl -O {path}) and give the file."
        )
    try:
        # utf-8-sig: some editors begin a file with a byte order mark.
        with open(path, encoding="utf-8-sig") as file:
            return file.read().rstrip().split("\n")
    except OSError as error:
        raise AttnError(
            f"trial list {path}: cannot be read ({error.strerror}); check the "
            "path."
        ) from None
    except UnicodeDecodeError as error:
        raise AttnError(
            f"trial list {path}: is not a text file ({error.reason} at byte "
            f"{error.start})."
        ) from None


def _fields(line, path, number):
    """Label and the two utterances of one line."""
    fields = line.split()
    if len(fields) != 3:
        raise AttnError(
            f'{path} line {number}: want "label enrolment test", got '
            f'{len(fields)} fields ("{line.strip()}"). Is the file cut short?'
        )
    label, enrol, test = fields
    if label not in ("0", "1"):
        raise AttnError(
            f"{path} line {number}: want the label 0 or 1 first, got "
            f'{label!r} ("{line.strip()}").'
        )
    return label == "1", strip_extension(enrol), strip_extension(test)
