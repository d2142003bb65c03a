"""Confidence bands of DET curves, by drawing speakers again."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from speechbrain_attn.scoring.confidence import SpeakerTrials
from speechbrain_attn.scoring.intervals import margin_of
from speechbrain_attn.scoring.metrics import checked

NUM_POINTS = 200


class DetBand(NamedTuple):
    """False rejection between ``low`` and ``high`` at each false acceptance.

    Fractions, [points] each; ``level`` is the probability that the curve lies
    between them, at each point by itself.
    """

    false_acceptance: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float


def det_band(
    scores,
    labels,
    enrol_speakers,
    test_speakers,
    replicates=200,
    level=0.95,
    seed=0,
):
    """Band of the DET curve of all speakers of whom these are a sample.

    The draws and the width in standard deviations are those of
    ``confidence.bootstrap``; the deviations are of false rejection on the
    scale of the picture, its normal deviate.

    Arguments
    ---------
    scores, labels : array or tensor
        [trials] each, as for ``metrics.eer``.
    enrol_speakers, test_speakers, replicates, level, seed
        As for ``confidence.bootstrap``.

    Returns
    -------
    DetBand
        At points that lie evenly on the axis of a DET picture, from a false
        acceptance of one nontarget to that of all but one.

    Raises
    ------
    AttnError
        As ``confidence.bootstrap``.

    Example
    -------
    >>> generator = np.random.default_rng(0)
    >>> speakers = generator.integers(40, size=(2, 2000))
    >>> speakers[1, :1000] = speakers[0, :1000]
    >>> labels = speakers[0] == speakers[1]
    >>> band = det_band(generator.normal(2.0 * labels), labels, *speakers)
    >>> at = np.searchsorted(band.false_acceptance, 0.1)
    >>> bool(band.low[at] < 0.236 < band.high[at])  # Phi(1.28 - 2)
    True
    """
    trials = SpeakerTrials(labels, enrol_speakers, test_speakers)
    margin = margin_of(level, trials.num_speakers)
    one = 1 / max(np.count_nonzero(~trials.labels), 3)
    grid = ndtr(np.linspace(ndtri(one), ndtri(1 - one), NUM_POINTS))
    own, *drawn = _deviates(trials, scores, grid, replicates, seed)
    middle = 2 * own - np.mean(drawn, axis=0)
    half_width = margin * np.std(drawn, axis=0, ddof=1)
    return DetBand(
        grid,
        ndtr(np.minimum(middle - half_width, own)),
        ndtr(np.maximum(middle + half_width, own)),
        level,
    )


def _deviates(trials, scores, grid, replicates, seed):
    """Yield the normal deviate of false rejection at each point of the grid.

    Of the trials as they are, then of each draw of their speakers.
    """
    scores, labels = checked(scores, trials.labels)
    order = np.argsort(scores)[::-1]
    # Trials of equal score are accepted together.
    last = np.append(np.diff(scores[order]) != 0, True)
    labels, enrol, test = (
        side[order] for side in (labels, trials.enrol, trials.test)
    )
    # A draw without an error has no deviate: half an error stands for it.
    least = 0.5 / np.count_nonzero(labels)
    for times in trials.times_drawn(replicates, seed):
        target_weights = np.where(labels, times[enrol], 0)
        nontarget_weights = np.where(labels, 0, times[enrol] * times[test])
        found = np.append(0, np.cumsum(target_weights)[last])
        accepted = np.append(0, np.cumsum(nontarget_weights)[last])
        # The lowest threshold that accepts no more than the grid says.
        at = np.searchsorted(accepted, grid * accepted[-1], "right") - 1
        missed = 1 - found[at] / found[-1]
        yield ndtri(np.clip(missed, least, 1 - least))
