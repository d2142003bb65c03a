"""What must hold of EER and minDCF for any scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_attn.scoring.metrics import eer, min_dcf

# Few values, so that ties are the rule.
SCORES = st.lists(st.integers(-20, 20), min_size=1, max_size=30)
P_TARGET = st.floats(0.001, 0.999)
once = settings(derandomize=True, deadline=None, max_examples=200)


def joined(targets, nontargets):
    scores = np.array([*targets, *nontargets], dtype=np.float64)
    return scores, np.arange(len(scores)) < len(targets)


@once
@given(SCORES, SCORES, P_TARGET)
def test_a_strictly_increasing_map_changes_nothing(targets, nontargets, p):
    scores, labels = joined(targets, nontargets)
    mapped = np.arctan(scores) * 7 - 2
    assert eer(mapped, labels) == eer(scores, labels)
    assert min_dcf(mapped, labels, p) == min_dcf(scores, labels, p)


@once
@given(SCORES, SCORES, P_TARGET)
def test_listing_each_trial_twice_changes_nothing(targets, nontargets, p):
    scores, labels = joined(targets, nontargets)
    twice = np.tile(scores, 2), np.tile(labels, 2)
    assert eer(*twice) == eer(scores, labels)
    assert min_dcf(*twice, p) == min_dcf(scores, labels, p)


@once
@given(SCORES, SCORES, P_TARGET, st.randoms(use_true_random=False))
def test_the_order_of_trials_has_no_say(targets, nontargets, p, random):
    scores, labels = joined(targets, nontargets)
    order = list(range(len(scores)))
    random.shuffle(order)
    assert eer(scores[order], labels[order]) == eer(scores, labels)
    shuffled = min_dcf(scores[order], labels[order], p)
    assert shuffled == min_dcf(scores, labels, p)


@once
@given(SCORES, SCORES, P_TARGET)
def test_rates_and_normalised_costs_lie_in_the_unit_interval(
    targets, nontargets, p
):
    scores, labels = joined(targets, nontargets)
    assert 0 <= eer(scores, labels) <= 1
    assert 0 <= min_dcf(scores, labels, p) <= 1


@once
@given(SCORES, SCORES, P_TARGET)
def test_swapping_the_classes_mirrors(targets, nontargets, p):
    scores, labels = joined(targets, nontargets)
    swapped = -scores, ~labels
    assert eer(*swapped) == pytest.approx(eer(scores, labels), abs=1e-12)
    mirrored = min_dcf(*swapped, 1 - p)
    assert mirrored == pytest.approx(min_dcf(scores, labels, p), abs=1e-9)
    # The reversed decision makes the complementary errors.
    reversed_rate = eer(-scores, labels)
    assert reversed_rate == pytest.approx(1 - eer(scores, labels), abs=1e-12)


@once
@given(SCORES, SCORES)
def test_raising_a_target_never_hurts(targets, nontargets):
    scores, labels = joined(targets, nontargets)
    raised = scores.copy()
    raised[0] += 5
    assert eer(raised, labels) <= eer(scores, labels) + 1e-12
    assert min_dcf(raised, labels) <= min_dcf(scores, labels) + 1e-12
