"""An interval from the draws of a figure.

It is made on the scale of log-odds, where the draws of a low error
rate are less skewed. At each end it takes the wider of two: Student's t around
the value less the bias of the draws, and the percentiles of the draws mirrored
at the value. Plain percentiles hold the true figure too seldom: few speakers
spread the draws too little, and a minimum over thresholds (minDCF, minCllr) is
too low on a finite list and lower still on its draws. Towards the
perfect figure it goes no further than the furthest draw: on the log-odds draws
of a bad system, at 1, are far away, and mirrored would promise a good one.

Where a few speakers make most of the errors, the spread itself is not well
known. How much each of them matters is what leaving them out changes; the
tails of these changes set the degrees of freedom of Student's t.
``benchmarks/confidence.py`` measures how often the interval holds.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.weighted_metrics import dcf_costs

# The tails of n changes never tell of fewer than 2 degrees; near that, few
# speakers decide how wide an interval is, and the widest tell nothing.
LEAST_FREEDOM = 4


class Interval(NamedTuple):
    """A figure of the trials themselves and its confidence interval."""

    value: float
    low: float
    high: float


class Drawn(NamedTuple):
    """A figure of the trials as they are, and what it becomes.

    ``draws`` [replicates] are of draws of the speakers; ``left_out``
    [speakers] without one of them, without those whom a list cannot miss.
    """

    value: np.ndarray
    draws: np.ndarray
    left_out: np.ndarray


def interval_of(
    drawn, num_speakers, level, forward=np.array, back=float, perfect=None
):
    """Interval of a figure, made on another scale than its own.

    Arguments
    ---------
    drawn : Drawn
    num_speakers : int
        Of the trials.
    level : float
        As for ``confidence.bootstrap``.
    forward, back : function
        To the scale and from it, as ``scale_of`` gives them.
    perfect : float or None
        The least or the largest figure, whichever is perfect, if one is.

    Returns
    -------
    Interval
        Of two speakers of width zero: a draw that leaves trials of both
        kinds has each of them once, and tells nothing.
    """
    value = drawn.value.item()
    middle, draws, left_out = map(forward, drawn)
    margin = margin_of(level, num_speakers, left_out)
    if np.all(drawn.draws == value):
        return Interval(value, value, value)
    draws = draws - middle
    tails = np.quantile(draws, [(1 + level) / 2, (1 - level) / 2])
    tails *= margin / ndtri((1 + level) / 2)
    half_width = margin * np.std(draws, ddof=1)
    bias = np.mean(draws)
    middle = middle.item()
    low = back(middle - max(bias + half_width, tails[0]))
    high = back(middle - min(bias - half_width, tails[1]))
    if perfect == 0:
        low = max(low, drawn.draws.min())
    elif perfect == 1:
        high = min(high, drawn.draws.max())
    # Where the bias is large beside the spread, the value is still shown.
    return Interval(value, float(min(low, value)), float(max(high, value)))


def margin_of(level, num_speakers, left_out=None):
    """Half the width of an interval, in standard deviations of draws.

    Student's t, since the spread of few speakers is not well known, and
    wider by the root of n / (n - 1), since draws spread around their own
    mean.

    Arguments
    ---------
    level : float
        As for ``confidence.bootstrap``.
    num_speakers : int
    left_out : numpy.ndarray, optional
        As in ``Drawn``, on the scale of the interval; without it, speakers
        matter as if normally distributed.

    Raises
    ------
    AttnError
        ``level`` lies outside (0, 1).
    """
    if not 0 < level < 1:
        raise AttnError(f"level: want a number in (0, 1), got {level}.")
    freedom = num_speakers - 1
    if left_out is not None:
        freedom = min(freedom, _freedom(left_out, num_speakers))
    student = stdtrit(freedom, (1 + level) / 2)
    return student * np.sqrt(num_speakers / (num_speakers - 1))


def scale_of(metric, unit):
    """Where draws of a metric are near to normal, the way back, its best.

    Half a unit keeps 0, and 1 where a metric ends there, finite.
    """
    most = largest(metric)
    if most != 1:
        return (
            lambda cost: np.log(cost + unit / 2),
            lambda log: np.clip(np.exp(log) - unit / 2, 0, most),
            0,
        )
    return (
        lambda rate: logit((rate + unit / 2) / (1 + unit)),
        lambda odds: np.clip(expit(odds) * (1 + unit) - unit / 2, 0, 1),
        int(metric == "auc"),
    )


def largest(metric):
    """The largest figure that a metric can be."""
    if metric == "cllr":
        return np.inf
    if metric.startswith("act_dcf"):
        # Every trial decided wrongly, over the cost without scores.
        costs = dcf_costs(metric)[1]
        return sum(costs) / min(costs)
    return 1


def _freedom(left_out, num_speakers):
    """Degrees of freedom of a variance, by the tails of what makes it.

    The variance of n numbers with kurtosis k varies as that of normal ones
    with so many degrees of freedom; for normal numbers, k = 3, it is n - 1.
    """
    variance = np.var(left_out) if len(left_out) else 0.0
    if variance == 0:  # as where no speaker can be left out
        return LEAST_FREEDOM
    kurtosis = np.mean((left_out - np.mean(left_out)) ** 4) / variance**2
    n = num_speakers
    return max(2 * n / (kurtosis - (n - 3) / (n - 1)), LEAST_FREEDOM)
