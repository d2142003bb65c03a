"""Equal error rate by the duration of the shorter side of a trial."""

from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.confidence import Interval, bootstrap
from speechbrain_attn.scoring.metrics import as_array, checked

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
    shorter = checked_durations(durations, scores).min(axis=1)
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
    bins = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        inside = (shorter >= start) & (shorter < stop)
        if stop == edges[-1]:
            inside |= shorter == stop
        targets = int(np.count_nonzero(labels[inside]))
        nontargets = int(np.count_nonzero(inside)) - targets
        interval = None
        if min(targets, nontargets) >= FEWEST_TRIALS:
            interval = bootstrap(
                scores[inside],
                labels[inside],
                np.asarray(enrol_speakers)[inside],
                np.asarray(test_speakers)[inside],
                metrics=("eer",),
                replicates=replicates,
                seed=seed,
            )["eer"]
        bins.append(
            DurationBin(
                float(start), float(stop), targets, nontargets, interval
            )
        )
    return bins


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
