"""Intervals by drawing speakers: against slow loops, and their coverage."""

import time

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.stats import norm
from scipy.stats import t as student

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring import confidence, metrics
from speechbrain_attn.scoring.confidence import (
    SpeakerTrials,
    bootstrap,
    paired_bootstrap,
)
from speechbrain_attn.scoring.intervals import (
    Drawn,
    interval_of,
    margin_of,
    scale_of,
)

MEASURES = {
    "eer": metrics.eer,
    "min_dcf_0.01": metrics.min_dcf,
    "min_dcf_0.3": lambda *trials: metrics.min_dcf(*trials, p_target=0.3),
    "act_dcf_0.05": lambda *trials: metrics.act_dcf(*trials, p_target=0.05),
    "auc": metrics.auc,
    "cllr": metrics.cllr,
    "min_cllr": metrics.min_cllr,
}


def random_list(seed, speakers=7, targets=61, nontargets=131, decimals=1):
    """Scores with many ties, labels and the speakers of both sides."""
    generator = np.random.default_rng(seed)
    enrol = generator.integers(0, speakers, targets + nontargets)
    shift = generator.integers(1, speakers, nontargets)
    test = enrol.copy()
    test[targets:] = (enrol[targets:] + shift) % speakers
    labels = enrol == test
    scores = generator.normal(2.0 * labels - 1.0).round(decimals)
    return scores, labels, enrol, test


def test_a_draw_equals_the_list_with_trials_repeated():
    scores, labels, enrol, test = random_list(0)
    drawn = SpeakerTrials(labels, enrol, test).draw(scores, MEASURES, 9, seed=5)
    assert list(drawn) == list(MEASURES)
    generator = np.random.default_rng(5)
    for replicate in range(10):
        times = np.ones(7, dtype=int)
        if replicate:
            times = generator.multinomial(7, np.full(7, 1 / 7))
        copies = [
            times[a] if label else times[a] * times[b]
            for a, b, label in zip(enrol, test, labels, strict=True)
        ]
        repeated = np.repeat(scores, copies), np.repeat(labels, copies)
        for metric, measure in MEASURES.items():
            expected = measure(*repeated)
            found = np.append(*drawn[metric][:2])[replicate]
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_speakers_are_left_out_one_by_one():
    scores, labels, enrol, test = random_list(1)
    trials = SpeakerTrials(labels, enrol, test)
    for metric, drawn in trials.draw(scores, MEASURES, 9).items():
        for speaker, found in enumerate(drawn.left_out):
            kept = (enrol != speaker) & (test != speaker)
            expected = MEASURES[metric](scores[kept], labels[kept])
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
        assert len(drawn.left_out) == 7


def test_of_many_speakers_so_many_are_left_out(monkeypatch):
    scores, *trials = random_list(1)
    whole = SpeakerTrials(*trials).draw(scores, ["eer"], 9)["eer"]
    monkeypatch.setattr(confidence, "MOST_LEFT_OUT", 4)
    some = SpeakerTrials(*trials).draw(scores, ["eer"], 9)["eer"]
    np.testing.assert_array_equal(some.draws, whole.draws)
    assert len(some.left_out) == 4
    assert set(some.left_out) < set(whole.left_out)


def test_a_speaker_whom_the_list_cannot_miss_stays():
    """All targets are of speaker 0; without 1, no nontarget is left."""
    enrol, test = np.array([[0, 0, 0, 1, 2], [0, 0, 1, 2, 1]])
    trials = SpeakerTrials(enrol == test, enrol, test)
    drawn = trials.draw([0.9, 0.2, 0.3, 0.1, 0.4], ["eer"], 9)["eer"]
    assert len(drawn.left_out) == 1


def test_few_who_matter_widen_the_interval():
    """Of 40 speakers one has all the errors, or each has as many."""
    even = np.random.default_rng(5).normal(size=40)
    plain = margin_of(0.95, 40)
    assert margin_of(0.95, 40, even) == pytest.approx(plain, rel=0.02)
    widest = student.ppf(0.975, 4) * np.sqrt(40 / 39)
    one = np.where(np.arange(40) == 7, 1.0, 0.0)
    assert margin_of(0.95, 40, one) == pytest.approx(widest)
    assert margin_of(0.95, 40, even[:0]) == pytest.approx(widest)


def freedom(left_out, speakers):
    """Twice the squared mean of a variance over its own variance."""
    squares = (left_out - np.mean(left_out)) ** 2
    # Of a sample: E[u^4] - (n - 3) / (n - 1) E[u^2]^2, over n.
    fourth = np.mean(squares**2)
    second = np.mean(squares) ** 2
    spread = (fourth - (speakers - 3) / (speakers - 1) * second) / speakers
    return np.clip(2 * second / spread, 4, speakers - 1)


def expected_ends(drawn, level, speakers=7):
    """The wider of Student's t and mirrored percentiles, written out."""
    value, draws, left_out = drawn
    value = value.item()
    widening = np.sqrt(speakers / (speakers - 1))
    quantile = student.ppf((1 + level) / 2, freedom(left_out, speakers))
    quantile *= widening
    middle = 2 * value - np.mean(draws)
    reach = quantile * np.std(draws, ddof=1)
    tails = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]) - value
    tails *= quantile / norm.ppf((1 + level) / 2)
    return (
        min(middle - reach, value - tails[1]),
        max(middle + reach, value - tails[0]),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "metric, half", [("eer", 0.5 / 61), ("auc", 0.5 / (61 * 131))]
)
def test_the_interval_of_a_rate_is_made_of_its_log_odds(metric, half, seed):
    """With half a trial, or half a pair, added to both sides of the odds."""
    scores, *trials = random_list(seed)
    figures = SpeakerTrials(*trials).draw(scores, [metric], 50, seed=3)[metric]
    found = bootstrap(scores, *trials, [metric], 50, 0.9, seed=3)[metric]
    odds = [np.log((x + half) / (1 - x + half)) for x in figures]
    ends = np.exp(expected_ends(odds, 0.9))
    low, high = (ends * (1 + half) - half) / (1 + ends)
    # No better than the best draw.
    if metric == "auc":
        expected = low, min(high, figures.draws.max())
    else:
        expected = max(low, figures.draws.min()), high
    assert found.value == figures.value
    assert found[1:] == pytest.approx(expected, rel=1e-9)
    assert expected[0] < found.value < expected[1]


def test_the_interval_of_a_cost_is_made_of_its_logarithm():
    scores, *trials = random_list(0)
    figures = SpeakerTrials(*trials).draw(scores, ["cllr"], 50, seed=3)["cllr"]
    found = bootstrap(scores, *trials, ["cllr"], 50, seed=3)["cllr"]
    logs = expected_ends([np.log(x + 0.5 / 61) for x in figures], 0.95)
    low, high = np.exp(logs) - 0.5 / 61
    expected = max(low, figures.draws.min()), high
    assert found[1:] == pytest.approx(expected, rel=1e-9)


def test_the_value_lies_within_its_interval():
    """PAV finds in noise what is not there, and more in each draw of it."""
    scores, *trials = random_list(7, 300, 400, 400, decimals=6)
    noise = np.random.default_rng(8).permutation(scores)
    drawn = SpeakerTrials(*trials).draw(noise, ["min_cllr"], 50)["min_cllr"]
    assert np.mean(drawn.draws) < drawn.value - np.std(drawn.draws)
    found = bootstrap(noise, *trials, ["min_cllr"], 50, level=0.5)
    value, low, high = found["min_cllr"]
    assert low == value < high


def test_comparisons_are_of_the_same_draws():
    scores_a, *trials = random_list(2)
    scores_b = scores_a + np.random.default_rng(9).normal(0, 0.3, 192)
    sampled = SpeakerTrials(*trials)
    a, b = (
        sampled.draw(scores, ["eer"], 50, 3)["eer"]
        for scores in (scores_a, scores_b)
    )
    difference, ratio = paired_bootstrap(
        scores_a, scores_b, *trials, ["eer"], 50, seed=3
    )["eer"]
    assert difference.value == a.value - b.value
    less = [x - y for x, y in zip(a, b, strict=True)]
    assert difference[1:] == pytest.approx(expected_ends(less, 0.95))
    assert ratio.value == a.value / b.value
    assert min(map(np.min, (*a, *b))) > 0  # else half an error is added
    over = [np.log(x / y) for x, y in zip(a, b, strict=True)]
    ends = np.exp(expected_ends(over, 0.95))
    assert ratio[1:] == pytest.approx(ends, rel=1e-9)


def test_a_system_does_not_differ_from_itself():
    scores, *trials = random_list(3)
    compared = paired_bootstrap(scores, 2 * scores, *trials, replicates=50)
    for comparison in compared.values():
        assert comparison.difference == (0.0, 0.0, 0.0)
        assert comparison.ratio == (1.0, 1.0, 1.0)


def test_an_interval_is_no_better_than_its_best_draw():
    """At the log-odds of 1, a draw mirrored at the value is near 0."""
    draws = np.append(np.full(40, 1.0), np.linspace(0.7, 0.95, 60))
    figures = Drawn(np.array([0.9]), draws, np.linspace(0.85, 0.95, 20))
    scale = scale_of("min_dcf_0.05", 1 / 500)
    found = interval_of(figures, 20, 0.95, *scale)
    assert found[:2] == (0.9, 0.7)
    assert 0.9 < found.high <= 1


def test_a_difference_is_no_larger_than_a_rate_can_be():
    labels = np.tile([True, False], 20)
    enrol = np.repeat(np.arange(4), 10)
    test = np.where(labels, enrol, (enrol + 1) % 4)
    pair = np.random.default_rng(1).permutation(40), labels + 0.0
    compared = paired_bootstrap(*pair, labels, enrol, test, ["eer", "auc"], 99)
    for value, low, high in (found.difference for found in compared.values()):
        assert -1 <= low < value < high <= 1


def test_ratios_to_a_perfect_system_are_finite():
    scores, *trials = random_list(4)
    perfect = np.where(trials[0], 1.0, 0.0)
    ratio = paired_bootstrap(scores, perfect, *trials, ["eer"], 50)["eer"].ratio
    assert 1 < ratio.low < ratio.value < ratio.high < np.inf


@pytest.mark.parametrize("swap", [False, True])
def test_a_ratio_lies_within_its_interval(swap):
    """A perfect system and one at 50 %: half a trial is much beside 0."""
    labels = np.tile([True, False], 40)
    enrol = np.repeat(np.arange(8), 10)
    test = np.where(labels, enrol, (enrol + 1) % 8)
    pair = [labels.astype(float), np.tile([0.0, 0.0, 1.0, 1.0], 20)]
    if swap:
        pair.reverse()
    compared = paired_bootstrap(*pair, labels, enrol, test, ["eer"], 50)["eer"]
    value, low, high = compared.ratio
    assert abs(compared.difference.value) == 0.5
    half = 1 / 80  # of one of 40 targets
    expected = half / (0.5 + half)
    assert value == pytest.approx(1 / expected if swap else expected)
    assert low <= value <= high


def test_names_lists_and_tensors_give_the_same():
    scores, labels, enrol, test = random_list(5)
    expected = bootstrap(scores, labels, enrol, test, replicates=20)
    names = [[f"id{speaker}" for speaker in side] for side in (enrol, test)]
    assert (
        bootstrap(list(scores), list(labels), *names, replicates=20) == expected
    )
    tensors = map(torch.tensor, (scores, labels, enrol, test))
    assert bootstrap(*tensors, replicates=20) == expected
    for interval in expected.values():
        assert [type(figure) for figure in interval] == [float] * 3


def test_draws_without_a_kind_of_trial_are_drawn_again():
    """Of two speakers, half of the draws hold one of them only."""
    scores, labels = [0.9, 0.2, 0.8, 0.4], [1, 1, 0, 0]
    trials = SpeakerTrials(labels, list("abab"), list("abba"))
    drawn = trials.draw(scores, ["eer"], 30)["eer"]
    assert drawn.value == 0.5
    np.testing.assert_array_equal(drawn.draws, np.full(30, 0.5))
    assert not len(drawn.left_out)


def test_a_cost_of_decisions_is_at_most_that_of_wrong_ones():
    scores, *trials = random_list(3)
    found = bootstrap(-50 * scores, *trials, ["act_dcf_0.01"], 50)
    assert found["act_dcf_0.01"].high <= 100


def test_more_certain_intervals_are_wider():
    scores, *trials = random_list(6)
    narrow, wide = (
        bootstrap(scores, *trials, ["eer"], 50, level)["eer"]
        for level in (0.5, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def drawn_list(generator, speakers, utterances, mean):
    """Trials of voices that differ, with the score's law known exactly."""
    enrol = np.repeat(np.arange(speakers), utterances)
    other = (enrol + generator.integers(1, speakers, len(enrol))) % speakers
    of_speaker, against = generator.normal(0, (1.0, 0.7), (speakers, 2)).T
    scores = generator.normal(0, 1, (2, len(enrol)))
    scores[0] += mean + of_speaker[enrol]
    scores[1] += against[enrol] + against[other]
    labels = np.repeat([True, False], len(enrol))
    return scores.ravel(), labels, np.tile(enrol, 2), np.append(enrol, other)


def test_intervals_hold_the_true_figure():
    """Of 40 speakers; drawing trials, not speakers, would hold it seldom."""
    mean, held, held_by_trials = 5.0, [], []
    # Both kinds are normal, of variance 1 + 1 and 1 + 2 * 0.49.
    true = ndtr(-mean / (np.sqrt(2) + np.sqrt(1.98)))
    generator = np.random.default_rng(11)
    for number in range(200):
        scores, labels, *speakers = drawn_list(generator, 40, 30, mean)
        interval = bootstrap(
            scores, labels, *speakers, ["eer"], 100, seed=number
        )["eer"]
        held.append(interval.low <= true <= interval.high)
        if number % 2:
            continue
        # As if no two trials shared a speaker.
        apart = np.arange(len(labels))
        apart = apart, np.where(labels, apart, apart + len(labels))
        interval = bootstrap(scores, labels, *apart, ["eer"], 20)["eer"]
        held_by_trials.append(interval.low <= true <= interval.high)
    # The standard error of 95 % is 1.5 % here.
    assert 0.91 <= np.mean(held) <= 0.99
    assert np.mean(held_by_trials) < 0.8


def test_a_thousand_draws_of_voxceleb1_o_take_seconds():
    generator = np.random.default_rng(12)
    trials = drawn_list(generator, 40, 470, mean=5.0)
    began = time.perf_counter()
    bootstrap(*trials)
    # Measured at a few tenths; a loop over trials would take minutes.
    assert time.perf_counter() - began < 10


GOOD = {
    "scores": [0.9, 0.2, 0.8, 0.4],
    "labels": [1, 1, 0, 0],
    "enrol_speakers": ["a", "b", "a", "b"],
    "test_speakers": ["a", "b", "b", "a"],
}

# fmt: off
BAD = [  # id, what differs from the good call, what the message must say
    ("nan", {"scores": [0.9, float("nan"), 0.8, 0.4]}, r"1 of 4 are NaN"),
    ("scores_short", {"scores": [0.9]}, r"got shapes \(1,\) and \(4,\)"),
    ("one_kind", {"labels": [1, 1, 1, 1]}, r"4 targets and 0 nontargets"),
    ("label_2", {"labels": [2, 1, 0, 0]}, r"got 2 for trial 0"),
    ("speakers_short", {"enrol_speakers": ["a"]},
     r"want \[trials\] three times, got shapes \(4,\), \(1,\) and \(4,\)"),
    ("target_of_two", {"test_speakers": ["a", "a", "b", "a"]},
     r"1 of 4 trials .*trial 1 is a target of b and a"),
    ("nontarget_of_one", {"test_speakers": ["a", "b", "a", "b"]},
     r"2 of 4 trials .*trial 2 is a nontarget of a and a"),
    ("metric", {"metrics": ["eer", "EER"]},
     r"metric 'EER' is not known; known: eer, auc"),
    ("metric_prior", {"metrics": ["min_dcf_low"]}, r"'min_dcf_low' is not"),
    ("metric_no_prior", {"metrics": ["min_dcf"]}, r"'min_dcf' is not known"),
    ("prior", {"metrics": ["act_dcf_1.5"]}, r"p_target: .*got 1\.5"),
    ("cllr", {"metrics": ["cllr"], "scores": [1, 1, 0, float("inf")]},
     r"1 of 2 nontargets have inf"),
    ("replicates", {"replicates": 1}, r"whole number of at least 2, got 1"),
    ("half_a_draw", {"replicates": 2.5}, r"replicates: want .*, got 2\.5"),
    ("level", {"level": 95}, r"level: want a number in \(0, 1\), got 95"),
]
# fmt: on


@pytest.mark.parametrize(
    "change, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_input_is_refused(change, says):
    with pytest.raises(AttnError, match=says):
        bootstrap(**{**GOOD, **change})


def test_the_good_input_is_accepted():
    """Control: a gate that refuses everything would pass the table above."""
    assert bootstrap(**GOOD, replicates=5)["eer"].value == 0.5
