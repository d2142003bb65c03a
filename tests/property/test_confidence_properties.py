"""What must hold of intervals for any trials."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_attn.scoring.confidence import (
    SpeakerTrials,
    bootstrap,
    paired_bootstrap,
)

ORDERED = ("eer", "min_dcf_0.05", "auc", "min_cllr")
once = settings(derandomize=True, deadline=None, max_examples=50)


@st.composite
def lists(draw):
    """Scores, labels and speakers; few scores, so that ties are the rule."""
    speaker = st.integers(0, draw(st.integers(1, 7)))
    pairs = draw(st.lists(st.tuples(speaker, speaker), max_size=30))
    enrol, test = np.array([(0, 0), (0, 1), *pairs]).T
    score = st.integers(-9, 9)
    count = len(enrol)
    scores = draw(st.lists(score, min_size=count, max_size=count))
    return np.array(scores), enrol == test, enrol, test


@once
@given(lists(), st.integers(0, 99))
def test_a_separated_list_has_width_zero(trials, seed):
    scores, labels, *speakers = trials
    separated = scores + 20 * labels
    found = bootstrap(separated, labels, *speakers, ORDERED, 20, seed=seed)
    for metric, interval in found.items():
        assert interval == (float(metric == "auc"),) * 3


@once
@given(lists(), st.integers(0, 99))
def test_an_interval_lies_around_its_value_within_range(trials, seed):
    found = bootstrap(*trials, ORDERED, 20, seed=seed)
    for value, low, high in found.values():
        assert 0 <= low <= value <= high <= 1


@once
@given(lists(), st.integers(0, 99), st.randoms(use_true_random=False))
def test_order_and_scale_of_trials_have_no_say(trials, seed, random):
    order = list(range(len(trials[0])))
    random.shuffle(order)
    scores, *others = (side[order] for side in trials)
    found = bootstrap(np.arctan(scores), *others, ORDERED, 20, seed=seed)
    assert found == bootstrap(*trials, ORDERED, 20, seed=seed)


@once
@given(lists(), st.integers(0, 99))
def test_swapping_the_sides_of_trials_changes_nothing(trials, seed):
    scores, labels, enrol, test = trials
    found = bootstrap(scores, labels, test, enrol, ORDERED, 20, seed=seed)
    assert found == bootstrap(*trials, ORDERED, 20, seed=seed)


@once
@given(lists(), st.integers(0, 99))
def test_swapping_the_systems_mirrors(trials, seed):
    scores, *others = trials
    second = scores[::-1]
    one = paired_bootstrap(scores, second, *others, ORDERED, 20, seed=seed)
    two = paired_bootstrap(second, scores, *others, ORDERED, 20, seed=seed)
    for metric in ORDERED:
        value, low, high = one[metric].difference
        np.testing.assert_allclose(
            two[metric].difference, (-value, -high, -low), atol=1e-12
        )
        np.testing.assert_allclose(
            two[metric].ratio[1:],
            [1 / one[metric].ratio.high, 1 / one[metric].ratio.low],
            rtol=1e-9,
        )


@once
@given(lists(), st.integers(0, 99))
def test_draws_do_not_hang_on_the_scores(trials, seed):
    """The same speakers are drawn for every system."""
    scores, *others = trials
    sampled = SpeakerTrials(*others)
    one = sampled.draw(scores, ["auc"], 20, seed)["auc"]
    two = sampled.draw(-scores, ["auc"], 20, seed)["auc"]
    for there, back in zip(one, two, strict=True):
        np.testing.assert_allclose(there, 1 - back, atol=1e-12)
