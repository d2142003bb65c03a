"""Error rates and detection costs of scores, exact and by sorting once."""

import numpy as np

from speechbrain_attn.errors import AttnError


def eer(scores, labels):
    """Equal error rate: where false acceptance and false rejection meet.

    Between two thresholds the ROC is a straight line (a tie of scores moves
    as one), and the rate is read where that line crosses FAR = FRR.

    Arguments
    ---------
    scores : array or tensor
        [trials], higher for the same speaker; infinite values are allowed.
    labels : array or tensor
        [trials], 1 or True for targets, 0 or False for nontargets.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    AttnError
        Shapes differ or are not [trials], a score is NaN, a label is neither
        0 nor 1, or there are not both kinds of trial.

    Example
    -------
    >>> eer([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
    0.5
    """
    accepted, missed, nontargets, targets = _errors(scores, labels)
    # FAR - FRR in whole numbers: it rises from -1 to 1, and no rounding can
    # move the crossing.
    gap = accepted * targets - missed * nontargets
    after = int(np.searchsorted(gap, 0))
    before = after - 1
    far = accepted / nontargets
    part = -gap[before] / (gap[after] - gap[before])
    return float(far[before] + part * (far[after] - far[before]))


def min_dcf(
    scores, labels, p_target=0.01, c_miss=1.0, c_fa=1.0, normalised=True
):
    """Lowest detection cost over all thresholds.

    The cost is ``c_miss * p_target * p_miss + c_fa * (1 - p_target) * p_fa``;
    to accept all trials and to reject all are among the thresholds.

    Arguments
    ---------
    scores, labels : array or tensor
        [trials] each, as for ``eer``.
    p_target : float
        Prior probability of a target, in (0, 1).
    c_miss, c_fa : float
        Cost of a rejected target and of an accepted nontarget, above 0.
    normalised : bool
        True divides by the cost of the better of the two decisions that need
        no score, ``min(c_miss * p_target, c_fa * (1 - p_target))``, the usual
        figure; False gives the cost itself, the scale of SpeechBrain's
        ``minDCF``.

    Returns
    -------
    float
        In [0, 1] where normalised.

    Raises
    ------
    AttnError
        As ``eer``; or a prior or cost lies outside its range.

    Example
    -------
    >>> min_dcf([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
    0.5
    """
    if not 0 < p_target < 1:
        raise AttnError(f"p_target: want a number in (0, 1), got {p_target}.")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0 < cost < np.inf:
            raise AttnError(f"{name}: want a cost above 0, got {cost}.")
    accepted, missed, nontargets, targets = _errors(scores, labels)
    miss_cost = c_miss * p_target
    fa_cost = c_fa * (1 - p_target)
    costs = miss_cost * (missed / targets) + fa_cost * (accepted / nontargets)
    scale = min(miss_cost, fa_cost) if normalised else 1.0
    return float(costs.min() / scale)


def _errors(scores, labels):
    """Count both errors at every threshold, from reject-all to accept-all.

    Returns the accepted nontargets and the missed targets, int64
    [thresholds], then the number of nontargets and of targets.
    """
    scores, labels = _checked(scores, labels)
    order = np.argsort(scores)[::-1]
    scores, labels = scores[order], labels[order]
    # One threshold below each tie: its trials are accepted together.
    lowest_of_tie = np.append(scores[1:] != scores[:-1], True)
    found = np.cumsum(labels)[lowest_of_tie]
    accepted = np.flatnonzero(lowest_of_tie) + 1 - found
    targets = int(found[-1])
    nontargets = len(labels) - targets
    found = np.insert(found, 0, 0)
    accepted = np.insert(accepted, 0, 0)
    return accepted, targets - found, nontargets, targets


def _checked(scores, labels):
    """Scores as float64 and labels as bool, [trials] each."""
    scores = _array(scores).astype(np.float64)
    labels = _array(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise AttnError(
            "scores and labels: want [trials] twice, got shapes "
            f"{scores.shape} and {labels.shape}."
        )
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise AttnError(
            f"scores: {len(bad)} of {len(scores)} are NaN, the first is trial "
            f"{bad[0]}; look for its embeddings."
        )
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        raise AttnError(
            "labels: want 1 for targets and 0 for nontargets, got "
            f"{labels[bad[0]]} for trial {bad[0]}."
        )
    labels = labels.astype(bool)
    targets = int(labels.sum())
    if targets in (0, len(labels)):
        raise AttnError(
            f"want both kinds of trial, got {targets:,} targets and "
            f"{len(labels) - targets:,} nontargets. Are the labels inverted "
            "or the ids unmatched?"
        )
    return scores, labels


def _array(values):
    """Numpy array of a list, an array or a tensor (on any device)."""
    if hasattr(values, "detach"):
        # numpy has no bfloat16.
        values = values.detach().cpu().double().numpy()
    return np.asarray(values)
