"""Posteriors against what was observed, bin by bin."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.error_counts import costs_of_errors
from speechbrain_attn.scoring.metrics import checked


class Reliability(NamedTuple):
    """Bins of equal width in the posterior, from 0 to 1.

    ``edges`` [bins + 1]; ``posterior`` and ``observed`` [bins], the mean
    posterior and the share of targets, at the prior ``p_target`` whatever
    part of the list are targets, NaN in an empty bin; ``counts`` [bins],
    trials.
    """

    p_target: float
    edges: np.ndarray
    posterior: np.ndarray
    observed: np.ndarray
    counts: np.ndarray


def reliability(llrs, labels, p_target=0.5, num_bins=10):
    """Whether a posterior of x is right in a part x of the trials.

    Arguments
    ---------
    llrs : array or tensor
        [trials], log-likelihood ratios, natural log.
    labels : array or tensor
        [trials], as for ``metrics.eer``.
    p_target : float
        Prior of the posteriors, in (0, 1).
    num_bins : int
        At least 1.

    Returns
    -------
    Reliability

    Raises
    ------
    AttnError
        As ``metrics.eer``; the prior or the number of bins is out of range.

    Example
    -------
    >>> found = reliability([-2.0, -1.5, 1.0, 3.0], [0, 0, 1, 1], num_bins=2)
    >>> found.posterior.round(2), found.observed, found.counts
    (array([0.15, 0.84]), array([0., 1.]), array([2, 2]))
    """
    llrs, labels = checked(llrs, labels, "llrs")
    of_targets, of_nontargets = costs_of_errors(p_target)
    if num_bins < 1:
        raise AttnError(f"num_bins: want 1 or more, got {num_bins}.")
    weights = np.where(
        labels,
        of_targets / np.count_nonzero(labels),
        of_nontargets / np.count_nonzero(~labels),
    )
    posteriors = expit(llrs.astype(np.float64) + logit(p_target))
    bins = np.minimum((posteriors * num_bins).astype(int), num_bins - 1)

    def total(values):
        return np.bincount(bins, values, num_bins)

    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        posterior = total(weights * posteriors) / total(weights)
        observed = total(weights * labels) / total(weights)
    return Reliability(
        float(p_target),
        np.linspace(0, 1, num_bins + 1),
        posterior,
        observed,
        np.bincount(bins, minlength=num_bins),
    )
