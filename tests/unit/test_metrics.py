"""Metrics against hand-sized cases and other programs."""

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score, roc_curve
from speechbrain.utils.metric_stats import EER, minDCF

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.metrics import (
    act_dcf,
    auc,
    cllr,
    det_curve,
    eer,
    min_cllr,
    min_dcf,
)

INF = float("inf")
METRICS = [eer, min_dcf, act_dcf, cllr, min_cllr, auc]

# fmt: off
BY_HAND = [  # scores of targets, of nontargets, EER, normalised minDCF, AUC,
    # minCllr
    ("separated", [3, 4], [1, 2], 0.0, 0.0, 1.0, 0.0),
    ("reversed", [1, 2], [3, 4], 1.0, 1.0, 0.0, 1.0),
    ("all_equal", [5, 5, 5], [5, 5], 0.5, 1.0, 0.5, 1.0),
    # Accepting 0.9 alone misses 1 of 2 and accepts none: cost 1/2. PAV pools
    # 0.4 and 0.6 to one bit each, and knows the other two.
    ("one_swap", [0.9, 0.4], [0.6, 0.1], 0.5, 0.5, 3 / 4, 0.5),
    # (FAR, FRR) goes (0, 1/2) -> (1/3, 0) as both 5s are accepted together:
    # t/3 = 1/2 - t/2 at t = 3/5. Of six pairs five are right and one tied.
    # The 5s hold 1/2 of the targets and 1/3 of the nontargets.
    ("tie_crosses", [9, 5], [5, 1, 1], 1 / 5, 0.5, 11 / 12,
     (np.log2(5 / 3) / 2 + np.log2(5 / 2) / 3) / 2),
    ("infinite", [INF, 1], [0, -INF], 0.0, 0.0, 1.0, 0.0),
]
# fmt: on


def joined(targets, nontargets):
    scores = np.array([*targets, *nontargets], dtype=np.float64)
    labels = np.arange(len(scores)) < len(targets)
    return scores, labels


@pytest.mark.parametrize(
    "targets, nontargets, rate, cost, area, bits",
    [pytest.param(*row[1:], id=row[0]) for row in BY_HAND],
)
def test_hand_sized_cases(targets, nontargets, rate, cost, area, bits):
    scores, labels = joined(targets, nontargets)
    assert eer(scores, labels) == pytest.approx(rate, abs=1e-15)
    assert min_dcf(scores, labels) == pytest.approx(cost, abs=1e-15)
    assert auc(scores, labels) == pytest.approx(area, abs=1e-15)
    assert min_cllr(scores, labels) == pytest.approx(bits, abs=1e-15)
    assert not np.signbit(min_cllr(scores, labels))  # "-0.0000" in a table


def test_actual_cost_is_that_of_the_bayes_threshold():
    """At a prior of 1/2 and equal costs, accept from 0 on."""
    llrs, labels = joined([2.0, 0.0, -0.1, -3.0], [0.0, -0.1, -5.0])
    half = {"p_target": 0.5}
    cost = 2 / 4 + 1 / 3  # two targets missed, one nontarget accepted
    assert act_dcf(llrs, labels, **half) == pytest.approx(cost, abs=1e-15)
    raw = act_dcf(llrs, labels, **half, normalised=False)
    assert raw == pytest.approx(cost / 2, abs=1e-15)
    # log(99) = 4.595 at 0.01, or 10 times cheaper to accept: log(9.9) = 2.29.
    llrs, labels = joined([4.5, 4.7], [4.5, 2.0])
    assert act_dcf(llrs, labels) == pytest.approx(1 / 2, abs=1e-15)
    cost = 0 + 0.1 * 0.99 / 0.01 * (1 / 2)  # of 1 / min(0.01, 0.099)
    assert act_dcf(llrs, labels, c_fa=0.1) == pytest.approx(cost, rel=1e-12)


def test_cllr_by_hand():
    llrs, labels = joined([np.log(3)], [-np.log(3), -np.log(7)])
    bits = (np.log2(4 / 3) + (np.log2(4 / 3) + np.log2(8 / 7)) / 2) / 2
    assert cllr(llrs, labels) == pytest.approx(bits, rel=1e-14)
    # Certain and right costs nothing; large ratios do not overflow.
    assert cllr([INF, 1e4, -1e4, -INF], [1, 1, 0, 0]) == 0.0
    wrong = cllr([-1e4, 1e4], [1, 0])
    assert wrong == pytest.approx(1e4 / np.log(2), rel=1e-12)


def test_det_curve_by_hand():
    scores, labels = joined([9, 5], [5, 1, 1])
    curve = det_curve(scores, labels)
    np.testing.assert_array_equal(curve.thresholds, [1, 5, 9, INF])
    np.testing.assert_array_equal(curve.false_rejection, [0, 0, 1 / 2, 1])
    np.testing.assert_array_equal(curve.false_acceptance, [1, 1 / 3, 0, 0])


def drawn(num_targets, num_nontargets, seed):
    generator = np.random.default_rng(seed)
    return (
        generator.normal(1.5, 1.0, num_targets).astype(np.float32),
        generator.normal(0.0, 1.0, num_nontargets).astype(np.float32),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("counts", [(211, 211), (53, 397)])
def test_agrees_with_speechbrain(counts, seed):
    targets, nontargets = drawn(*counts, seed)
    scores, labels = joined(targets, nontargets)
    theirs, _ = EER(torch.tensor(targets), torch.tensor(nontargets))
    # SpeechBrain takes the mean of FAR and FRR at the threshold where they are
    # nearest, ours the crossing. Without ties a step of the ROC moves one of
    # the two by at most 1 / (smaller class): the nearest end of the step that
    # crosses has a gap of at most half of it, and the mean half the gap.
    assert abs(eer(scores, labels) - theirs) <= 1 / (4 * min(counts))
    theirs, _ = minDCF(torch.tensor(targets), torch.tensor(nontargets))
    # Its sums are float32.
    raw = min_dcf(scores, labels, normalised=False)
    assert raw == pytest.approx(theirs, rel=1e-6)
    assert min_dcf(scores, labels) == pytest.approx(raw / 0.01, rel=1e-12)


def test_balanced_eer_equals_speechbrain_exactly():
    """With as many targets as nontargets, FAR and FRR meet at a threshold."""
    targets, nontargets = drawn(211, 211, seed=3)
    theirs, _ = EER(torch.tensor(targets), torch.tensor(nontargets))
    # 1e-7: its rates are float32.
    assert eer(*joined(targets, nontargets)) == pytest.approx(theirs, abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [1, 6])
def test_agrees_with_the_roc_of_scikit_learn(decimals, seed):
    scores, labels = joined(*drawn(53, 397, seed))
    scores = scores.round(decimals)  # 1 makes many ties
    far, tar, _ = roc_curve(labels, scores, drop_intermediate=False)
    gap = far - (1 - tar)
    crossing = np.interp(0.0, gap, far)
    assert eer(scores, labels) == pytest.approx(crossing, abs=1e-12)
    for p_target, c_miss, c_fa in [(0.01, 1, 1), (0.9, 1, 1), (0.05, 10, 3)]:
        miss_cost, fa_cost = c_miss * p_target, c_fa * (1 - p_target)
        cost = (miss_cost * (1 - tar) + fa_cost * far).min()
        ours = min_dcf(scores, labels, p_target, c_miss, c_fa, False)
        assert ours == pytest.approx(cost, rel=1e-12)
        cost /= min(miss_cost, fa_cost)
        ours = min_dcf(scores, labels, p_target, c_miss, c_fa)
        assert ours == pytest.approx(cost, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize("counts", [(53, 397), (397, 53)])
def test_curves_and_pav_agree_with_scikit_learn(counts, decimals, seed):
    scores, labels = joined(*drawn(*counts, seed))
    scores = scores.round(decimals)
    expected = roc_auc_score(labels, scores)
    assert auc(scores, labels) == pytest.approx(expected, rel=1e-12)
    far, tar, thresholds = roc_curve(labels, scores, drop_intermediate=False)
    curve = det_curve(scores, labels)
    np.testing.assert_array_equal(curve.thresholds, thresholds[::-1])
    np.testing.assert_allclose(curve.false_acceptance, far[::-1], atol=1e-15)
    np.testing.assert_allclose(curve.false_rejection, 1 - tar[::-1], atol=1e-15)
    posteriors = IsotonicRegression().fit_transform(scores, labels)
    with np.errstate(divide="ignore"):  # certain, and so infinite
        llrs = np.log(posteriors / (1 - posteriors))
    llrs -= np.log(counts[0] / counts[1])
    expected = cllr(llrs, labels)
    assert 0.1 < expected < 0.9
    assert min_cllr(scores, labels) == pytest.approx(expected, rel=1e-9)


def test_cllr_is_the_cross_entropy_of_balanced_classes():
    llrs, labels = joined(*drawn(53, 397, seed=0))
    llrs = llrs.astype(np.float64)
    weights = np.where(labels, 1 / 53, 1 / 397)
    posteriors = 1 / (1 + np.exp(-llrs))
    nats = log_loss(labels, posteriors, sample_weight=weights)
    assert cllr(llrs, labels) == pytest.approx(nats / np.log(2), rel=1e-12)


def test_accepting_all_trials_is_a_threshold():
    """SpeechBrain's minDCF is 0.50005 here: it never accepts all."""
    scores, labels = joined([1.0, 2.0], [3.0, 4.0])
    cost = min_dcf(scores, labels, p_target=0.9999, normalised=False)
    assert cost == pytest.approx(1e-4, rel=1e-9)


@pytest.mark.parametrize(
    "scores, labels",
    [
        ([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0]),
        (np.float32([0.9, 0.4, 0.6, 0.1]), np.array([1, 1, 0, 0], bool)),
        (torch.tensor([0.9, 0.4, 0.6, 0.1], requires_grad=True),
         torch.tensor([True, True, False, False])),
        (torch.tensor([0.9, 0.4, 0.6, 0.1], dtype=torch.bfloat16),
         torch.tensor([1.0, 1.0, 0.0, 0.0])),
        ([9, 4, 6, 1], (1, 1, 0, 0)),
    ],
    ids=["lists", "arrays", "grad_tensor", "bfloat16", "integers"],
)  # fmt: skip
def test_any_kind_of_array(scores, labels):
    for metric, expected in (
        (eer, 0.5), (min_dcf, 0.5), (auc, 0.75), (min_cllr, 0.5)
    ):  # fmt: skip
        value = metric(scores, labels)
        assert type(value) is float
        assert value == expected
    for value in (act_dcf(scores, labels), cllr(scores, labels)):
        assert type(value) is float
    assert det_curve(scores, labels).thresholds.dtype == np.float64


GOOD = [0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0]
NAN = float("nan")

# fmt: off
BAD = [  # id, scores, labels, what the message must say
    ("nan", [0.9, NAN, 0.6, NAN], GOOD[1], r"2 of 4 are NaN.* trial 1;"),
    ("complex", [1 + 2j, 3, 2, 1], GOOD[1], "want real numbers, got complex"),
    ("lengths_differ", GOOD[0], [1, 0], r"got shapes \(4,\) and \(2,\)"),
    ("not_flat", [GOOD[0]], [GOOD[1]], r"got shapes \(1, 4\)"),
    ("no_target", GOOD[0], [0, 0, 0, 0], r"got 0 targets and 4 nontargets"),
    ("no_nontarget", GOOD[0], [1, 1, 1, 1], r"got 4 targets and 0 nontargets"),
    ("empty", [], [], r"got 0 targets and 0 nontargets"),
    ("label_2", GOOD[0], [1, 2, 0, 0], r"got 2 for trial 1"),
    ("label_minus_1", GOOD[0], [1, 1, -1, 0], r"got -1 for trial 2"),
    ("label_nan", GOOD[0], [1, 1, 0, NAN], r"got nan for trial 3"),
]
# fmt: on


@pytest.mark.parametrize("metric", [*METRICS, det_curve])
@pytest.mark.parametrize(
    "scores, labels, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_input_is_refused(metric, scores, labels, says):
    with pytest.raises(AttnError, match=says):
        metric(scores, labels)


@pytest.mark.parametrize(
    "llrs, says",
    [
        ([1.0, -INF, 0.0, 0.0], r"1 of 2 targets have -inf, so Cllr is inf"),
        ([1.0, 1.0, INF, INF], r"2 of 2 nontargets have inf, so Cllr is inf"),
    ],
)
def test_certain_and_wrong_is_refused(llrs, says):
    with pytest.raises(AttnError, match=says):
        cllr(llrs, GOOD[1])


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"p_target": 0.0}, r"p_target: want a number in \(0, 1\), got 0"),
        ({"p_target": 1.0}, r"p_target.*got 1"),
        ({"p_target": "0.1"}, "p_target: want a number, got '0.1'"),
        ({"c_fa": None}, "c_fa: want a number, got None"),
        ({"c_miss": -1.0}, r"c_miss: want a cost above 0, got -1"),
        ({"c_fa": float("nan")}, r"c_fa: want a cost above 0, got nan"),
    ],
)
@pytest.mark.parametrize("metric", [min_dcf, act_dcf])
def test_costs_outside_their_range_are_refused(metric, settings, says):
    with pytest.raises(AttnError, match=says):
        metric(*GOOD, **settings)


def test_a_million_trials_take_seconds():
    """Loops over thresholds, as SpeechBrain's, would take hours."""
    generator = np.random.default_rng(0)
    labels = generator.random(10**6) < 0.1
    scores = generator.normal(labels * 3.0)
    # Phi(-1.5) = 0.0668; 100,000 targets leave a deviation of 0.001.
    assert eer(scores, labels) == pytest.approx(0.0668, abs=0.004)
    assert 0 < min_dcf(scores, labels) < 1
    # Phi(3 / sqrt(2)) = 0.9831
    assert auc(scores, labels) == pytest.approx(0.9831, abs=0.002)
    # The scores' own log-likelihood ratios are 3 s - 4.5.
    llrs = 3 * scores - 4.5
    assert cllr(llrs, labels) == pytest.approx(min_cllr(llrs, labels), rel=0.01)
    assert len(det_curve(scores, labels).thresholds) == 10**6 + 1
