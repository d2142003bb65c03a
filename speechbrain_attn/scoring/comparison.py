"""Another system's scores of the same trials."""

from pathlib import Path

import numpy as np

from speechbrain_attn.dataio.scores import read_scores
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.inputs import trial_embeddings
from speechbrain_attn.scoring.store import STORE_FILE, EmbeddingStore


def read_comparison(options, listed):
    """Scores of the other system, [trials], or None without one.

    Arguments
    ---------
    options : ScoringOptions
    listed : ListedTrials
        The test list.

    Raises
    ------
    AttnError
        There are no such scores, or they are of other trials.
    """
    path = options.compare
    if path is None:
        return None
    if (Path(path) / STORE_FILE).exists():
        other = trial_embeddings(listed, [EmbeddingStore.open(path)])
        return cosine_scores(other.embeddings, other.enrol, other.test)
    trials, scores = read_scores(path, options.enrol_map)
    same_trials(listed.trials, trials, path)
    return scores


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
    rows = np.concatenate(
        [
            _rows_among(trials.utterances, others.utterances, 0),
            _rows_among(trials.models, others.models, len(trials.utterances)),
        ]
    )
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


def _rows_among(names, others, first):
    """Row of each other name, where ``names`` begin at ``first``; -1: none."""
    row_of = {name: row for row, name in enumerate(names, start=first)}
    return np.array([row_of.get(name, -1) for name in others], dtype=np.int64)


def _trial(trials, line):
    names = trials.names
    return (
        f'"{trials.labels[line]:d} {names[trials.enrol[line]]} '
        f'{names[trials.test[line]]}"'
    )
