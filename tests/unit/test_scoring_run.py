"""From stores and lists to results: the generic command, in this process."""

import numpy as np
import pytest
from scoring_folders import Runner, make_data

from speechbrain_attn.dataio.scores import read_scores
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring import metrics, results_folder, run
from speechbrain_attn.scoring.confidence import bootstrap, paired_bootstrap
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.normalisation import (
    cohort_statistics,
    s_norm,
    speaker_means,
)
from speechbrain_attn.scoring.plda import PLDABackend
from speechbrain_attn.scoring.store import EmbeddingStore


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("scoring"))


@pytest.fixture
def score(data, tmp_path, capsys):
    return Runner(data, tmp_path, capsys)


@pytest.fixture(scope="module")
def expected(data):
    """Test list, its embeddings and speakers, and the cohort's."""
    trials = trials_from_file(data / "test.txt")
    store = EmbeddingStore.open(data / "test")
    rows = store.embeddings[store.rows(trials.utterances)]
    cohort = EmbeddingStore.open(data / "cohort")
    names = [name.split("/")[0] for name in cohort.ids]
    return trials, rows, cohort.embeddings, names


def intervals(systems, name):
    return {m: tuple(f.values()) for m, f in systems[name].items()}


def test_plain_cosine_is_that_of_the_parts(score, expected):
    trials, rows, _, _ = expected
    results, printed = score()
    cosines = cosine_scores(rows, trials.enrol, trials.test)
    kept = ("eer", "min_dcf_0.01", "min_dcf_0.05", "min_cllr")
    speakers = trials.speakers()
    want = bootstrap(
        cosines,
        trials.labels,
        speakers[trials.enrol],
        speakers[trials.test],
        kept,
        replicates=40,
    )
    assert intervals(results["systems"], "cosine") == want
    assert list(results["systems"]) == ["cosine"]
    found, scores = read_scores(score.folder / "out" / "scores.txt")
    np.testing.assert_allclose(scores, cosines, atol=1e-6)
    np.testing.assert_array_equal(found.labels, trials.labels)
    assert printed.startswith(
        f"test.txt (VoxCeleb format): {len(trials):,} trials, "
    )
    assert "Duplicated trials: 0; of an utterance with itself: 0; " in printed
    eer = want["eer"]
    assert f"EER {100 * eer.value:.2f} [{100 * eer.low:.2f}, " in printed
    assert "minCllr" in printed and ", Cllr" not in printed
    page = (score.folder / "out" / "results.md").read_text()
    assert (
        "Without a calibration scores are no" in page
        and "actDCF(0.01) |" not in page
    )


def test_every_scoring_is_that_of_its_module(score, data, expected):
    trials, rows, cohort, names = expected
    sides = trials.enrol, trials.test
    statistics = cohort_statistics(rows, speaker_means(cohort, names))
    highest = cohort_statistics(rows, speaker_means(cohort, names), 9)
    plda = PLDABackend.train(cohort, names, 3)
    cosines = cosine_scores(rows, *sides)
    want = {
        "s-norm": s_norm(cosines, statistics, *sides),
        "as-norm": s_norm(cosines, highest, *sides),
        "plda": plda.scores(rows, *sides),
    }
    common = [f"--cohort={data / 'cohort'}", "--cohort-top=9", "--plda=train"]
    common.append("--lda-size=3")
    for name, scores in want.items():
        results, _ = score(*common, f"--scoring={name}")
        written = read_scores(score.folder / "out" / "scores.txt")[1]
        np.testing.assert_allclose(written, scores, atol=1e-5)
        found = results["systems"][name]["eer"]["value"]
        assert found == metrics.eer(scores, trials.labels)
    assert list(results["systems"]) == [
        "cosine",
        "centred",
        "s-norm",
        "as-norm",
        "plda",
    ]
    saved = score.folder / "out" / "plda.safetensors"
    results, _ = score(f"--plda={saved}", output="loaded")
    assert list(results["systems"]) == ["cosine", "plda"]
    assert results["systems"]["plda"]["eer"]["value"] == found
    assert results["conditions"]["plda"]["file"] == "plda.safetensors"


@pytest.mark.parametrize("name", ["z-norm", "t-norm"])
def test_one_sided_norms_are_made_if_asked_for(score, data, name):
    results, _ = score(f"--cohort={data / 'cohort'}", f"--scoring={name}")
    assert list(results["systems"]) == ["cosine", "centred", name, "s-norm"]


def test_a_comparison_is_paired(score, data, expected):
    trials, rows, _, _ = expected
    generator = np.random.default_rng(8)
    worse = rows + generator.normal(size=rows.shape).astype(np.float32)
    other = score.folder / "other"
    EmbeddingStore.create(other, trials.utterances, worse)
    results, printed = score(f"--compare={other}")
    speakers = trials.speakers()
    want = paired_bootstrap(
        cosine_scores(rows, trials.enrol, trials.test),
        cosine_scores(worse, trials.enrol, trials.test),
        trials.labels,
        speakers[trials.enrol],
        speakers[trials.test],
        ["eer"],
        replicates=40,
    )["eer"]
    found = results["comparison"]["eer"]
    assert tuple(found["difference"].values()) == want.difference
    assert tuple(found["ratio"].values()) == want.ratio
    assert found["difference"]["high"] < 0
    assert f"{100 * want.difference.value:+.2f} [" in printed
    scores = score.folder / "out" / "scores.txt"
    results, _ = score(f"--compare={scores}", output="again")
    for metric in results["comparison"].values():
        assert set(metric["difference"].values()) == {0}


def test_models_are_enrolled_by_a_map(score, data):
    """Each model of two utterances, for the test list and development."""
    for name, numbers in {"test": range(10, 22), "dev": range(30, 40)}.items():
        lines = [
            f"{int(a == b)} m{a} id{b}/s/4\n" for a in numbers for b in numbers
        ]
        (score.folder / f"{name}_models.txt").write_text("".join(lines))
    (score.folder / "map.txt").write_text(
        "".join(f"m{n} id{n}/s/0 id{n}/s/1\n" for n in range(10, 40))
    )
    results, _ = score(
        f"--trials={score.folder / 'test_models.txt'}",
        f"--development={score.folder / 'dev_models.txt'}",
        f"--enrol-map={score.folder / 'map.txt'}",
    )
    assert results["num_trials"] == 144 and results["num_speakers"] == 12
    assert "and 12 models" in results["summary"]
    assert (
        "m10 id10/s/4 1 " in (score.folder / "out" / "scores.txt").read_text()
    )


def test_a_model_may_be_named_as_an_utterance(score, data):
    """The same list compared with itself; options as the recipe spells them."""
    lines = [
        f"{int(a == b)} id{a}/s/0 id{b}/s/4\n"
        for a in range(10, 22)
        for b in range(10, 22)
    ]
    (score.folder / "models.txt").write_text("".join(lines))
    (score.folder / "map.txt").write_text(
        "".join(f"id{n}/s/0 id{n}/s/0 id{n}/s/1\n" for n in range(10, 22))
    )
    more = [f"--trials={score.folder / 'models.txt'}"]
    more += ["--enrol_map", score.folder / "map.txt"]
    score(*more, output="first")
    scores = score.folder / "first" / "scores.txt"
    results, _ = score(*more, f"--compare={scores}")
    for metric in results["comparison"].values():
        assert set(metric["difference"].values()) == {0}


def test_speakers_who_should_not_be_there_are_said(score, data):
    (score.folder / "map").write_text(
        "".join(
            f"{name} {name.split('/')[0][:4]}\n"
            for store in ("test", "dev", "cohort")
            for name in EmbeddingStore.open(data / store).ids
        )
    )
    results, printed = score(
        f"--cohort={data / 'test'}",
        f"--development={data / 'test.txt'}",
        f"--utt2spk={score.folder / 'map'}",
    )
    said = " ".join(results["notes"])
    assert "12 speakers of the test list, such as id10, are in the coh" in said
    assert "such as id10, are in the development list" in said
    assert "12 speakers of the development list, such as id10, are in" in said
    for note in results["notes"]:
        assert f"note: {note}\n" in printed


def test_speakers_of_the_cohort_in_development_alone_are_logged(
    score, data, caplog
):
    results, printed = score(
        f"--cohort={data / 'dev'}", f"--development={data / 'dev.txt'}"
    )
    (note,) = [x for x in results["notes"] if "are in the cohort" in x]
    assert note.startswith("10 speakers of the development list, such as id30")
    assert [x.getMessage() for x in caplog.records].count(note) == 1
    results, _ = score(
        f"--cohort={data / 'cohort'}", f"--development={data / 'dev.txt'}"
    )
    assert "are in the cohort" not in " ".join(results["notes"])


def test_adaptive_s_norm_left_out_is_a_note(score, data):
    cohort = f"--cohort={data / 'cohort'}"
    results, printed = score(cohort, "--cohort-top=23")
    said = (
        "No adaptive s-norm: it wants more speaker means in the cohort than "
        "cohort_top (23), and there are 23."
    )
    assert said in results["notes"] and f"note: {said}\n" in printed
    results, _ = score(cohort, "--cohort-top=22")
    assert "as-norm" in results["systems"]
    assert "adaptive" not in " ".join(results["notes"])


@pytest.mark.parametrize(
    "step", ["score_trials", "measure", "render_results", "write_scores"]
)
def test_a_refused_run_leaves_earlier_results(score, data, monkeypatch, step):
    """Whichever step refuses; the last one writes over nothing either."""
    more = [f"--cohort={data / 'cohort'}", "--plda=train"]
    more += ["--lda-size=3", f"--development={data / 'dev.txt'}"]
    score(*more)
    files = list((score.folder / "out").iterdir())
    before = {
        file: (file.stat().st_mtime_ns, file.stat().st_ino) for file in files
    }

    def refuse(*_):
        raise AttnError("refused")

    place = results_folder if step.startswith(("render", "write")) else run
    monkeypatch.setattr(place, step, refuse)
    with pytest.raises(SystemExit, match="^2$"):
        score(*more, "--lda-size=2")
    assert before == {
        file: (file.stat().st_mtime_ns, file.stat().st_ino)
        for file in (score.folder / "out").iterdir()
    }


def test_a_folder_in_the_place_of_a_result_is_refused(score):
    """Before any other result is touched."""
    score()
    out = score.folder / "out"
    (out / "results.md").unlink()
    (out / "results.md").mkdir()
    before = (out / "scores.txt").stat().st_ino
    with pytest.raises(SystemExit, match="^2$"):
        score()
    said = score.capsys.readouterr().err
    assert f"{out}/results.md: cannot be written (is a folder)" in said
    assert (out / "scores.txt").stat().st_ino == before
    assert not (out / results_folder.UNFINISHED).exists()


def test_a_fusion_of_few_trials_is_said(score, data):
    """Of many, too, but not as a warning."""
    lines = (data / "dev.txt").read_text().splitlines(keepends=True)
    few = score.folder / "few.txt"
    few.write_text("".join(lines[:: len(lines) // 40]))
    results, printed = score(f"--development={few}")
    (note,) = [n for n in results["notes"] if n.startswith("The fusion has ")]
    assert "nontargets of few.txt, on which it is calibrated, too;" in note
    assert f"note: {note}" in printed


def test_the_cohort_is_told(score, data):
    """Whose speakers were read from names."""
    _, printed = score(f"--cohort={data / 'cohort'}")
    assert "\nCohort: " in printed and " of 23 speakers (cohort), " in printed


def test_no_matplotlib_is_one_sentence(score, monkeypatch):
    monkeypatch.setattr(run, "can_draw", lambda: False)
    results, _ = score()
    assert results["pictures"] == {}
    (note,) = [x for x in results["notes"] if "matplotlib" in x]
    assert "pip install 'speechbrain_attn[plots]'" in note
