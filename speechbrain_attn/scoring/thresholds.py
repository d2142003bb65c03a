"""Thresholds of raw scores, chosen on a development list."""

import dataclasses

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.error_counts import costs_of_errors, dcf_at
from speechbrain_attn.scoring.metrics import checked, det_curve

FALSE_ACCEPTANCES = (0.01, 0.001)
PRIORS = (0.01, 0.05)  # of a target, for minDCF at equal costs
THRESHOLDS = (
    "eer",
    *(f"fa_{rate}" for rate in FALSE_ACCEPTANCES),
    *(f"min_dcf_{prior}" for prior in PRIORS),
)


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A score to accept from, and the errors of the list there."""

    score: float
    false_accepts: int
    misses: int

    def __post_init__(self):
        if min(self.false_accepts, self.misses) < 0:
            raise AttnError(f"want counts of errors, 0 or more, got {self}.")


def thresholds_of(scores, labels):
    """Thresholds for the usual aims.

    Each lies halfway between two scores of the list, so that it is all one
    whether a score equal to it is accepted (but between neighbours in float64,
    where it is).

    Arguments
    ---------
    scores, labels : array or tensor
        [trials] each, as for ``metrics.eer``, scores finite.

    Returns
    -------
    dict
        Name to Threshold: ``eer``, where both error rates are nearest to each
        other; ``fa_0.01`` and ``fa_0.001``, the lowest that accept no more
        than that part of the nontargets; ``min_dcf_0.01`` and
        ``min_dcf_0.05``, of the lowest cost at that prior and equal costs.

    Example
    -------
    >>> thresholds_of([0.1, 0.2, 0.6, 0.8], [0, 0, 1, 1])["eer"]
    Threshold(score=0.4, false_accepts=0, misses=0)
    """
    curve = det_curve(scores, labels)
    _, labels = checked(scores, labels)
    targets, nontargets = np.count_nonzero(labels), np.count_nonzero(~labels)
    distinct = curve.thresholds[:-1]
    # To accept all and to reject all, a mean gap beyond the list.
    gap = (distinct[-1] - distinct[0]) / len(distinct) or 1.0
    gap = max(gap, 4 * np.spacing(np.abs(distinct).max()))
    edges = np.concatenate([distinct[:1] - gap, distinct, distinct[-1:] + gap])
    middles = (edges[1:] + edges[:-1]) / 2
    # Between two neighbours in float64 is none: the higher one accepts itself.
    middles = np.where(middles > edges[:-1], middles, edges[1:])
    difference = curve.false_acceptance - curve.false_rejection
    chosen = [np.argmin(np.abs(difference))]
    for rate in FALSE_ACCEPTANCES:
        # The margin is for the rounding of, say, 7 / 700.
        few = curve.false_acceptance <= rate * (1 + 1e-9)
        chosen.append(np.argmax(few))
    for prior in PRIORS:
        costs = costs_of_errors(prior)
        cost = dcf_at(curve.false_rejection, curve.false_acceptance, costs)
        chosen.append(np.argmin(cost))
    return {
        name: Threshold(
            score=float(middles[i]),
            false_accepts=round(curve.false_acceptance[i] * nontargets),
            misses=round(curve.false_rejection[i] * targets),
        )
        for name, i in zip(THRESHOLDS, chosen, strict=True)
    }
