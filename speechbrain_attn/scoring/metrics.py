"""Error rates, detection costs and information of scores, exact by sorting.

Scores and labels are arrays, lists or tensors [trials]. Rates are fractions in
[0, 1], costs of information bits, all float64 whatever the scores are.
"""

from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.error_counts import (
    auc_at,
    bayes_thresholds,
    below,
    costs_of_errors,
    dcf_at,
    eer_at,
    min_cllr_at,
    turning_points,
)


class DetCurve(NamedTuple):
    """Both error rates at every threshold, float64 [thresholds] each."""

    false_acceptance: np.ndarray
    false_rejection: np.ndarray
    thresholds: np.ndarray


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
    return eer_at(*_turns(scores, labels))


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
    costs = costs_of_errors(p_target, c_miss, c_fa)
    missed, accepted = _turns(scores, labels)
    return float(dcf_at(missed, accepted, costs, normalised).min())


def act_dcf(llrs, labels, p_target=0.01, c_miss=1.0, c_fa=1.0, normalised=True):
    """Detection cost of the decisions that log-likelihood ratios lead to.

    A trial is accepted where its ratio is at least the Bayes threshold
    ``log(c_fa * (1 - p_target) / (c_miss * p_target))``.

    Arguments
    ---------
    llrs : array or tensor
        [trials], log-likelihood ratios, natural log.
    labels, p_target, c_miss, c_fa, normalised
        As for ``min_dcf``, which it exceeds by the price of calibration.

    Returns
    -------
    float
        At least ``min_dcf``; 1 is the cost of not looking, where normalised.

    Raises
    ------
    AttnError
        As ``min_dcf``.

    Example
    -------
    >>> act_dcf([9.0, 1.0, -2.0, -9.0], [1, 1, 0, 0])
    0.5
    """
    costs = costs_of_errors(p_target, c_miss, c_fa)
    targets, nontargets = sorted_classes(llrs, labels, "llrs")
    errors = _errors_at(bayes_thresholds(costs), targets, nontargets)
    _, cost, _ = dcf_at(*errors, costs, normalised)
    return float(cost)


def cllr(llrs, labels):
    """Cost of log-likelihood ratios over all priors, in bits.

    ``(mean log2(1 + exp(-llr)) of targets + mean log2(1 + exp(llr)) of
    nontargets) / 2`` (Brümmer and du Preez, 2006).

    Arguments
    ---------
    llrs : array or tensor
        [trials], log-likelihood ratios, natural log.
    labels : array or tensor
        [trials], as for ``eer``.

    Returns
    -------
    float
        0 is perfect, 1 is what ratios of 1 for all trials cost.

    Raises
    ------
    AttnError
        As ``eer``; or a trial is given up for certain and wrongly (a target
        with -inf, a nontarget with inf), which costs an infinity.

    Example
    -------
    >>> cllr([0.0, 0.0], [1, 0])
    1.0
    """
    targets, nontargets = sorted_classes(llrs, labels, "llrs")
    of_targets, of_nontargets = llr_bits(targets, nontargets)
    return float((of_targets.mean() + of_nontargets.mean()) / 2)


def min_cllr(scores, labels):
    """Cllr that the best rising map of scores to ratios would give, in bits.

    That map is isotonic regression by pooling adjacent violators (PAV), fitted
    on these very trials. In [0, 1]; arguments and errors are ``eer``'s.

    Example
    -------
    >>> min_cllr([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
    0.5
    """
    return min_cllr_at(*_turns(scores, labels))


def auc(scores, labels):
    """Area under the ROC: how often a target beats a nontarget, ties half.

    In [0, 1], 0.5 is chance; arguments and errors are ``eer``'s.

    Example
    -------
    >>> auc([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
    0.75
    """
    return auc_at(*_turns(scores, labels))


def det_curve(scores, labels):
    """Both error rates at every threshold, from accept-all to reject-all.

    Arguments
    ---------
    scores, labels : array or tensor
        [trials] each, as for ``eer``.

    Returns
    -------
    DetCurve
        ``false_acceptance`` falls from 1 to 0 and ``false_rejection`` rises
        from 0 to 1 over ``thresholds``: the distinct scores, rising, then an
        infinity that stands for rejecting all. A trial is accepted where its
        score is not below the threshold.

    Raises
    ------
    AttnError
        As ``eer``.

    Example
    -------
    >>> det_curve([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0]).false_rejection
    array([0. , 0. , 0.5, 0.5, 1. ])
    """
    targets, nontargets = sorted_classes(scores, labels)
    thresholds = np.concatenate([targets, nontargets], dtype=np.float64)
    thresholds.sort()
    distinct = np.append(True, thresholds[1:] != thresholds[:-1])
    thresholds = thresholds[distinct]
    missed, accepted = _errors_at(thresholds, targets, nontargets)
    return DetCurve(
        accepted / len(nontargets),
        missed / len(targets),
        np.append(thresholds, np.inf),
    )


def sorted_classes(scores, labels, name="scores"):
    """Checked scores of the targets and of the nontargets, each sorted.

    float32 scores stay so, since every comparison of them is exact.

    Raises
    ------
    AttnError
        As ``eer``, with ``name`` for the scores.
    """
    scores, labels = checked(scores, labels, name)
    targets, nontargets = scores[labels], scores[~labels]
    targets.sort()
    nontargets.sort()
    return targets, nontargets


def llr_bits(targets, nontargets):
    """What each log-likelihood ratio costs in bits, float64, by kind.

    Raises
    ------
    AttnError
        A ratio is infinite on the wrong side.
    """
    for kind, llrs, wrong in (
        ("targets", targets, -np.inf),
        ("nontargets", nontargets, np.inf),
    ):
        count = np.count_nonzero(llrs == wrong)
        if count:
            raise AttnError(
                f"llrs: {count:,} of {len(llrs):,} {kind} have {wrong}, so "
                "Cllr is infinite; bound the log-likelihood ratios, or look "
                "for a division by 0 where they were made."
            )
    return tuple(
        np.logaddexp(0.0, side, dtype=np.float64) / np.log(2)
        for side in (-targets, nontargets)
    )


def checked(scores, labels, name="scores"):
    """Scores as float32 or float64 and labels as bool, [trials] each.

    Raises
    ------
    AttnError
        As ``eer``, with ``name`` for the scores.
    """
    scores, labels = as_array(scores), as_array(labels)
    if np.iscomplexobj(scores):
        raise AttnError(f"{name}: want real numbers, got {scores.dtype}.")
    if scores.dtype != np.float32:
        scores = scores.astype(np.float64)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise AttnError(
            f"{name} and labels: want [trials] twice, got shapes "
            f"{scores.shape} and {labels.shape}."
        )
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise AttnError(
            f"{name}: {len(bad)} of {len(scores)} are NaN, the first is trial "
            f"{bad[0]}; look for its embeddings."
        )
    bad = np.flatnonzero((labels != 0) & (labels != 1))
    if len(bad):
        raise AttnError(
            "labels: want 1 for targets and 0 for nontargets, got "
            f"{labels[bad].tolist()[0]!r} for trial {bad[0]}."
        )
    labels = labels.astype(bool, copy=False)
    targets = int(np.count_nonzero(labels))
    if targets in (0, len(labels)):
        raise AttnError(
            f"want both kinds of trial, got {targets:,} targets and "
            f"{len(labels) - targets:,} nontargets. Are the labels inverted "
            "or the ids unmatched?"
        )
    return scores, labels


def checked_durations(durations, scores):
    """Seconds as float64, of two sides for each score, all above 0."""
    durations = as_array(durations).astype(np.float64)
    if durations.shape != (*scores.shape, 2):
        raise AttnError(
            f"durations: want shape {(*scores.shape, 2)}, the seconds of both "
            f"sides of each trial, got {durations.shape}."
        )
    bad = np.flatnonzero(~((durations > 0) & np.isfinite(durations)))
    if len(bad):
        raise AttnError(
            f"durations: trial {bad[0] // 2} has {durations.flat[bad[0]]}; "
            "want seconds above 0."
        )
    return durations


def _turns(scores, labels):
    """Missed targets and accepted nontargets where the ROC turns."""
    missed, rejected = turning_points(*sorted_classes(scores, labels))
    return missed, rejected[-1] - rejected


def _errors_at(thresholds, targets, nontargets):
    """Missed targets and accepted nontargets at thresholds and above all."""
    rejected = below(thresholds, nontargets)
    return below(thresholds, targets), rejected[-1] - rejected


def as_array(values):
    """Numpy array of a list, an array or a tensor (on any device)."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # numpy has no bfloat16.
        if values.is_floating_point() and values.element_size() < 4:
            values = values.float()
        values = values.numpy()
    return np.asarray(values)
