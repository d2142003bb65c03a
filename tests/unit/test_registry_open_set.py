"""Who is not enrolled gets a name as often as was stated, at most."""

import dataclasses
import math

import numpy as np
import pytest

from speechbrain_attn.errors import AttnError
from speechbrain_attn.inference.open_set import (
    open_set_rule,
    rule_from_calibration,
    rule_from_cohort,
)
from speechbrain_attn.inference.registry import Registry
from speechbrain_attn.inference.voice_index import ExactSearch
from speechbrain_attn.scoring.calibration import Calibration, DurationTerm
from speechbrain_attn.scoring.thresholds import THRESHOLDS, Threshold

MODEL, SIZE = "ab" * 32, 11


def calibration(nontargets=10_000, **more):
    """Log-likelihood ratio 10 * cosine - 2, made up."""
    thresholds = {name: Threshold(0.5, 40, 40) for name in THRESHOLDS}
    thresholds["fa_0.01"] = Threshold(0.41, 100, 40)
    thresholds["fa_0.001"] = Threshold(0.62, 40, 90)
    return Calibration(
        **{
            "scoring": "cosine",
            "model_sha256": MODEL,
            "made_with": None,
            "slope": 10.0,
            "offset": -2.0,
            "duration_term": None,
            "p_target": 0.05,
            "trial_list": "dev.txt",
            "targets": 900,
            "nontargets": nontargets,
            "speakers": 40,
            "separable": False,
            "thresholds": thresholds,
            **more,
        }
    )


# fmt: off
CASES = [  # rate, voices, threshold: far / voices decides
    (0.01, 1, 0.41), (0.5, 50, 0.41), (0.02, 3, 0.62), (0.01, 10, 0.62),
    (0.001, 1, 0.62), (0.001, 2, (math.log(2000) + 2) / 10),
    (0.01, 11, (math.log(1100) + 2) / 10),
    (0.001, 10**6, (math.log(10**9) + 2) / 10),
]
# fmt: on


@pytest.mark.parametrize("far, num_voices, threshold", CASES)
def test_thresholds_of_the_calibration(far, num_voices, threshold):
    rule = rule_from_calibration(calibration(), num_voices, far)
    assert rule.threshold == pytest.approx(threshold, abs=1e-12)
    assert "dev.txt" in rule.basis
    assert rule.accepts(threshold + 1e-6) is True
    assert rule.accepts(threshold - 1e-6) is False


def test_a_list_too_small_for_a_rate_does_not_show_it():
    rule = rule_from_calibration(calibration(nontargets=900), 1, 0.001)
    assert rule.threshold == pytest.approx((math.log(1000) + 2) / 10)


def test_what_the_list_is_too_small_for_is_said():
    thin = calibration(separable=True)
    assert rule_from_calibration(thin, 1, 0.01).notes == thin.notes != []


def test_a_threshold_beyond_all_cosines_is_said():
    *_, note = rule_from_calibration(calibration(slope=3.0), 100, 1e-3).notes
    assert note.startswith("No cosine is above 4.5, so everybody is rejected")
    assert rule_from_calibration(calibration(), 2, 1e-3).notes == []


def test_a_calibration_of_durations_gives_no_bound():
    term = DurationTerm(0.1, 0.1, 1.0, 9.0)
    timed = dataclasses.replace(calibration(), duration_term=term)
    assert rule_from_calibration(timed, 1, 0.01).threshold == 0.41
    rule = rule_from_calibration(timed, 100, 0.01)
    assert rule.threshold is None and rule.accepts(1.0) is None
    assert "takes durations, which a registry does not keep" in rule.basis


def test_the_bound_holds_for_calibrated_scores():
    """Normal log-likelihood ratios of an EER of 7 %, and one voice of many.

    The mean of nontargets of a calibrated system is minus half the variance.
    """
    spread, num_voices, far = 3.0, 20, 0.05
    draw = np.random.default_rng(4)
    llrs = draw.normal(-(spread**2) / 2, spread, (40_000, num_voices))
    # Half of the chance is shared: nothing is assumed of independence.
    llrs[::2] = llrs[::2, :1]
    rule = rule_from_calibration(
        calibration(offset=0.0, slope=1.0, nontargets=1), num_voices, far
    )
    part = np.mean(llrs.max(axis=1) > rule.threshold)
    assert part <= far
    # Control: the same threshold for one voice is too low for twenty.
    alone = rule_from_calibration(
        calibration(offset=0.0, slope=1.0, nontargets=1), 1, far
    )
    assert np.mean(llrs.max(axis=1) > alone.threshold) > far


def test_a_cohort_keeps_the_rate_that_was_stated():
    """Over cohorts, of any distribution of cosines."""
    draw = np.random.default_rng(5)
    cosines = np.tanh(draw.gumbel(0.3, 0.2, (6000, 40)))
    rules = [rule_from_cohort(row[1:], far=0.08) for row in cosines]
    part = np.mean(
        [
            rule.accepts(new)
            for rule, new in zip(rules, cosines[:, 0], strict=True)
        ]
    )
    assert part == pytest.approx(3 / 40, abs=0.012)  # floor(0.08 * 40)


@pytest.mark.parametrize(
    "far, num, place", [(0.001, 999, 1), (0.001, 2999, 3), (0.3, 9, 3)]
)
def test_place_in_the_cohort(far, num, place):
    cosines = np.random.default_rng(6).permutation(np.linspace(0, 1, num))
    rule = rule_from_cohort(cosines, far)
    assert rule.threshold == np.sort(cosines)[-place]


@pytest.mark.parametrize(
    "far, num, lowest", [(0.001, 998, 0.0011), (0.1, 8, 0)]
)
def test_a_cohort_too_small_for_the_rate(far, num, lowest):
    says = rf"far={far}.* cohort of {num} rec.*, or a cohort of {num + 1} rec"
    with pytest.raises(AttnError, match=says) as caught:
        rule_from_cohort(np.linspace(0, 1, num), far)
    # What it names is enough.
    named = float(str(caught.value).split("from ")[1].split(" on.")[0])
    assert rule_from_cohort(np.linspace(0, 1, num), named).threshold == 1


@pytest.fixture
def registry(tmp_path):
    with Registry.create(tmp_path, MODEL, SIZE) as registry:
        registry.add(["anna", "ben"], np.eye(SIZE)[:2])
        yield registry


def test_the_best_data_decide(registry):
    search = ExactSearch(registry)
    rule = open_set_rule(search, registry, None, 0.3)
    assert rule.threshold is None and rule.accepts(0.99) is None
    assert "no calibration.json, and the registry no cohort" in rule.basis
    rule = open_set_rule(search, registry, calibration(), 0.02)
    assert rule.threshold == 0.41
    for other in ({"model_sha256": "cd" * 32}, {"scoring": "plda"}):
        rule = open_set_rule(search, registry, calibration(**other), 0.02)
        assert rule.threshold is None
        assert "calibration.json was fitted on " in rule.basis
    near = np.eye(SIZE)[:4] + np.eye(SIZE)[3]
    registry.set_cohort(near)
    rule = open_set_rule(search, registry, calibration(), 0.3)
    assert rule.threshold == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("far", [0, 1, -0.1, float("nan")])
def test_a_rate_out_of_range(registry, far):
    with pytest.raises(AttnError, match="between 0 and 1, got"):
        open_set_rule(ExactSearch(registry), registry, None, far)
