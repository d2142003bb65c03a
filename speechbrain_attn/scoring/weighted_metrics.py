"""Metrics of sorted trials that count several times or not at all."""

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring import error_counts as counted
from speechbrain_attn.scoring.metrics import llr_bits

OF_CURVE = {
    "eer": counted.eer_at,
    "auc": counted.auc_at,
    "min_cllr": counted.min_cllr_at,
}


def weighted_metrics(metrics, targets, nontargets):
    """Sort out once what the metrics of any weights have in common.

    Arguments
    ---------
    metrics : sequence of str
        As for ``confidence.bootstrap``.
    targets, nontargets : numpy.ndarray
        Sorted scores of each kind.

    Returns
    -------
    function
        From whole-numbered weights, [targets] and [nontargets], to the list
        of the metrics, each exact for trials that count so many times.

    Raises
    ------
    AttnError
        A metric is not known or its prior outside (0, 1); or, for ``cllr``, a
        ratio is infinite on the wrong side.

    Example
    -------
    >>> measure = weighted_metrics(["eer"], np.array([1, 3]), np.array([0, 2]))
    >>> measure(np.array([1, 1]), np.array([1, 1]))
    [0.5]
    >>> measure(np.array([0, 2]), np.array([1, 1]))
    [0.0]
    """
    turns = counted.turning_points(targets, nontargets)
    measures = [_measure(metric, targets, nontargets) for metric in metrics]

    def measured(target_weights, nontarget_weights):
        sums = tuple(
            np.append(0, np.cumsum(weights))
            for weights in (target_weights, nontarget_weights)
        )
        curve = _errors_at(turns, sums)
        return [measure(curve, sums) for measure in measures]

    return measured


def _errors_at(counts, sums):
    """Weight of missed targets and accepted nontargets above these counts."""
    missed, rejected = sums[0][counts[0]], sums[1][counts[1]]
    return missed, rejected[-1] - rejected


def _measure(metric, targets, nontargets):
    """Metric as a function of the curve and of the cumulated weights."""
    if metric in OF_CURVE:
        return lambda curve, sums: OF_CURVE[metric](*curve)
    if metric == "cllr":
        bits = llr_bits(targets, nontargets)
        return lambda curve, sums: sum(
            np.diff(kind) @ bit / kind[-1] / 2
            for kind, bit in zip(sums, bits, strict=True)
        )
    family, costs = dcf_costs(metric)
    if family == "min_dcf":
        return lambda curve, sums: counted.dcf_at(*curve, costs).min()
    thresholds = counted.bayes_thresholds(costs)
    at = [counted.below(thresholds, k) for k in (targets, nontargets)]
    return lambda curve, sums: counted.dcf_at(*_errors_at(at, sums), costs)[1]


def dcf_costs(metric):
    """Family and costs that a name such as ``min_dcf_0.01`` stands for."""
    family, _, prior = str(metric).rpartition("_")
    try:
        prior = float(prior)
    except ValueError:
        prior = None
    if family not in ("min_dcf", "act_dcf") or prior is None:
        raise AttnError(
            f"metric {metric!r} is not known; known: eer, auc, min_cllr, "
            "cllr, min_dcf_<p_target> and act_dcf_<p_target>, such as "
            "min_dcf_0.01."
        )
    return family, counted.costs_of_errors(prior)
