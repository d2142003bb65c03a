"""Calibration: against closed forms, scikit-learn and bad input."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.logistic import PENALTY, logistic_regression
from speechbrain_attn.scoring.metrics import (
    act_dcf,
    cllr,
    det_curve,
    min_cllr,
    min_dcf,
)
from speechbrain_attn.scoring.thresholds import THRESHOLDS, thresholds_of

LOG_99 = np.log(99)  # log odds against a prior of 0.01


def drawn(num_targets, num_nontargets, seed=0, apart=3.0):
    """Scores of two normal classes with deviation 1, and labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_targets + num_nontargets) < num_targets
    return generator.normal(apart * labels), labels


@pytest.fixture(scope="module")
def calibration():
    return Calibration.fit(
        *drawn(700, 5000), trial_list="veri_dev.txt", num_speakers=36
    )


def test_normal_classes_have_a_known_map():
    """Means 0 and 3, deviation 1: the ratio is 3 * score - 4.5."""
    calibration = Calibration.fit(*drawn(40_000, 40_000), p_target=0.5)
    assert calibration.slope == pytest.approx(3.0, rel=0.02)
    assert calibration.offset == pytest.approx(-4.5, rel=0.02)


@pytest.mark.parametrize("p_target", [0.5, 0.05])
def test_calibrated_ratios_cost_little_more_than_the_best(p_target):
    calibration = Calibration.fit(*drawn(3000, 9000), p_target)
    # Many, since the least Cllr is fitted to the very trials it is taken of.
    scores, labels = drawn(20_000, 20_000, seed=1)
    llrs = calibration.llr(scores)
    least = min_cllr(scores, labels)
    assert least < cllr(llrs, labels) < 1.02 * least
    assert cllr(scores, labels) > 1.5 * min_cllr(scores, labels)
    least = min_dcf(scores, labels, 0.05)
    assert least <= act_dcf(llrs, labels, 0.05) < 1.05 * least


@pytest.mark.parametrize("p_target", [0.5, 0.05, 0.001])
def test_agrees_with_scikit_learn(p_target):
    generator = np.random.default_rng(2)
    labels = np.arange(900) < 200
    inputs = generator.normal(size=(900, 3)) * [0.2, 5.0, 1.0] + [4, 0, -1]
    inputs[:, 0] += 0.3 * labels
    offset, weights = logistic_regression(inputs, labels, p_target)
    costs = np.where(labels, p_target / 200, (1 - p_target) / 700)
    theirs = LogisticRegression(
        C=1 / PENALTY, solver="newton-cholesky", tol=1e-10
    ).fit(
        (inputs - inputs.mean(axis=0)) / inputs.std(axis=0),
        labels,
        costs / (2 * min(p_target, 1 - p_target)),
    )
    slopes = theirs.coef_[0] / inputs.std(axis=0)
    assert weights == pytest.approx(slopes, rel=1e-6)
    at_zero = theirs.intercept_[0] - slopes @ inputs.mean(axis=0)
    log_odds = np.log(p_target / (1 - p_target))
    assert offset == pytest.approx(at_zero - log_odds, rel=1e-6)


def test_proportions_of_the_list_have_no_say():
    scores, labels = drawn(300, 400)
    thrice = np.append(scores, np.tile(scores[~labels], 2))
    more = np.append(labels, np.zeros(800, dtype=bool))
    once = Calibration.fit(scores, labels)
    # Standardised by other deviations, so the penalty acts a little otherwise.
    found = Calibration.fit(thrice, more)
    assert found.slope == pytest.approx(once.slope, rel=1e-4)
    assert found.offset == pytest.approx(once.offset, rel=1e-4)


@pytest.mark.parametrize("p_target", [0.5, 0.001])
def test_perfectly_separated_scores_stay_finite(p_target):
    scores, labels = drawn(50, 50, apart=20.0)
    calibration = Calibration.fit(scores, labels, p_target)
    assert calibration.separable
    assert 0.5 < calibration.slope < 5
    llrs = calibration.llr(scores)
    assert llrs[labels].min() > 0 > llrs[~labels].max()
    assert any("perfectly separated" in note for note in calibration.notes)
    assert not Calibration.fit(*drawn(50, 50, apart=1.0)).separable


def test_no_minimum_is_an_error(monkeypatch):
    monkeypatch.setattr("speechbrain_attn.scoring.logistic.CONVERGED", 0.0)
    with pytest.raises(AttnError, match=r"did not converge \(gradient .*e-"):
        Calibration.fit(*drawn(50, 50))


def test_duration_term_mends_what_durations_do():
    """Scores of nontargets that rise with the log of the shorter side."""
    scores, labels = drawn(4000, 4000)
    seconds = np.random.default_rng(3).uniform(1, 30, size=(8000, 2))
    scores += np.log(seconds.min(axis=1))
    plain = Calibration.fit(scores, labels, 0.5)
    timed = Calibration.fit(scores, labels, 0.5, seconds)
    term = timed.duration_term
    # The ratio is 3 * (score - log(shorter)) - 4.5.
    assert term.log_shorter == pytest.approx(-3, rel=0.1)
    assert term.log_longer == pytest.approx(0, abs=0.1)
    assert plain.duration_term is None
    llrs = timed.llr(scores, seconds)
    assert cllr(llrs, labels) < 0.8 * cllr(plain.llr(scores), labels)
    np.testing.assert_allclose(llrs, timed.llr(scores, seconds[:, ::-1]))
    # Nothing is known beyond the list: there its longest counts.
    one = timed.llr(1.0, [5.0, term.longest_s])
    assert timed.llr(1.0, [5.0, 900.0]) == pytest.approx(one, rel=1e-12)


def test_equal_durations_have_no_say():
    """Crops of one length; with clipping, any others count as that one."""
    scores, labels = drawn(200, 200)
    fitted = Calibration.fit(scores, labels, 0.5, np.full((400, 2), 3.0))
    plain = Calibration.fit(scores, labels, 0.5).llr(scores)
    found = fitted.llr(scores, np.full((400, 2), 60.0))
    np.testing.assert_allclose(found, plain, atol=1e-6)


def test_from_score_to_decision(calibration):
    at_one = (LOG_99 - calibration.offset) / calibration.slope
    llr = calibration.llr(at_one)
    assert llr == pytest.approx(LOG_99)
    assert calibration.posterior(llr, 0.01) == pytest.approx(0.5)
    assert calibration.posterior(0.0, 0.01) == pytest.approx(0.01)
    llrs = LOG_99 + np.array([-1e-9, 1e-9])
    assert calibration.accept(llrs, 0.01).tolist() == [False, True]
    # A miss that costs ten times as much moves the threshold by log(10).
    llrs = llrs - np.log(10)
    assert not calibration.accept(llrs, 0.01).any()
    found = calibration.accept(llrs, 0.01, c_miss=10)
    assert found.tolist() == [False, True]
    assert calibration.accept(llrs, 0.01, c_fa=0.1).tolist() == [False, True]


def test_arrays_lists_and_tensors(calibration):
    scores = np.array([-1.0, 0.5, 2.0], dtype=np.float32)
    llrs = calibration.llr(scores)
    assert llrs.dtype == np.float64
    for same in (scores.tolist(), torch.tensor(scores)):
        np.testing.assert_array_equal(calibration.llr(same), llrs)
    found = calibration.llr(torch.tensor(scores).bfloat16())
    np.testing.assert_array_equal(found, llrs)  # exact in bfloat16 as well
    tensors = [torch.tensor(values) for values in drawn(50, 50)]
    assert Calibration.fit(*tensors) == Calibration.fit(*drawn(50, 50))


def test_thresholds_by_hand():
    #        nontargets 0..9     targets 5.5, 8.5, 20, 21
    scores = [*range(10), 5.5, 8.5, 20, 21]
    labels = [0] * 10 + [1] * 4
    found = Calibration.fit(scores, labels).thresholds
    assert tuple(found) == THRESHOLDS
    # Above 6: 3 of 10 nontargets and 1 of 4 targets err.
    eer = found["eer"]
    assert (eer.score, eer.false_accepts, eer.misses) == (6.5, 3, 1)
    # 1 % of 10 nontargets is none: between 9 and 20.
    for name in ("fa_0.01", "fa_0.001", "min_dcf_0.01"):
        threshold = found[name]
        assert (threshold.score, threshold.false_accepts) == (14.5, 0)
        assert threshold.misses == 2


def test_thresholds_keep_their_promise():
    scores, labels = drawn(500, 40_000, seed=4)
    found = Calibration.fit(scores, labels).thresholds
    curve = det_curve(scores, labels)
    for name, threshold in found.items():
        accepted = scores >= threshold.score
        # Halfway between two scores, so that ">" decides the same.
        np.testing.assert_array_equal(accepted, scores > threshold.score)
        assert np.sum(accepted & ~labels) == threshold.false_accepts, name
        assert np.sum(~accepted & labels) == threshold.misses, name
    assert found["fa_0.01"].false_accepts == 400
    assert found["fa_0.001"].false_accepts == 40
    miss, fa = found["min_dcf_0.01"].misses, found["min_dcf_0.01"]
    cost = miss / 500 + 99 * fa.false_accepts / 40_000
    assert cost == pytest.approx(min_dcf(scores, labels, 0.01))
    rates = found["eer"].misses / 500, found["eer"].false_accepts / 40_000
    gaps = np.abs(curve.false_acceptance - curve.false_rejection)
    assert abs(np.subtract(*rates)) == pytest.approx(gaps.min())


def test_rejecting_all_is_a_threshold_too():
    """The highest scores are nontargets', so that at 0.01 nothing pays."""
    scores = np.append(np.linspace(0, 1, 50), [0.5, 0.6])
    found = Calibration.fit(scores, np.arange(52) >= 50).thresholds
    threshold = found["min_dcf_0.01"]
    assert threshold.score > 1
    assert (threshold.false_accepts, threshold.misses) == (0, 2)


@pytest.mark.parametrize("high", [0.5, np.nextafter(0.5, 1)])
def test_scores_without_room_between_them(high):
    """All the same, or neighbours in float64."""
    scores, labels = np.array([0.5, 0.5, high]), np.array([0, 1, 1], bool)
    for name, threshold in thresholds_of(scores, labels).items():
        accepted = scores >= threshold.score
        assert np.sum(accepted & ~labels) == threshold.false_accepts, name
        assert np.sum(~accepted & labels) == threshold.misses, name


def test_a_small_list_is_said(calibration):
    (note,) = calibration.notes
    assert "5,000 nontargets" in note
    assert "fa_0.001 (5)" in note
    assert "fa_0.01 (" not in note  # 50 lie above it
    assert Calibration.fit(*drawn(9000, 400_000, apart=1.5)).notes == []


def test_saved_and_loaded(calibration, tmp_path):
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert Calibration.load(path) == calibration
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    found = json.loads(path.read_text())
    assert found["trial_list"] == "veri_dev.txt"
    assert (found["targets"], found["nontargets"]) == (700, 5000)
    assert (found["speakers"], found["p_target"]) == (36, 0.05)
    assert found["thresholds"]["fa_0.001"]["false_accepts"] == 5
    timed = Calibration.fit(*drawn(50, 50), durations=np.full((100, 2), 4.0))
    timed.save(path)
    assert Calibration.load(path) == timed


def test_other_scores_and_models_are_refused():
    fitted = Calibration.fit(
        *drawn(50, 50), scoring="s-norm", model_sha256="ab" * 32
    )
    fitted.refuse_others("s-norm", "ab" * 32)
    fitted.refuse_others("s-norm", None)
    Calibration.fit(*drawn(50, 50)).refuse_others("cosine", "cd" * 32)
    with pytest.raises(AttnError, match="on s-norm scores, and these are cos"):
        fitted.refuse_others("cosine", "ab" * 32)
    with pytest.raises(AttnError, match="sha256 abababababab, and these have"):
        fitted.refuse_others("s-norm", "cd" * 32)
    made = dataclasses.replace(fitted, made_with="a cohort")
    made.refuse_others("s-norm", None, "a cohort")
    made.refuse_others("s-norm", None, None)
    fitted.refuse_others("s-norm", None, "another")
    says = "made with a cohort, and these are made with another; give the coh"
    with pytest.raises(AttnError, match=says):
        made.refuse_others("s-norm", None, "another")


def test_a_file_that_cannot_be_written(calibration, tmp_path):
    with pytest.raises(AttnError, match=r"c\.json: cannot be written \(No su"):
        calibration.save(tmp_path / "missing" / "c.json")


def changed(field, value):
    """Change of one field of the JSON, which may lie inside another."""

    def change(values):
        *outer, name = field.split("/")
        for key in outer:
            values = values[key]
        if value is None:
            del values[name]
        else:
            values[name] = value

    return change


# fmt: off
BAD_FILES = [  # id, change of the JSON, what the message must say
    ("missing", changed("slope", None), "field slope is missing"),
    ("unknown", changed("slop", 1.0),
     "field slop is unknown; known are scoring, .*, slope, offset"),
    ("nan", changed("offset", float("nan")),
     "field offset: want a finite number, got NaN"),
    ("infinite", changed("slope", float("inf")),
     "field slope: .* got Infinity"),
    ("string", changed("slope", "3"), 'field slope: .* got "3"'),
    ("no_scoring", changed("scoring", None), "field scoring is missing; is"),
    ("model", changed("model_sha256", 7), "field model_sha256: want a string"),
    ("bool", changed("targets", True),
     "field targets: want a whole number, got true"),
    ("fraction", changed("nontargets", 2.5), "field nontargets: .* got 2.5"),
    ("inverted", changed("slope", -3.0), "field slope: want above 0, got -3"),
    ("prior", changed("p_target", 1.0), r"p_target: .* in \(0, 1\), got 1.0"),
    ("no_trials", changed("targets", 0), "field targets: want 1 or more"),
    ("speakers", changed("speakers", -1), "field speakers: .* got -1"),
    ("threshold_gone", changed("thresholds/eer", None),
     "field thresholds: want eer, fa_0.01.*, got fa_0.01"),
    ("threshold_field", changed("thresholds/eer/score", None),
     r"field thresholds\.eer\.score is missing"),
    ("threshold_nan", changed("thresholds/eer/score", float("nan")),
     r"field thresholds\.eer\.score: .* got NaN"),
    ("threshold_count", changed("thresholds/eer/misses", -1),
     "want counts of errors, .* misses=-1"),
    ("thresholds_list", changed("thresholds", [1]),
     r"field thresholds: want an object, got \[1\]"),
    ("term", changed("duration_term", {"log_shorter": 1.0}),
     r"field duration_term\.log_longer is missing"),
    ("term_range", changed("duration_term", {
        "log_shorter": 1.0, "log_longer": 0, "shortest_s": 9.0,
        "longest_s": 2.0}),
     "field shortest_s: .* at most longest_s = 2.0, got 9.0"),
]
# fmt: on


@pytest.mark.parametrize(
    "change, says", [pytest.param(*row[1:], id=row[0]) for row in BAD_FILES]
)
def test_a_changed_file_is_refused(calibration, tmp_path, change, says):
    path = tmp_path / "calibration.json"
    calibration.save(path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(AttnError, match=r"calibration\.json: .*" + says):
        Calibration.load(path)


@pytest.mark.parametrize(
    "text, says",
    [
        (None, r"none\.json: cannot be read \(No such file"),
        ("{", r"none\.json: cannot be read \(not JSON: .* line 1"),
        ("[]", r"none\.json: field \(all of it\): want an object, got \[\]"),
        (b"\xff\xfe", r"cannot be read \(not JSON: 'utf-8' codec"),
    ],
    ids=["gone", "cut_short", "list", "binary"],
)
def test_no_calibration_file(tmp_path, text, says):
    path = tmp_path / "none.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AttnError, match=says):
        Calibration.load(path)


SCORES, LABELS = drawn(5, 7)
TWO_SIDES = np.full((12, 2), 3.0)
INFINITE = np.where(np.arange(12) == 4, np.inf, SCORES)
NAN = np.where(np.arange(12) == 4, np.nan, SCORES)


def at(row, value):
    durations = TWO_SIDES.copy()
    durations[row, 1] = value
    return durations


# fmt: off
BAD_LISTS = [  # id, arguments of fit, what the message must say
    ("nan", (NAN, LABELS), "scores: 1 of 12 are NaN, the first is trial 4"),
    ("infinite", (INFINITE, LABELS), "scores: trial 4 has inf; .* finite"),
    ("one_kind", (SCORES, LABELS | True), "12 targets and 0 nontargets"),
    ("prior", (SCORES, LABELS, 0.0), r"p_target: want .* \(0, 1\), got 0.0"),
    ("inverted", (-SCORES, LABELS), "slope: want above 0, got -.* inverted"),
    ("constant", (SCORES * 0, LABELS), "slope: want above 0, got 0"),
    ("durations_1d", (SCORES, LABELS, 0.5, TWO_SIDES[:, 0]),
     r"durations: want shape \(12, 2\), .* got \(12,\)"),
    ("duration_0", (SCORES, LABELS, 0.5, at(3, 0.0)),
     "durations: trial 3 has 0.0; want seconds above 0"),
    ("duration_nan", (SCORES, LABELS, 0.5, at(3, np.nan)), "trial 3 has nan"),
]
# fmt: on


@pytest.mark.parametrize(
    "arguments, says", [pytest.param(*row[1:], id=row[0]) for row in BAD_LISTS]
)
def test_a_bad_list_is_refused(arguments, says):
    with pytest.raises(AttnError, match=says):
        Calibration.fit(*arguments)


def test_the_good_list_is_accepted():
    """Control of the table above."""
    assert Calibration.fit(SCORES, LABELS, 0.5, TWO_SIDES).slope > 0


def test_bad_scores_and_durations_of_trials(calibration):
    with pytest.raises(AttnError, match="scores: trial 1 is NaN"):
        calibration.llr([0.0, np.nan])
    for judged in (calibration.posterior, calibration.accept):
        with pytest.raises(AttnError, match="llrs: trial 1 is NaN"):
            judged([0.0, np.nan], 0.01)
    with pytest.raises(AttnError, match="this calibration takes none"):
        calibration.llr([0.0], [[1.0, 2.0]])
    timed = Calibration.fit(SCORES, LABELS, 0.5, TWO_SIDES)
    with pytest.raises(AttnError, match=r"takes \[trials, 2\], got none"):
        timed.llr([0.0])
    with pytest.raises(AttnError, match=r"want shape \(1, 2\), .* got \(2,\)"):
        timed.llr([0.0], [1.0, 2.0])
