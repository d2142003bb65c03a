"""Metrics from the counts of both errors at every threshold.

Everywhere ``missed`` and ``accepted`` are the targets below and the nontargets
not below each threshold, int64 [thresholds], for thresholds that rise from
accepting all trials to rejecting all. They count trials, or weights of trials
as the bootstrap gives them; whole numbers, so that no rounding orders them.
"""

import numbers

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import xlogy

from speechbrain_attn.errors import AttnError


def below(thresholds, scores):
    """How many scores lie below each threshold and below one above them all.

    ``scores`` are sorted; int64 [thresholds + 1]. A trial is accepted where
    its score is not below the threshold, so a tie is decided as one.
    """
    counts = np.searchsorted(scores, thresholds)
    return np.append(counts, len(scores))


def turning_points(targets, nontargets):
    """Count what lies below each threshold at which the ROC turns.

    Between two of them lies a tie, or a run of one kind of trial, whatever
    these weigh: the lines through the turning points are the whole curve.

    Arguments
    ---------
    targets, nontargets : numpy.ndarray
        Sorted scores of each kind, at least one each.

    Returns
    -------
    targets_below, nontargets_below : numpy.ndarray
        int64 [thresholds] each, from none below to all.
    """
    swapped = len(nontargets) < len(targets)
    few, many = (nontargets, targets) if swapped else (targets, nontargets)
    # The curve turns only at scores of `few`, so the long list is searched.
    first = np.flatnonzero(np.append(True, few[1:] != few[:-1]))
    left = np.searchsorted(many, few[first], "left")
    right = np.searchsorted(many, few[first], "right")
    # Of `many`, those below the gap under each score of `few`, and under the
    # score itself; a last gap lies above all of them.
    before, after = np.append(0, right), np.append(left, len(many))
    turns = after > before
    tied = right > left
    turns[1:] |= tied
    turns[:-1] |= tied
    turns[[0, -1]] = True
    few_below = np.repeat(np.append(first, len(few))[turns], 2)
    many_below = np.column_stack([before[turns], after[turns]]).ravel()
    return (many_below, few_below) if swapped else (few_below, many_below)


def eer_at(missed, accepted):
    """Rate at which the lines between the thresholds cross FAR = FRR."""
    targets, nontargets = missed[-1], accepted[0]
    gap = missed * nontargets - accepted * targets
    after = int(np.searchsorted(gap, 0))
    before = after - 1
    part = -gap[before] / (gap[after] - gap[before])
    rise = missed[after] - missed[before]
    return float((missed[before] + part * rise) / targets)


def costs_of_errors(p_target, c_miss=1.0, c_fa=1.0):
    """Expected cost of missing every target and of accepting every nontarget.

    Raises
    ------
    AttnError
        ``p_target`` lies outside (0, 1) or a cost is not above 0.
    """
    given = {"p_target": p_target, "c_miss": c_miss, "c_fa": c_fa}
    for name, value in given.items():
        if not isinstance(value, numbers.Real):
            raise AttnError(f"{name}: want a number, got {value!r}.")
    if not 0 < p_target < 1:
        raise AttnError(f"p_target: want a number in (0, 1), got {p_target}.")
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0 < cost < np.inf:
            raise AttnError(f"{name}: want a cost above 0, got {cost}.")
    return c_miss * p_target, c_fa * (1 - p_target)


def bayes_thresholds(costs):
    """Log-likelihood ratios from which to accept: all, and what pays."""
    miss_cost, fa_cost = costs
    return [-np.inf, np.log(fa_cost / miss_cost)]


def dcf_at(missed, accepted, costs, normalised=True):
    """Detection cost at each threshold, float64 [thresholds]."""
    miss_cost, fa_cost = costs
    cost = miss_cost * (missed / missed[-1])
    cost += fa_cost * (accepted / accepted[0])
    return cost / min(miss_cost, fa_cost) if normalised else cost


def auc_at(missed, accepted):
    """Area under the ROC, ties counted half."""
    targets, nontargets = missed[-1], accepted[0]
    found_twice = 2 * targets - missed[1:] - missed[:-1]
    area_twice = np.dot(accepted[:-1] - accepted[1:], found_twice)
    return float(area_twice / (2 * targets * nontargets))


def pav(missed, accepted):
    """Pool the trials between thresholds until their target share rises.

    Returns
    -------
    targets, nontargets : numpy.ndarray
        int64 [blocks], of each kind in the blocks, from the lowest scores to
        the highest; targets over nontargets rises from block to block.
    """
    targets, nontargets = np.diff(missed), -np.diff(accepted)
    weights = targets + nontargets
    # Where the bootstrap drew no trial there is no share to speak of.
    filled = weights > 0
    targets, nontargets, weights = (
        counts[filled] for counts in (targets, nontargets, weights)
    )
    blocks = isotonic_regression(targets / weights, weights=weights).blocks
    return (
        np.add.reduceat(targets, blocks[:-1]),
        np.add.reduceat(nontargets, blocks[:-1]),
    )


def min_cllr_at(missed, accepted):
    """Cllr of the log-likelihood ratios that PAV gives to the trials, bits."""
    targets, nontargets = pav(missed, accepted)
    # Shares of each kind; their ratio is the likelihood ratio of the block.
    of_targets = targets / missed[-1]
    of_nontargets = nontargets / accepted[0]
    both = of_targets + of_nontargets
    bits = xlogy(of_targets, of_targets / both)
    bits += xlogy(of_nontargets, of_nontargets / both)
    # Less from 0, as a list without an error has 0 and not -0.
    return float(0.0 - bits.sum() / (2 * np.log(2)))
