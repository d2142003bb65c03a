"""Counts of a trial list, with those of trials that look like mistakes."""

from typing import NamedTuple

import numpy as np

_BLOCK = 1 << 16  # trials


class TrialCounts(NamedTuple):
    """How many trials of a list are of which kind; ``Trials.counts()``."""

    targets: int
    nontargets: int
    duplicated: int  # repeat the pair and label of an earlier trial
    self_trials: int  # the test utterance is (one of) the enrolled
    conflicting: int  # pairs that are listed with both labels


def count_trials(trials):
    """Count the trials of a list by kind.

    (a, b) and (b, a) are the same pair.

    Arguments
    ---------
    trials : Trials

    Returns
    -------
    TrialCounts

    Example
    -------
    >>> from speechbrain_attn.dataio.trials import Trials
    >>> one, other = np.array([[0, 1, 0, 2], [1, 0, 1, 2]], dtype=np.int32)
    >>> labels = np.array([True, True, False, True])
    >>> trials = Trials("x", ["a", "b", "c"], one, other, labels, "Kaldi")
    >>> counts = count_trials(trials)
    >>> counts.duplicated, counts.self_trials, counts.conflicting
    (1, 1, 1)
    """
    targets = int(np.count_nonzero(trials.labels))
    # A number for each pair, twice that and one more for a target: in order,
    # repeated trials and the two labels of a pair are neighbours.
    keys = np.minimum(trials.enrol, trials.test).astype(np.int64)
    keys *= len(trials.names)
    keys += np.maximum(trials.enrol, trials.test)
    keys *= 2
    keys += trials.labels
    keys.sort()
    steps = np.diff(keys)
    nontarget_first = keys[:-1][steps == 1] % 2 == 0
    return TrialCounts(
        targets=targets,
        nontargets=len(trials) - targets,
        duplicated=int(np.count_nonzero(steps == 0)),
        self_trials=_count_self_trials(trials),
        conflicting=int(np.count_nonzero(nontarget_first)),
    )


def _count_self_trials(trials):
    if not trials.enrolment:
        return int(np.count_nonzero(trials.enrol == trials.test))
    # Pairs of model and member as numbers, like those of the trials.
    size, one = len(trials.utterances), trials.enrolment
    members = np.sort(one.model_of_member * size + one.members)
    count = 0
    for start in range(0, len(trials), _BLOCK):
        part = slice(start, start + _BLOCK)
        pairs = (trials.enrol[part] - size).astype(np.int64) * size
        pairs += trials.test[part]
        places = np.searchsorted(members, pairs).clip(max=len(members) - 1)
        count += int(np.count_nonzero(members[places] == pairs))
    return count


def summarise_trials(trials):
    """What a list holds, in a line for the log."""
    counts = trials.counts()
    models = f" and {len(trials.models):,} models" if trials.models else ""
    if trials.enrolment and trials.enrolment.num_unused:
        models += (
            f" ({trials.enrolment.num_unused:,} more models of "
            f"{trials.enrolment.path} are in no trial)"
        )
    return (
        f"{trials.path} ({trials.format} format): {len(trials):,} trials, "
        f"{counts.targets:,} targets and {counts.nontargets:,} nontargets, "
        f"of {len(trials.utterances):,} utterances{models}. Duplicated trials: "
        f"{counts.duplicated:,}; of an utterance with itself: "
        f"{counts.self_trials:,}; pairs with both labels: "
        f"{counts.conflicting:,}."
    )
