"""What pictures are drawn from: DET bands, reliability, EER by duration."""

import numpy as np
import pytest
from scipy.special import logit, ndtri, stdtrit
from simulated_trials import simulated_trials

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.confidence import bootstrap
from speechbrain_attn.scoring.det_bands import det_band
from speechbrain_attn.scoring.durations import eer_by_duration
from speechbrain_attn.scoring.metrics import det_curve, eer
from speechbrain_attn.scoring.reliability import reliability


@pytest.fixture(scope="module")
def trials():
    return simulated_trials()


@pytest.fixture(scope="module")
def band(trials):
    return det_band(*trials, replicates=300)


def test_a_det_band_holds_the_curve_and_the_bootstrap(trials, band):
    scores, labels, *sides = trials
    curve = det_curve(scores, labels)
    at = np.searchsorted(-curve.false_acceptance, -band.false_acceptance)
    found = curve.false_rejection[at]
    middle = (band.false_acceptance > 0.01) & (band.false_acceptance < 0.3)
    assert middle.sum() > 30
    assert (band.low <= found)[middle].all()
    assert (found <= band.high)[middle].all()
    assert (band.low < band.high)[middle].all()
    # Where the band meets the diagonal is near the interval of the EER.
    interval = bootstrap(
        scores, labels, *sides, metrics=("eer",), replicates=300
    )["eer"]
    for edge, rate in ((band.low, interval.low), (band.high, interval.high)):
        crossing = np.argmin(np.abs(edge - band.false_acceptance))
        assert edge[crossing] == pytest.approx(rate, rel=0.15)


def test_a_band_is_the_spread_of_repeated_trials():
    """Each draw as a list in which a trial stands as often as it weighs."""
    scores, labels, enrol, test = (kind[::10] for kind in simulated_trials(1))
    band = det_band(scores, labels, enrol, test, replicates=20, seed=5)
    generator = np.random.default_rng(5)
    names = np.unique([enrol, test])
    weights = [np.ones(len(scores), dtype=int)]
    for _ in range(20):
        times = generator.multinomial(len(names), [1 / len(names)] * len(names))
        times = dict(zip(names, times, strict=True))
        weights.append(
            [
                times[a] if same else times[a] * times[b]
                for same, a, b in zip(labels, enrol, test, strict=True)
            ]
        )
    at = 50  # a false acceptance of 8 %
    missed = []
    for weight in weights:
        curve = det_curve(np.repeat(scores, weight), np.repeat(labels, weight))
        few = curve.false_acceptance <= band.false_acceptance[at]
        missed.append(curve.false_rejection[few].min())
    own, *drawn = ndtri(missed)
    margin = stdtrit(len(names) - 1, 0.975) * np.std(drawn, ddof=1)
    margin *= np.sqrt(len(names) / (len(names) - 1))
    middle = 2 * own - np.mean(drawn)
    assert ndtri(band.low[at]) == pytest.approx(middle - margin)
    assert ndtri(band.high[at]) == pytest.approx(middle + margin)


def test_a_band_widens_with_its_level_and_with_fewer_speakers(trials, band):
    scores, labels, enrol, test = trials
    middle = np.abs(band.false_acceptance - 0.05).argmin()

    def width(found):
        return found.high[middle] - found.low[middle]

    narrow = det_band(*trials, replicates=300, level=0.5)
    assert width(narrow) < 0.5 * width(band)
    few = (enrol < 8) & (test < 8)
    parts = [values[few] for values in trials]
    assert width(det_band(*parts, replicates=300)) > 1.5 * width(band)
    np.testing.assert_array_equal(
        det_band(*trials, replicates=300).low, band.low
    )


def test_bad_bands_are_refused(trials):
    scores, labels, enrol, test = trials
    with pytest.raises(AttnError, match=r"level: .* got 95"):
        det_band(*trials, level=95)
    with pytest.raises(AttnError, match="contradict"):
        det_band(scores, ~labels, enrol, test)


def test_reliability_by_hand():
    # At prior 0.5 each of 2 targets weighs 1/4, each of 4 nontargets 1/8.
    llrs = logit([0.9, 0.2, 0.2, 0.1, 0.1, 0.95])
    found = reliability(llrs, [1, 1, 0, 0, 0, 0], 0.5, num_bins=2)
    assert found.counts.tolist() == [4, 2]
    assert found.observed == pytest.approx([2 / 5, 2 / 3])
    assert found.posterior == pytest.approx(
        [(0.2 * 2 + 0.2 + 0.1 + 0.1) / 5, (0.9 * 2 + 0.95) / 3]
    )
    # Posteriors of 0 and of 1 lie in the first and in the last bin.
    found = reliability([np.inf, -np.inf], [1, 0], 0.3)
    assert found.counts.tolist() == [1, *[0] * 8, 1]
    with pytest.raises(AttnError, match="num_bins: want 1 or more, got 0"):
        reliability([0.0, 1.0], [0, 1], num_bins=0)


def test_calibrated_scores_are_reliable():
    """Normal classes, whose ratios are known; uncalibrated ones are not."""
    labels = np.arange(400_000) < 200_000
    scores = np.random.default_rng(2).normal(3.0 * labels)
    llrs = 3 * scores - 4.5
    for p_target in (0.5, 0.05):
        found = reliability(llrs, labels, p_target)
        assert found.observed == pytest.approx(found.posterior, abs=0.05)
    found = reliability(scores, labels)
    assert np.abs(found.observed - found.posterior).max() > 0.3


def test_eer_by_duration(trials):
    scores, labels, *sides = trials
    generator = np.random.default_rng(4)
    seconds = generator.uniform(1, 20, size=(6000, 2)).round(1)
    bins = eer_by_duration(scores, labels, seconds, *sides, replicates=50)
    assert len(bins) == 5
    assert sum(b.targets for b in bins) == 2000
    assert sum(b.nontargets for b in bins) == 4000
    shorter = seconds.min(axis=1)
    for found, following in zip(bins, bins[1:], strict=False):
        assert found.stop_s == following.start_s
        inside = (shorter >= found.start_s) & (shorter < found.stop_s)
        assert found.eer.value == eer(scores[inside], labels[inside])
        assert found.eer.low < found.eer.value < found.eer.high
        assert 1000 < inside.sum() < 1400
    # Trials outside are left out; where there are too few there is no EER.
    edges = [2, 10, 19.95]
    few, rest = shorter > 10, np.flatnonzero(shorter < 10)
    kept = np.append(np.flatnonzero(few & labels)[:9], rest)
    found = eer_by_duration(
        scores[kept],
        labels[kept],
        seconds[kept],
        sides[0][kept],
        sides[1][kept],
        edges,
        replicates=20,
    )
    assert found[1][:4] == (10.0, 19.95, 9, 0)
    assert found[1].eer is None
    assert found[0].targets == np.sum(labels[kept] & (shorter[kept] >= 2)) - 9
    with pytest.raises(AttnError, match="edges: .* trials of a single dur"):
        eer_by_duration(scores, labels, seconds * 0 + 3, *sides)
    with pytest.raises(AttnError, match="trial 7 has -1.0; want seconds"):
        seconds[7] = -1
        eer_by_duration(scores, labels, seconds, *sides)
