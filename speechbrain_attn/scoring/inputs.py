"""Embeddings out of stores, for the rows of trial lists and for a cohort."""

import logging
from typing import NamedTuple

import numpy as np

from speechbrain_attn.dataio.tree import strip_extension
from speechbrain_attn.dataio.trial_speakers import speaker_names
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.normalisation import shared_speakers
from speechbrain_attn.scoring.rows import blocks, same_size
from speechbrain_attn.scoring.systems import TrialEmbeddings

logger = logging.getLogger(__name__)


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
        An utterance is in none of the stores or there twice, its embedding
        is zero or not finite, or the sizes of the stores differ.
    """
    trials = listed.trials
    _refuse_twice(stores)
    folders = " and ".join(str(store.folder) for store in stores)
    ids = [name for store in stores for name in store.ids]
    rows = trials.rows_among(ids, folders)
    embeddings, durations = _gather(stores, rows)
    norms = _norms(embeddings)
    bad = _without_direction(norms)
    if len(bad):
        name = trials.utterances[bad[0]]
        ends = np.cumsum([len(store) for store in stores])
        store = stores[np.searchsorted(ends, rows[bad[0]], side="right")]
        raise AttnError(
            f"{trials.place_of(name)}: the embedding of utterance {name!r} in "
            f"{store.folder} has norm {norms[bad[0]]}, {_NO_DIRECTION}"
        )
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


_NO_DIRECTION = (
    "so it has no direction to compare; was the utterance empty, or the "
    "network not trained? Mend that and extract again."
)


def _refuse_twice(stores):
    """Refuse an utterance that two rows of the stores could be."""
    held = {}
    for store in stores:
        for name in map(strip_extension, store.ids):
            if name in held:
                raise AttnError(
                    f"utterance {name!r}: is in {held[name]} and again in "
                    f"{store.folder} (names count without their extension). "
                    "Give stores that hold each utterance once."
                )
            held[name] = store.folder


def _norms(embeddings):
    """Lengths of the rows, [rows] float64, however many a store has."""
    norms = np.empty(len(embeddings))
    for part in blocks(len(norms)):
        # float64: squares of float32 overflow above 1e19.
        rows = embeddings[part].astype(np.float64)
        norms[part] = np.linalg.norm(rows, axis=1)
    return norms


def _without_direction(norms):
    """Rows whose embedding is zero or not finite, by their lengths."""
    return np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))


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
        As ``speaker_names``; an embedding is zero or not finite, or there
        are fewer than two speakers.
    """
    names = [strip_extension(name) for name in store.ids]
    speakers = np.array(speaker_names(names, utt2spk))
    num_speakers = len(set(speakers.tolist()))
    if num_speakers < 2:
        raise AttnError(
            f"cohort {store.folder}: want at least 2 speakers, got "
            f"{num_speakers} in {len(store):,} utterances. Take a larger "
            "cohort, or give utt2spk if their names do not tell the speakers."
        )
    norms = _norms(store.embeddings)
    bad = _without_direction(norms)
    if len(bad):
        raise AttnError(
            f"cohort {store.folder}: the embedding of utterance "
            f"{store.ids[bad[0]]!r} has norm {norms[bad[0]]}, {_NO_DIRECTION}"
        )
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
    if cohort is not None and development is not None:
        notes += _cohort_in_development(cohort, development)
    return notes


def _cohort_in_development(cohort, development):
    """Sentences, logged too, on speakers of the cohort in that list."""
    shared = sorted(set(cohort.speakers.tolist()) & development.names)
    if not shared:
        return []
    note = (
        f"{len(shared):,} speakers of the development list, such as "
        f"{shared[0]}, are in the cohort: calibration and fusion learn from "
        "scores that are not those of unknown speakers."
    )
    logger.warning("%s", note)
    return [note]


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
