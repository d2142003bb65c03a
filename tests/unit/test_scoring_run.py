"""From stores and lists to results: the generic command, in this process."""

import json

import numpy as np
import pytest

from speechbrain_attn.dataio.scores import read_scores
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring import metrics, run
from speechbrain_attn.scoring.__main__ import main
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.confidence import bootstrap, paired_bootstrap
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.normalisation import (
    cohort_statistics,
    s_norm,
    speaker_means,
)
from speechbrain_attn.scoring.options import ScoringOptions
from speechbrain_attn.scoring.plda import PLDABackend
from speechbrain_attn.scoring.store import EmbeddingStore
from speechbrain_attn.scoring.systems import TITLES

SIZE, NUM_UTTERANCES = 7, 5


def make_store(folder, speakers, generator, durations=True, noise=0.8):
    """Normal speakers with normal noise; a store of their utterances."""
    names, rows = [], []
    for speaker in speakers:
        voice = generator.normal(size=SIZE)
        for number in range(NUM_UTTERANCES):
            names.append(f"{speaker}/s/{number}")
            rows.append(voice + noise * generator.normal(size=SIZE))
    seconds = generator.uniform(1, 9, len(names)) if durations else None
    return EmbeddingStore.create(folder, names, np.array(rows), seconds)


def make_list(path, speakers, generator):
    """All trials within speakers, and as many others."""
    names = [f"{s}/s/{n}" for s in speakers for n in range(NUM_UTTERANCES)]
    lines = [
        f"{int(a[:4] == b[:4])} {a}.wav {b}.wav\n"
        for i, a in enumerate(names)
        for b in names[:i]
        if a[:4] == b[:4] or generator.random() < 0.2
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of three stores of disjoint speakers and two lists."""
    folder = tmp_path_factory.mktemp("scoring")
    generator = np.random.default_rng(3)
    for name, numbers in {
        "test": range(10, 22),
        "dev": range(30, 40),
        "cohort": range(50, 73),
    }.items():
        speakers = [f"id{number}" for number in numbers]
        make_store(folder / name, speakers, generator)
        make_list(folder / f"{name}.txt", speakers, generator)
    return folder


@pytest.fixture
def score(data, tmp_path, capsys):
    """Run the command on the lists; returns results and what was printed."""

    def score(*more, output="out", embeddings=("test", "dev")):
        main(
            [
                "--embeddings",
                *(str(data / name) for name in embeddings),
                f"--trials={data / 'test.txt'}",
                f"--output={tmp_path / output}",
                "--replicates=40",
                *map(str, more),
            ]
        )
        text = (tmp_path / output / "results.json").read_text()
        return json.loads(text), capsys.readouterr().out

    score.folder = tmp_path
    return score


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
    assert "Without a development list" in page and "actDCF(0.01) |" not in page


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


def test_a_development_list_gives_ratios_thresholds_and_fusion(
    score, data, expected
):
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
    trials, rows, _, _ = expected
    listed = trials_from_file(data / "dev.txt")
    store = EmbeddingStore.open(data / "dev")
    developed = store.embeddings[store.rows(listed.utterances)]
    calibration = Calibration.fit(
        cosine_scores(developed, listed.enrol, listed.test), listed.labels
    )
    llrs = calibration.llr(cosine_scores(rows, trials.enrol, trials.test))
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


@pytest.mark.parametrize("step", ["score_trials", "measure", "render_results"])
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

    monkeypatch.setattr(run, step, refuse)
    with pytest.raises(SystemExit, match="^2$"):
        score(*more, "--lda-size=2")
    assert before == {
        file: (file.stat().st_mtime_ns, file.stat().st_ino)
        for file in (score.folder / "out").iterdir()
    }


def test_a_run_does_not_write_over_what_it_compares_with(score, capsys):
    score()
    scores = score.folder / "out" / "scores.txt"
    before = scores.read_text()
    with pytest.raises(SystemExit, match="^2$"):
        score(f"--compare={score.folder / 'out' / '..' / 'out'}/scores.txt")
    assert "is where this run writes its own scores" in capsys.readouterr().err
    assert scores.read_text() == before


def test_no_matplotlib_is_one_sentence(score, monkeypatch):
    monkeypatch.setattr(run, "can_draw", lambda: False)
    results, _ = score()
    assert results["pictures"] == {}
    (note,) = [x for x in results["notes"] if "matplotlib" in x]
    assert "pip install 'speechbrain_attn[plots]'" in note


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


# fmt: off
BAD = [  # id, more arguments, what the message must say
    ("no_store", ["--cohort={tmp}"], "holds no finished embeddings"),
    ("no_list", ["--trials=none.txt"], "none.txt: cannot be read"),
    ("missing", ["--trials={data}/cohort.txt"], "is not in {data}/test and"),
    ("top", ["--cohort={data}/cohort", "--scoring=as-norm"],
     "as-norm cannot be had, only cosine, centred, z-norm, t-norm, s-norm; "
     "adaptive s-norm wants a cohort larger than its cohort_top (300)"),
    ("one", ["--cohort={data}/cohort", "--cohort-top=1"],
     "cohort_top: want at least 2, got 1"),
    ("norm", ["--scoring=z-norm"], "cohort: must be given for scoring=z-norm"),
    ("train", ["--plda=train"], "cohort: must be given for plda=train"),
    ("plda", ["--plda={tmp}/none"], "PLDA back end {tmp}/none: cannot be r"),
    ("lda", ["--plda=train", "--cohort={data}/cohort"],
     "lda_size: got 128, but 23 speakers"),
    ("draws", ["--replicates=1"], "replicates: want at least 2, got 1"),
    ("other_list", ["--compare={tmp}/scores.txt"],
     'scores.txt line 1: is the trial "1 id10/s/1 id10/s/2", but in'),
    ("shorter", ["--compare={tmp}/short.txt"], "has 2 trials, but"),
    ("no_scores", ["--compare={data}/test.txt"], "got 3 fields"),
    ("names", ["--utt2spk={tmp}/map"], "is not in speaker map"),
]
# fmt: on


@pytest.mark.parametrize(
    "more, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_input_is_one_sentence(score, data, capsys, more, says):
    places = {"tmp": score.folder, "data": data}
    lines = (data / "test.txt").read_text().splitlines()
    wrong = ["1 id10/s/1 id10/s/2", *lines[1:]]
    (score.folder / "scores.txt").write_text(
        "".join(f"{x[2:]} {x[0]} 0.5\n".replace(".wav", "") for x in wrong)
    )
    (score.folder / "short.txt").write_text(
        "id10/s/1 id10/s/0 1 0.5\nid10/s/1 id11/s/0 0 0.5\n"
    )
    (score.folder / "map").write_text("id10/s/0 id10\n")
    with pytest.raises(SystemExit, match="^2$"):
        score(*(word.format(**places) for word in more))
    said = capsys.readouterr().err
    assert says.format(**places) in said
    assert len(said.strip().splitlines()) == 1


def test_options_are_checked():
    assert ScoringOptions().scoring in TITLES
    for given, says in (
        ({"scoring": "best"}, "scoring: want one of cosine, "),
        ({"cohort": 3}, "cohort: want text, got 3"),
        ({"cohort_top": True}, "cohort_top: want a whole number, got True"),
        ({"replicates": 1}, "replicates: want at least 2, got 1"),
        ({"cohort_top": 1}, "cohort_top: want at least 2, got 1"),
        ({"lda_size": 0}, "lda_size: want at least 1, got 0"),
        ({"cohort_utterances": "yes"}, "want True or False, got 'yes'"),
    ):
        with pytest.raises(AttnError, match=says):
            ScoringOptions(**given)
