"""What must hold of the metrics for any scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_attn.scoring.error_counts import pav, turning_points
from speechbrain_attn.scoring.metrics import (
    act_dcf,
    auc,
    cllr,
    det_curve,
    eer,
    min_cllr,
    min_dcf,
)

# Few values, so that ties are the rule.
SCORES = st.lists(st.integers(-20, 20), min_size=1, max_size=30)
P_TARGET = st.floats(0.001, 0.999)
once = settings(derandomize=True, deadline=None, max_examples=200)


def all_of(scores, labels, p):
    """The metrics that know the order of scores alone."""
    return (
        eer(scores, labels),
        min_dcf(scores, labels, p),
        auc(scores, labels),
        min_cllr(scores, labels),
    )


def joined(targets, nontargets):
    scores = np.array([*targets, *nontargets], dtype=np.float64)
    return scores, np.arange(len(scores)) < len(targets)


@once
@given(SCORES, SCORES, P_TARGET)
def test_a_strictly_increasing_map_changes_nothing(targets, nontargets, p):
    scores, labels = joined(targets, nontargets)
    mapped = np.arctan(scores) * 7 - 2
    assert all_of(mapped, labels, p) == all_of(scores, labels, p)


@once
@given(SCORES, SCORES, P_TARGET)
def test_listing_each_trial_twice_changes_nothing(targets, nontargets, p):
    scores, labels = joined(targets, nontargets)
    twice = np.tile(scores, 2), np.tile(labels, 2)
    assert all_of(*twice, p) == all_of(scores, labels, p)


@once
@given(SCORES, SCORES, P_TARGET, st.randoms(use_true_random=False))
def test_the_order_of_trials_has_no_say(targets, nontargets, p, random):
    scores, labels = joined(targets, nontargets)
    order = list(range(len(scores)))
    random.shuffle(order)
    shuffled = all_of(scores[order], labels[order], p)
    assert shuffled == all_of(scores, labels, p)


@once
@given(SCORES, SCORES, P_TARGET)
def test_rates_and_normalised_costs_lie_in_the_unit_interval(
    targets, nontargets, p
):
    scores, labels = joined(targets, nontargets)
    assert all(0 <= figure <= 1 for figure in all_of(scores, labels, p))


@once
@given(SCORES, SCORES, P_TARGET)
def test_swapping_the_classes_mirrors(targets, nontargets, p):
    scores, labels = joined(targets, nontargets)
    swapped = -scores, ~labels
    assert eer(*swapped) == pytest.approx(eer(scores, labels), abs=1e-12)
    mirrored = min_dcf(*swapped, 1 - p)
    assert mirrored == pytest.approx(min_dcf(scores, labels, p), abs=1e-9)
    assert auc(*swapped) == pytest.approx(auc(scores, labels), abs=1e-12)
    bits = min_cllr(scores, labels)
    assert min_cllr(*swapped) == pytest.approx(bits, abs=1e-12)
    assert cllr(*swapped) == pytest.approx(cllr(scores, labels), rel=1e-12)
    # The reversed decision makes the complementary errors.
    reversed_rate = eer(-scores, labels)
    assert reversed_rate == pytest.approx(1 - eer(scores, labels), abs=1e-12)
    reversed_area = auc(-scores, labels)
    assert reversed_area == pytest.approx(1 - auc(scores, labels), abs=1e-12)


@once
@given(SCORES, SCORES)
def test_raising_a_target_never_hurts(targets, nontargets):
    scores, labels = joined(targets, nontargets)
    raised = scores.copy()
    raised[0] += 5
    assert eer(raised, labels) <= eer(scores, labels) + 1e-12
    assert min_dcf(raised, labels) <= min_dcf(scores, labels) + 1e-12
    assert auc(raised, labels) >= auc(scores, labels)
    assert min_cllr(raised, labels) <= min_cllr(scores, labels) + 1e-12


@once
@given(SCORES, SCORES, P_TARGET)
def test_calibration_has_its_price(targets, nontargets, p):
    llrs, labels = joined(targets, nontargets)
    llrs = llrs / 3  # a spread that is calibrated about as often as not
    assert min_dcf(llrs, labels, p) <= act_dcf(llrs, labels, p)
    assert min_cllr(llrs, labels) <= cllr(llrs, labels) + 1e-12


@once
@given(SCORES, SCORES)
def test_pav_rises_and_loses_no_trial(targets, nontargets):
    below = turning_points(np.sort(targets), np.sort(nontargets))
    found, false = pav(below[0], below[1][-1] - below[1])
    assert found.sum() == len(targets)
    assert false.sum() == len(nontargets)
    # Cross products of the shares, in whole numbers.
    assert np.all(found[:-1] * false[1:] <= found[1:] * false[:-1])


@once
@given(SCORES, SCORES, P_TARGET)
def test_the_det_curve_holds_every_rate(targets, nontargets, p):
    """Counted trial by trial, and the metrics read off it."""
    scores, labels = joined(targets, nontargets)
    far, frr, thresholds = det_curve(scores, labels)
    assert list(thresholds) == [*sorted(set(scores)), np.inf]
    for number, threshold in enumerate(thresholds):
        accepted = scores >= threshold
        assert far[number] == np.mean(accepted[~labels])
        assert frr[number] == np.mean(~accepted[labels])
    cost = (p * frr + (1 - p) * far).min() / min(p, 1 - p)
    assert min_dcf(scores, labels, p) == pytest.approx(cost, rel=1e-12)
    rate = np.interp(0.0, frr - far, far)
    assert eer(scores, labels) == pytest.approx(rate, abs=1e-12)
