"""Fusion learns known weights, helps where quality tells, and is kept."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.fusion import Fusion, quality_measures
from speechbrain_attn.scoring.metrics import cllr, eer

ROWS = 211


def drawn(seed, num_trials=4001):
    """Trials whose scores are inflated where a side is short."""
    generator = np.random.default_rng(seed)
    durations = np.exp(generator.uniform(0, 3, ROWS))
    enrol, test = generator.integers(0, ROWS, (2, num_trials))
    labels = generator.random(num_trials) < 0.3
    shorter = np.log(np.minimum(durations[enrol], durations[test]))
    noise = generator.normal(size=(2, num_trials))
    first = 2.0 * labels - 0.8 * shorter + noise[0]
    second = 1.5 * labels + noise[1]
    qualities = quality_measures(enrol, test, durations=durations)
    return {"first": first, "second": second, **qualities}, labels


def test_measures_by_hand():
    measures = quality_measures(
        [0, 2],
        [1, 2],
        durations=[1.0, 2.0, 8.0],
        norms=[2.0, 1.0, 4.0],
        cohort_means=[0.25, 0.5, 0.125],
    )
    log2 = np.log(2)
    expected = {
        "log_duration_lower": [0, 3 * log2],
        "log_duration_gap": [log2, 0],
        "log_norm_lower": [0, 2 * log2],
        "log_norm_gap": [log2, 0],
        "cohort_mean_lower": [0.25, 0.125],
        "cohort_mean_gap": [0.25, 0],
    }
    assert list(measures) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(measures[name], values, atol=1e-12)


def test_sides_have_no_order():
    generator = np.random.default_rng(0)
    per_row = {
        "durations": generator.uniform(1, 9, ROWS),
        "norms": generator.uniform(1, 9, ROWS),
        "cohort_means": generator.normal(size=ROWS),
    }
    enrol, test = generator.integers(0, ROWS, (2, 101))
    there = quality_measures(enrol, test, **per_row)
    back = quality_measures(test, enrol, **per_row)
    for name in there:
        np.testing.assert_array_equal(there[name], back[name])


def test_weights_are_those_of_another_solver():
    inputs, labels = drawn(1)
    fusion = Fusion.fit(inputs, labels)
    columns = np.column_stack(list(inputs.values()))
    # Both kinds of trial weigh the same; no penalty.
    other = LogisticRegression(
        C=np.inf, class_weight="balanced", tol=1e-8, max_iter=1000
    ).fit(columns, labels)
    ours = list(fusion.weights.values())
    np.testing.assert_allclose(ours, other.coef_[0], rtol=1e-3, atol=1e-4)
    assert fusion.offset == pytest.approx(other.intercept_[0], abs=1e-3)
    assert (fusion.targets, fusion.nontargets) == (sum(labels), sum(~labels))


def test_two_systems_and_durations_are_better_than_one():
    fusion = Fusion.fit(*drawn(1))
    inputs, labels = drawn(2)
    rates = [eer(inputs[name], labels) for name in ("first", "second")]
    llrs = fusion.llr(inputs)
    assert eer(llrs, labels) < 0.8 * min(rates)
    # Without the durations the first system is worth less.
    names = ["first", "second"]
    seen, seen_labels = drawn(1)
    blind = Fusion.fit({name: seen[name] for name in names}, seen_labels)
    blind_llrs = blind.llr({name: inputs[name] for name in names})
    assert eer(llrs, labels) < 0.95 * eer(blind_llrs, labels)
    assert cllr(llrs, labels) < 0.95 * cllr(blind_llrs, labels)


def test_units_of_inputs_have_no_say():
    inputs, labels = drawn(1)
    plain = Fusion.fit(inputs, labels).llr(inputs)
    inputs = {**inputs, "first": 1000 * inputs["first"] + 7}
    scaled = Fusion.fit(inputs, labels).llr(inputs)
    np.testing.assert_allclose(scaled, plain, rtol=1e-5, atol=1e-5)


def test_an_input_that_never_varies_has_no_weight():
    inputs, labels = drawn(1)
    inputs["constant"] = np.full(len(labels), 3.0)
    assert Fusion.fit(inputs, labels).weights["constant"] == 0


def test_loaded_it_is_the_same(tmp_path):
    inputs, labels = drawn(1)
    fusion = Fusion.fit(inputs, labels, p_target=0.05, trial_list="dev.txt")
    fusion.save(tmp_path / "fusion.json")
    loaded = Fusion.load(tmp_path / "fusion.json")
    assert loaded == fusion
    # The order in which inputs are given has no say.
    turned = dict(reversed(inputs.items()))
    np.testing.assert_array_equal(loaded.llr(turned), fusion.llr(inputs))
    assert [entry.name for entry in tmp_path.iterdir()] == ["fusion.json"]


def test_a_bad_file_is_refused(tmp_path):
    path = tmp_path / "fusion.json"
    with pytest.raises(AttnError, match=r"fusion\.json: cannot be read"):
        Fusion.load(path)
    fusion = Fusion.fit(*drawn(1))
    fusion.save(path)
    values = json.loads(path.read_text(encoding="utf-8"))
    values["weights"]["first"] = "much"
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(AttnError, match=r"weights\.first: want a finite num"):
        Fusion.load(path)
    with pytest.raises(AttnError, match="cannot be written"):
        fusion.save(tmp_path / "none" / "fusion.json")


SCORES, LABELS = [0.1, 0.9, 0.4], [0, 1, 1]
FUSION = Fusion({"a": 1.0, "b": 2.0}, 0.5, 0.5, "", 1, 1)

# fmt: off
BAD = [  # id, what is called, what the message must say
    ("nothing", lambda: Fusion.fit({}, LABELS), r"want the scores of a system"),
    ("nan", lambda: Fusion.fit({"a": [0.1, np.nan, 0]}, LABELS),
        r"a is nan for trial 1"),
    ("infinite", lambda: FUSION.llr({"a": [0.1], "b": [np.inf]}),
        r"b is inf for trial 0"),
    ("shapes", lambda: Fusion.fit({"a": SCORES, "b": [1.0]}, LABELS),
        r"want \[trials\] = \(3,\) of each, got \(1,\) of b"),
    ("labels", lambda: Fusion.fit({"a": SCORES}, [0, 1]),
        r"got shapes \(3,\) and \(2,\)"),
    ("one_class", lambda: Fusion.fit({"a": SCORES}, [1, 1, 1]),
        r"got 3 targets and 0 nontargets"),
    ("prior", lambda: Fusion.fit({"a": SCORES}, LABELS, p_target=1.0),
        r"p_target: want a number in \(0, 1\), got 1.0"),
    ("missing", lambda: FUSION.llr({"a": SCORES}), r"takes a, b, got a\."),
    ("unknown", lambda: FUSION.llr({"a": [1], "b": [1], "c": [1]}),
        r"takes a, b, got a, b, c"),
    ("no_time", lambda: quality_measures([0], [1], durations=[3.0, 0.0]),
        r"durations: want numbers above 0, got 0.0 for row 1"),
    ("no_norm", lambda: quality_measures([0], [1], norms=[np.nan, 1.0]),
        r"norms: .* got nan for row 0"),
    ("outside", lambda: quality_measures([0], [2], cohort_means=[1.0, 2.0]),
        r"test: trial 0 names row 2 of 2"),
]
# fmt: on


@pytest.mark.parametrize(
    "call, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(AttnError, match=says):
        call()


def test_good_input_is_accepted():
    assert Fusion.fit({"a": SCORES}, LABELS).llr({"a": [0.5]}).shape == (1,)
