"""What must hold of a calibration fitted on any scores."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.reliability import reliability

# Few values, so that ties are the rule.
SCORES = st.lists(st.integers(-20, 20), min_size=2, max_size=30)
P_TARGET = st.floats(0.001, 0.999)
once = settings(derandomize=True, deadline=None, max_examples=100)


def fitted(targets, nontargets, p_target, scale=1.0, shift=0.0):
    """A calibration, its scores and its labels; skips an inverted list."""
    scores = np.array([*targets, *nontargets], dtype=np.float64)
    labels = np.arange(len(scores)) < len(targets)
    try:
        found = Calibration.fit(scores * scale + shift, labels, p_target)
    except AttnError as error:
        assert "field slope" in str(error)
        assume(False)
    return found, scores, labels


@once
@given(SCORES, SCORES, P_TARGET)
def test_a_higher_score_is_never_less_likely(targets, nontargets, p):
    found, scores, _ = fitted(targets, nontargets, p)
    llrs = found.llr(np.sort(scores))
    assert np.isfinite(llrs).all()
    assert (np.diff(llrs) >= 0).all()
    posteriors = found.posterior(llrs, p)
    assert (np.diff(posteriors) >= 0).all()
    assert ((posteriors >= 0) & (posteriors <= 1)).all()


@once
@given(SCORES, SCORES, P_TARGET, st.floats(0.01, 100), st.floats(-50, 50))
def test_the_scale_of_the_scores_has_no_say(targets, nontargets, p, a, b):
    found, scores, _ = fitted(targets, nontargets, p)
    scaled, _, _ = fitted(targets, nontargets, p, a, b)
    expected = found.llr(scores)
    # In separated lists the loss is all but flat, and small differences of
    # the standardised scores move its minimum more.
    assert scaled.llr(a * scores + b) == pytest.approx(
        expected, rel=1e-4, abs=1e-4
    )
    for name, threshold in scaled.thresholds.items():
        same = found.thresholds[name]
        assert threshold.false_accepts == same.false_accepts
        assert threshold.misses == same.misses


@once
@given(SCORES, SCORES, P_TARGET, st.randoms(use_true_random=False))
def test_the_order_of_trials_has_no_say(targets, nontargets, p, random):
    found, scores, _ = fitted(targets, nontargets, p)
    random.shuffle(targets)
    random.shuffle(nontargets)
    other, _, _ = fitted(targets, nontargets, p)
    assert other.llr(scores) == pytest.approx(
        found.llr(scores), rel=1e-5, abs=1e-5
    )
    assert other.thresholds == found.thresholds


@once
@given(SCORES, SCORES, P_TARGET)
def test_the_posteriors_of_the_list_itself_add_up(targets, nontargets, p):
    """Where the loss is lowest, its slope over the offset is 0."""
    found, scores, labels = fitted(targets, nontargets, p)
    posteriors = found.posterior(found.llr(scores), p)
    mean = p * posteriors[labels].mean() + (1 - p) * posteriors[~labels].mean()
    assert mean == pytest.approx(p, rel=1e-6)


@once
@given(SCORES, SCORES, P_TARGET, st.integers(1, 40))
def test_reliability_counts_every_trial_once(targets, nontargets, p, bins):
    llrs = np.array([*targets, *nontargets], dtype=np.float64)
    labels = np.arange(len(llrs)) < len(targets)
    found = reliability(llrs, labels, p, bins)
    assert found.counts.sum() == len(llrs)
    filled = found.counts > 0
    assert np.isnan(found.posterior[~filled]).all()
    inside = found.posterior[filled]
    assert (inside >= found.edges[:-1][filled] - 1e-12).all()
    assert (inside <= found.edges[1:][filled] + 1e-12).all()
    assert (found.observed[filled] >= 0).all()
    assert (found.observed[filled] <= 1).all()
