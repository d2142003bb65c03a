"""Calibrations fitted on a development list, kept, and used again."""

import csv
import json

import numpy as np
import pytest
from scoring_folders import SIZE, Runner, copy_store, make_data

from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.scoring import metrics, run
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.plda import PLDABackend
from speechbrain_attn.scoring.store import EmbeddingStore


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("calibrated"))


@pytest.fixture
def score(data, tmp_path, capsys):
    return Runner(data, tmp_path, capsys)


def listed(data, name):
    """Trials of a list, its cosines, and the seconds of both sides."""
    trials = trials_from_file(data / f"{name}.txt")
    store = EmbeddingStore.open(data / name)
    rows = store.rows(trials.utterances)
    sides = trials.enrol, trials.test
    seconds = store.durations[rows][np.column_stack(sides)]
    return trials, cosine_scores(store.embeddings[rows], *sides), seconds


def decided(folder):
    """The rows of ``decisions.csv``, and its columns of numbers."""
    with open(folder / "decisions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(rows[0])[2:]
    return rows, {n: np.array([float(row[n]) for row in rows]) for n in names}


def test_a_development_list_gives_ratios_thresholds_and_fusion(score, data):
    results, printed = score(
        f"--cohort={data / 'cohort'}",
        "--cohort-top=9",
        "--plda=train",
        "--lda-size=3",
        f"--development={data / 'dev.txt'}",
        "--scoring=fusion",
    )
    assert list(results["systems"])[-1] == "fusion"
    for figures in results["systems"].values():
        assert figures["cllr"]["value"] >= figures["min_cllr"]["value"]
        assert (
            figures["act_dcf_0.01"]["value"] >= figures["min_dcf_0.01"]["value"]
        )
    trials, cosines, _ = listed(data, "test")
    developed, of_developed, _ = listed(data, "dev")
    calibration = Calibration.fit(of_developed, developed.labels)
    llrs = calibration.llr(cosines)
    figures = results["systems"]["cosine"]
    cllr = metrics.cllr(llrs, trials.labels)
    assert figures["cllr"]["value"] == pytest.approx(cllr)
    cost = metrics.act_dcf(llrs, trials.labels)
    assert figures["act_dcf_0.01"]["value"] == pytest.approx(cost)
    weights = results["conditions"]["fusion"]["weights"]
    assert list(weights)[:2] == ["as-norm", "plda"]
    assert {"log_duration_gap", "log_norm_lower", "cohort_mean_gap"} <= set(
        weights
    )
    assert results["calibration"]["trial_list"] == "dev.txt"
    assert results["calibration"]["speakers"] == 10
    assert printed.count(", Cllr") == len(results["systems"])
    folder = score.folder / "out"
    for name in ("det", "reliability", "bayes_error", "histogram", "duration"):
        assert results["pictures"][name] == f"{name}.svg"
        assert (folder / f"{name}.svg").stat().st_size > 1000
        assert f"]({name}.svg)" in (folder / "results.md").read_text()
    page = (folder / "results.md").read_text()
    assert str(score.folder) not in page and str(data) not in page
    for title in ("cosine", "adaptive s-norm", "LDA + PLDA", "fusion"):
        assert f"| {title} | " in page


def test_a_scoring_that_cannot_be_calibrated_is_a_note(score, data):
    """Embeddings that tell the number of an utterance, not its speaker."""
    names = EmbeddingStore.open(data / "dev").ids
    rows = np.eye(SIZE)[[int(name[-1]) for name in names]]
    rows += 0.1 * np.random.default_rng(0).normal(size=rows.shape)
    EmbeddingStore.create(score.folder / "wrong", names, rows)
    options = [f"--development={data / 'dev.txt'}"]
    stores = ("test", score.folder / "wrong")
    with pytest.raises(SystemExit, match="^2$"):
        score(*options, embeddings=stores)
    results, _ = score(*options, "--scoring=fusion", embeddings=stores)
    assert "cllr" not in results["systems"]["cosine"]
    assert "cllr" in results["systems"]["fusion"]
    said = "calibration of cosine on dev.txt: field slope: want above 0"
    assert any(note.startswith(said) for note in results["notes"])
    assert " | - |" in (score.folder / "out" / "results.md").read_text()


def test_decisions_are_written_with_what_led_to_them(score, data):
    results, printed = score(f"--development={data / 'dev.txt'}")
    folder = score.folder / "out"
    calibration = Calibration.load(folder / "calibration.json")
    assert calibration.scoring == "cosine"
    assert calibration.model_sha256 == "5b" * 32
    trials, cosines, _ = listed(data, "test")
    rows, columns = decided(folder)
    names = ["label", "score", "llr", "posterior_at_0.05", "same_speaker"]
    assert list(columns) == names
    assert (rows[0]["enrolment"], rows[0]["test"]) == ("id10/s/1", "id10/s/0")
    llrs = calibration.llr(cosines)
    np.testing.assert_array_equal(columns["label"], trials.labels)
    np.testing.assert_allclose(columns["score"], cosines, atol=1e-6)
    np.testing.assert_allclose(columns["llr"], llrs, atol=1e-6)
    posteriors = calibration.posterior(llrs, 0.05)
    found = columns["posterior_at_0.05"]
    np.testing.assert_allclose(found, posteriors, rtol=1e-5)
    accepted = columns["same_speaker"] == 1
    np.testing.assert_array_equal(accepted, posteriors >= 0.5)
    misses = int((trials.labels & ~accepted).sum())
    false_accepts = int((~trials.labels & accepted).sum())
    assert results["decisions"] == {
        "p_target": 0.05,
        "misses": misses,
        "false_accepts": false_accepts,
    }
    said = (
        f"prior of 0.05 and equal costs: {misses} of {trials.labels.sum()} "
        f"targets rejected, {false_accepts} of {(~trials.labels).sum()} "
        "nontargets accepted (decisions.csv)."
    )
    assert said in printed and said in (folder / "results.md").read_text()


def test_a_saved_calibration_gives_what_it_gave(score, data):
    """Of s-norm; the development list is not needed any more."""
    common = [f"--cohort={data / 'cohort'}", "--scoring=s-norm"]
    first, _ = score(*common, f"--development={data / 'dev.txt'}")
    saved = score.folder / "out" / "calibration.json"
    again, printed = score(
        *common, f"--calibration={saved}", output="again", embeddings=["test"]
    )
    own = again["systems"]["s-norm"]
    assert own == first["systems"]["s-norm"]
    assert {"cllr", "act_dcf_0.01", "act_dcf_0.05"} < set(own)
    assert set(own["cllr"]) == {"value", "low", "high"}
    assert "cllr" not in again["systems"]["cosine"]
    for name in ("decisions.csv", "calibration.json"):
        kept, made = (score.folder / out / name for out in ("out", "again"))
        assert made.read_text() == kept.read_text()
    assert again["calibration"] == first["calibration"]
    assert again["decisions"] == first["decisions"]
    assert "s-norm: EER" in printed and ", Cllr" in printed
    page = (score.folder / "again" / "results.md").read_text()
    assert "prior of 0.05; loaded from out/calibration.json." in page
    assert "ratios calibrated on dev.txt; " in page
    # Without a calibration none of its files must stay.
    score(output="again")
    assert not (score.folder / "again" / "decisions.csv").exists()


@pytest.fixture
def undrawn(score, monkeypatch):
    """The same command without its pictures, which take most of its time."""
    monkeypatch.setattr(run, "can_draw", lambda: False)
    return score


@pytest.mark.parametrize("scoring", ["s-norm", "plda"])
def test_a_calibration_knows_the_cohort_that_scores_are_made_with(
    undrawn, data, scoring
):
    score = undrawn
    common = [f"--scoring={scoring}", "--cohort-top=9"]
    if scoring == "plda":
        common += ["--plda=train", "--lda-size=3"]
    first, _ = score(
        *common, f"--cohort={data / 'cohort'}", f"--development={data}/dev.txt"
    )
    common.append(f"--calibration={score.folder / 'out' / 'calibration.json'}")
    # Under another name, in another order, it is the same cohort.
    cohort = EmbeddingStore.open(data / "cohort")
    EmbeddingStore.create(
        score.folder / "turned",
        [f"{name}.wav" for name in cohort.ids[::-1]],
        cohort.embeddings[::-1],
    )
    turned = [*common, f"--cohort={score.folder / 'turned'}"]
    again, _ = score(*turned, output="again", embeddings=["test"])
    assert again["notes"] == first["notes"]
    found, expected = (
        results["systems"][scoring]["cllr"]["value"]
        for results in (again, first)
    )
    assert found == pytest.approx(expected, abs=1e-4)
    with pytest.raises(SystemExit):
        score(*common, f"--cohort={data / 'dev'}", output="other")
    said = score.capsys.readouterr().err
    assert f"calibration.json: was fitted on {scoring} scores made with" in said
    assert said.count("the cohort with sha256") == 2, said
    assert not (score.folder / "other").exists()


def test_another_number_of_cohort_scores_is_refused(undrawn, data):
    score = undrawn
    common = [f"--cohort={data / 'cohort'}", "--scoring=as-norm"]
    score(*common, "--cohort-top=9", f"--development={data / 'dev.txt'}")
    saved = f"--calibration={score.folder / 'out' / 'calibration.json'}"
    for more, says in (
        ("--cohort-top=7", "are made with the top 7 of 23 speaker means of"),
        ("--cohort-utterances", "with the top 9 of 115 utterances of the"),
    ):
        with pytest.raises(SystemExit):
            score(*common, "--cohort-top=9", more, saved, output="other")
        assert says in score.capsys.readouterr().err


def test_a_loaded_back_end_is_that_of_the_calibration(undrawn, data):
    score = undrawn
    cohort = f"--cohort={data / 'cohort'}"
    train = ["--plda=train", "--lda-size=3", "--scoring=plda"]
    score(cohort, *train, f"--development={data / 'dev.txt'}")
    saved = score.folder / "out" / "calibration.json"
    made = score.folder / "out" / "plda.safetensors"
    loaded = [f"--plda={made}", "--scoring=plda", f"--calibration={saved}"]
    results, _ = score(*loaded, output="again")
    assert "does not name" not in " ".join(results["notes"])
    backend = PLDABackend.load(made)
    backend.trained_on = None
    backend.save(score.folder / "nameless")
    results, _ = score(
        f"--plda={score.folder / 'nameless'}", *loaded[1:], output="again"
    )
    says = "The PLDA back end does not name the cohort that it is from"
    assert any(note.startswith(says) for note in results["notes"])


def test_the_prior_of_decisions_can_be_stated(score, data):
    score(f"--development={data / 'dev.txt'}", "--p-target=0.2")
    saved = score.folder / "out" / "calibration.json"
    assert Calibration.load(saved).p_target == 0.2
    _, columns = decided(score.folder / "out")
    results, _ = score(f"--calibration={saved}", "--p-target=0.5")
    assert results["decisions"]["p_target"] == 0.5
    assert results["calibration"]["p_target"] == 0.2
    _, other = decided(score.folder / "out")
    np.testing.assert_array_equal(other["llr"], columns["llr"])
    assert (other["posterior_at_0.5"] > columns["posterior_at_0.2"]).all()
    accepted = other["llr"] >= 0
    np.testing.assert_array_equal(other["same_speaker"] == 1, accepted)


def test_a_duration_term_is_fitted_kept_and_used(score, data):
    results, _ = score(f"--development={data / 'dev.txt'}", "--duration-term")
    trials, cosines, seconds = listed(data, "test")
    developed, of_developed, their_seconds = listed(data, "dev")
    expected = Calibration.fit(
        of_developed, developed.labels, durations=their_seconds
    )
    llrs = expected.llr(cosines, seconds)
    figures = results["systems"]["cosine"]
    cllr = metrics.cllr(llrs, trials.labels)
    assert figures["cllr"]["value"] == pytest.approx(cllr)
    # These are of the scores, which durations leave as they are.
    assert figures["eer"]["value"] == metrics.eer(cosines, trials.labels)
    least = metrics.min_cllr(cosines, trials.labels)
    assert figures["min_cllr"]["value"] == pytest.approx(least)
    page = (score.folder / "out" / "results.md").read_text()
    assert "affine, with a term of the durations" in page
    assert "may lie below them." in page
    saved = score.folder / "out" / "calibration.json"
    assert Calibration.load(saved).duration_term == expected.duration_term
    score(f"--calibration={saved}", output="again")
    _, columns = decided(score.folder / "again")
    np.testing.assert_allclose(columns["llr"], llrs, atol=1e-6)


def test_a_model_that_is_not_named_is_a_note(score, data):
    score(f"--development={data / 'dev.txt'}")
    saved = score.folder / "out" / "calibration.json"
    store = EmbeddingStore.open(data / "test")
    copy_store(score.folder / "nameless", store, settings={})
    results, _ = score(
        f"--calibration={saved}",
        embeddings=[score.folder / "nameless"],
        output="again",
    )
    says = "The store does not name its model, so that it cannot be told"
    assert any(note.startswith(says) for note in results["notes"])
    results, _ = score(f"--calibration={saved}", output="again")
    assert "does not name" not in " ".join(results["notes"])
    values = json.loads(saved.read_text())
    saved.write_text(json.dumps({**values, "model_sha256": None}))
    results, _ = score(f"--calibration={saved}", output="again")
    says = "The calibration does not name its model"
    assert any(note.startswith(says) for note in results["notes"])
