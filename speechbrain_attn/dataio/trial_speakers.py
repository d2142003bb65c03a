"""Speakers of the utterances and models of a trial list."""

import os
import re

import numpy as np

from speechbrain_attn.dataio.lines import line_blocks
from speechbrain_attn.dataio.tree import strip_extension
from speechbrain_attn.errors import AttnError

_HOW = 'Give utt2spk, a file of lines "utterance speaker" or a dict.'


def number_speakers(trials, utt2spk=None):
    """Number the speakers of a list; see ``Trials.speakers``."""
    if utt2spk is not None:
        source, speakers = _from_map(trials, utt2spk)
        numbers = _numbered(trials, speakers)
        problem = _disagreement(trials, numbers, speakers)
        if problem:
            _refuse_conflicting(trials)
            raise AttnError(f"{problem}, by {source}. Mend one of the two.")
        return numbers
    problems = []
    for name_of in (_before_first, _folder_of_session):
        speakers = [name_of(name) for name in trials.utterances]
        numbers = _numbered(trials, speakers)
        problem = _disagreement(trials, numbers, speakers)
        if not problem:
            return numbers
        problems.append(problem)
    _refuse_conflicting(trials)
    raise AttnError(
        f"{problems[0]}, when taken from the utterances' names. {_HOW}"
    )


def _refuse_conflicting(trials):
    """Say so where no speakers can agree with a list's labels."""
    count = trials.counts().conflicting
    if count:
        raise AttnError(
            f"{trials.path}: {count:,} pairs of utterances are targets in one "
            "line and nontargets in another. Leave the wrong lines out."
        )


def speaker_names(utterances, utt2spk=None):
    """Speaker of each utterance of any list, by name.

    Arguments
    ---------
    utterances : list of str
        Without extension.
    utt2spk : dict or str or Path or None
        As for ``Trials.speakers``. Without it a name of three parts or more
        ends in ``<speaker>/<session>/<utterance>``, and a shorter one begins
        with the speaker.

    Returns
    -------
    list of str

    Raises
    ------
    AttnError
        The map cannot be read, or lacks an utterance.

    Example
    -------
    >>> speaker_names(["wav/id1/x/1", "id2-x-1"])
    ['id1', 'id2']
    """
    if utt2spk is None:
        return [_folder_of_session(name) for name in utterances]
    speaker_of = _speaker_of(utt2spk)
    missing = [name for name in utterances if name not in speaker_of]
    if missing:
        raise AttnError(
            f"utt2spk: utterance {missing[0]!r} is not there; "
            f"{len(missing):,} of {len(utterances):,} are missing."
        )
    return [speaker_of[name] for name in utterances]


def _before_first(name):
    """``id1`` of ``id1/x/1``, ``id1-x-1`` and ``id1_x_1``."""
    folder, slash, _ = name.partition("/")
    return folder if slash else re.split("[-_]", name, maxsplit=1)[0]


def _folder_of_session(name):
    """``id1`` of ``wav/id1/x/1``."""
    return name.split("/")[-3] if name.count("/") > 1 else _before_first(name)


def _from_map(trials, utt2spk):
    """Where the speakers are from, for messages, and those of utterances."""
    is_file = isinstance(utt2spk, (str, os.PathLike))
    source = f"speaker map {utt2spk}" if is_file else "utt2spk"
    speaker_of = _speaker_of(utt2spk)
    names = trials.utterances
    missing = [name for name in names if name not in speaker_of]
    if missing:
        raise AttnError(
            f"{trials.place_of(missing[0])}: utterance {missing[0]!r} is not "
            f"in {source}; {len(missing):,} of {len(names):,} are missing."
        )
    return source, [speaker_of[name] for name in names]


def _speaker_of(utt2spk):
    """Utterance, without its extension, to speaker; of a dict or a file."""
    if isinstance(utt2spk, (str, os.PathLike)):
        return _read_utt2spk(utt2spk)
    return {strip_extension(name): utt2spk[name] for name in utt2spk}


def _read_utt2spk(path):
    speaker_of = {}
    for first, body in line_blocks(path, "speaker map"):
        # As bytes: names may hold what is a blank or a line's end in Unicode.
        for number, line in enumerate(body.splitlines(), start=first):
            fields = [field.decode() for field in line.split()]
            if len(fields) != 2:
                raise AttnError(
                    f'{path} line {number}: want "utterance speaker", got '
                    f'{len(fields)} fields ("{line.decode().strip()}").'
                )
            name, speaker = strip_extension(fields[0]), fields[1]
            if speaker_of.setdefault(name, speaker) != speaker:
                raise AttnError(
                    f"{path} line {number}: utterance {name!r} is of speaker "
                    f"{speaker!r} here and of {speaker_of[name]!r} before."
                )
    return speaker_of


def _numbered(trials, speakers):
    """[rows] int32: the utterances' speakers, then the models'."""
    index = {}
    numbers = np.fromiter(
        (index.setdefault(speaker, len(index)) for speaker in speakers),
        np.int32,
        len(speakers),
    )
    if trials.enrolment:
        first = trials.enrolment.members[trials.enrolment.bounds[:-1]]
        numbers = np.concatenate([numbers, numbers[first]])
    return numbers


def _disagreement(trials, numbers, speakers):
    """Where speakers and labels contradict each other, or None."""
    if trials.enrolment:
        model = trials.enrolment.model_of_member
        rows = trials.enrolment.members
        num_utterances = len(trials.utterances)
        wrong = np.flatnonzero(numbers[rows] != numbers[num_utterances + model])
        if len(wrong):
            number = model[wrong[0]]
            first = rows[trials.enrolment.bounds[number]]
            return (
                f"{trials.enrolment.path} line "
                f"{trials.enrolment.lines[number]}: model "
                f"{trials.models[number]!r} has utterances of the speakers "
                f"{speakers[first]!r} and {speakers[rows[wrong[0]]]!r}"
            )
    same = numbers[trials.enrol] == numbers[trials.test]
    wrong = np.flatnonzero(same != trials.labels)
    if not len(wrong):
        return None
    names = trials.names
    enrol, test = trials.enrol[wrong[0]], trials.test[wrong[0]]
    kinds = ("nontarget, with one speaker", "target, with two speakers")
    return (
        f"{trials.path} line {wrong[0] + 1}: {names[enrol]!r} and "
        f"{names[test]!r} are a {kinds[int(trials.labels[wrong[0]])]} "
        f"({len(wrong):,} of {len(trials):,} trials are like that)"
    )
