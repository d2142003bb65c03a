"""Embeddings out of stores, for the rows of trial lists and for a cohort."""

from typing import NamedTuple

import numpy as np

from speechbrain_attn.dataio.trial_speakers import speaker_names
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.normalisation import shared_speakers
from speechbrain_attn.scoring.rows import same_size
from speechbrain_attn.scoring.systems import TrialEmbeddings


class ListedTrials(NamedTuple):
    """A trial list and whose voices are in it.

    ``speakers`` [rows] are numbers, ``names`` the set of the speakers.
    """

    trials: object
    speakers: np.ndarray
    names: set


class Cohort(NamedTuple):
    """Utterances to compare with and to train on.

    ``name`` is for people; ``embeddings`` [utterances, embedding_size];
    ``speakers`` [utterances] names.
    """

    name: str
    embeddings: np.ndarray
    speakers: np.ndarray


def read_list(path, options):
    """Read a trial list, and refuse one whose speakers cannot be told.

    Arguments
    ---------
    path : str or Path
    options : ScoringOptions

    Returns
    -------
    ListedTrials

    Raises
    ------
    AttnError
        As ``trials_from_file`` and ``Trials.speakers``.
    """
    trials = trials_from_file(path, options.enrol_map)
    speakers = trials.speakers(options.utt2spk)
    names = speaker_names(trials.utterances, options.utt2spk)
    return ListedTrials(trials, speakers, set(names))


def trial_embeddings(listed, stores):
    """Embeddings of the rows of a trial list.

    Arguments
    ---------
    listed : ListedTrials
    stores : list of EmbeddingStore
        Together they hold every utterance of the list.

    Returns
    -------
    TrialEmbeddings

    Raises
    ------
    AttnError
        An utterance is in none of the stores, or their sizes differ.
    """
    trials = listed.trials
    folders = " and ".join(str(store.folder) for store in stores)
    ids = [name for store in stores for name in store.ids]
    rows = trials.rows_among(ids, folders)
    embeddings, durations = _gather(stores, rows)
    norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    if trials.enrolment:
        members, bounds = trials.enrolment.members, trials.enrolment.bounds
        # A model is as loud as its utterances are, and as long as them all.
        sums = [
            np.add.reduceat(values[members], bounds[:-1])
            for values in (norms, durations)
        ]
        norms = np.append(norms, sums[0] / np.diff(bounds))
        durations = np.append(durations, sums[1])
    return TrialEmbeddings(
        trials.with_models(embeddings),
        trials.enrol,
        trials.test,
        trials.labels,
        listed.speakers,
        norms,
        None if np.isnan(durations).any() else durations,
    )


def _gather(stores, rows):
    """Embeddings and seconds of rows that count through several stores."""
    size = stores[0].embeddings.shape[1]
    embeddings = np.empty((len(rows), size), dtype=np.float32)
    durations = np.empty(len(rows), dtype=np.float32)
    first = 0
    for store in stores:
        same_size(store.embeddings, size, store.folder, stores[0].folder)
        mine = (rows >= first) & (rows < first + len(store))
        embeddings[mine] = store.embeddings[rows[mine] - first]
        durations[mine] = store.durations[rows[mine] - first]
        first += len(store)
    return embeddings, durations


def cohort_of(store, name, utt2spk=None):
    """All utterances of a store as a cohort.

    Arguments
    ---------
    store : EmbeddingStore
    name : str
        For people.
    utt2spk : str or None
        As in ``ScoringOptions``.

    Returns
    -------
    Cohort

    Raises
    ------
    AttnError
        As ``speaker_names``.
    """
    speakers = np.array(speaker_names(store.ids, utt2spk))
    return Cohort(name, store.embeddings, speakers)


def check_speakers(test, development, cohort):
    """Sentences on speakers who are in places where they should not be.

    Arguments
    ---------
    test : ListedTrials
    development : ListedTrials or None
    cohort : Cohort or None

    Returns
    -------
    list of str
    """
    notes = []
    if cohort is not None:
        shared = shared_speakers(cohort.speakers.tolist(), test.names)
        if shared:
            notes.append(
                f"{len(shared):,} speakers of the test list, such as "
                f"{shared[0]}, are in the cohort: the scores of their trials "
                "are not those of unknown speakers."
            )
    both = sorted(test.names & development.names) if development else []
    if both:
        notes.append(
            f"{len(both):,} speakers of the test list, such as {both[0]}, are "
            "in the development list: calibration and fusion know them."
        )
    return notes


def same_trials(trials, others, path):
    """Refuse scores of other trials, or in another order.

    Arguments
    ---------
    trials, others : Trials
    path : str or Path
        Where the other ones are from.

    Raises
    ------
    AttnError
        Names the first line that differs.
    """
    if len(trials) != len(others):
        raise AttnError(
            f"{path}: has {len(others):,} trials, but {trials.path} has "
            f"{len(trials):,}. Score the same list with both."
        )
    # Other lists may number the same names in another order.
    number = {name: row for row, name in enumerate(trials.names)}
    rows = np.array([number.get(name, -1) for name in others.names])
    differs = (
        (rows[others.enrol] != trials.enrol)
        | (rows[others.test] != trials.test)
        | (others.labels != trials.labels)
    )
    if differs.any():
        line = int(differs.argmax())
        raise AttnError(
            f"{path} line {line + 1}: is the trial "
            f"{_trial(others, line)}, but in {trials.path} it is "
            f"{_trial(trials, line)}. Score the same list with both."
        )


def _trial(trials, line):
    names = trials.names
    return (
        f'"{trials.labels[line]:d} {names[trials.enrol[line]]} '
        f'{names[trials.test[line]]}"'
    )
