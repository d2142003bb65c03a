"""Equal error rate by the duration of the shorter side of a trial."""

import itertools
from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.confidence import bootstrap
from speechbrain_attn.scoring.intervals import Interval
from speechbrain_attn.scoring.metrics import checked, checked_durations

FEWEST_TRIALS = 10  # of a kind; of fewer an error rate says nothing


class DurationBin(NamedTuple):
    """Trials whose shorter side lasts from ``start_s`` to below ``stop_s``.

    ``eer`` is an Interval, None where a kind has fewer than 10 trials. The
    last bin holds its ``stop_s`` too.
    """

    start_s: float
    stop_s: float
    targets: int
    nontargets: int
    eer: Interval | None


def eer_by_duration(
    scores,
    labels,
    durations,
    enrol_speakers,
    test_speakers,
    edges=5,
    replicates=1000,
    seed=0,
):
    """EER of the trials of each bin of duration, with its interval.

    Arguments
    ---------
    scores, labels : array or tensor
        [trials] each, as for ``metrics.eer``.
    durations : array
        [trials, 2], seconds of the two sides; the shorter one counts, since
        it is what holds a trial back.
    enrol_speakers, test_speakers : array
        [trials] each, as for ``confidence.bootstrap``.
    edges : int or sequence of float
        Seconds, rising; what lies outside is left out. A number asks for so
        many bins of about as many trials each.
    replicates, seed : int
        Of the bootstrap.

    Returns
    -------
    list of DurationBin
        In order of their durations.

    Raises
    ------
    AttnError
        As ``confidence.bootstrap``; the durations have another shape or are
        not above 0, or the edges do not rise.

    Example
    -------
    >>> seconds = np.tile([[2.0, 9.0], [4.0, 3.0]], (40, 1))
    >>> labels = np.arange(80) < 40
    >>> speakers = np.arange(80) % 8, (np.arange(80) + ~labels) % 8
    >>> bins = eer_by_duration(labels, labels, seconds, *speakers, [1, 3, 5])
    >>> [(b.start_s, b.stop_s, b.targets, b.eer.value) for b in bins]
    [(1.0, 3.0, 20, 0.0), (3.0, 5.0, 20, 0.0)]
    """
    scores, labels = checked(scores, labels)
    speakers = np.asarray(enrol_speakers), np.asarray(test_speakers)
    shorter = checked_durations(durations, scores).min(axis=1)
    edges = _edges(edges, shorter)
    # The last bin holds its end too.
    bin_of = np.searchsorted(edges, shorter, side="right") - 1
    bin_of[shorter == edges[-1]] -= 1
    bins = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges.tolist())):
        inside = bin_of == number
        trials = (labels[inside], *(side[inside] for side in speakers))
        targets = int(np.count_nonzero(trials[0]))
        nontargets = len(trials[0]) - targets
        rate = None
        if min(targets, nontargets) >= FEWEST_TRIALS:
            rate = bootstrap(
                scores[inside], *trials, ("eer",), replicates, seed=seed
            )["eer"]
        bins.append(DurationBin(start, stop, targets, nontargets, rate))
    return bins


def _edges(edges, shorter):
    """Edges of the bins, rising; a number asks for so many equal bins."""
    if np.ndim(edges) == 0:
        shares = np.linspace(0, 1, edges + 1)
        # Durations are often rounded, so two quantiles can be the same.
        edges = np.unique(np.quantile(shorter, shares, method="lower"))
    edges = np.asarray(edges, dtype=np.float64)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise AttnError(
            f"edges: want two or more rising durations, got {edges.tolist()}; "
            "trials of a single duration have no bins."
        )
    return edges
