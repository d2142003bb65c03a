"""What a scoring run refuses, and the sentence that the user gets."""

import subprocess
import sys

import numpy as np
import pytest
from scoring_folders import Runner, copy_store, make_data

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.options import ScoringOptions
from speechbrain_attn.scoring.plda import PLDABackend
from speechbrain_attn.scoring.store import EmbeddingStore
from speechbrain_attn.scoring.systems import TITLES


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("refused"))


@pytest.fixture
def score(data, tmp_path, capsys):
    return Runner(data, tmp_path, capsys)


@pytest.fixture(scope="module")
def wrong(data, tmp_path_factory):
    """Folder of files that do not go with the lists."""
    folder = tmp_path_factory.mktemp("wrong")
    lines = (data / "test.txt").read_text().splitlines()
    others = ["1 id10/s/1 id10/s/2", *lines[1:]]
    (folder / "scores.txt").write_text(
        "".join(f"{x[2:]} {x[0]} 0.5\n".replace(".wav", "") for x in others)
    )
    (folder / "short.txt").write_text(
        "id10/s/1 id10/s/0 1 0.5\nid10/s/1 id11/s/0 0 0.5\n"
    )
    (folder / "map").write_text("id10/s/0 id10\n")
    store = EmbeddingStore.open(data / "test")
    for name, value in (("zero", 0.0), ("nan", np.nan)):
        seconds = store.durations.copy()
        seconds[3] = value
        copy_store(folder / name, store, seconds=seconds)
    copy_store(folder / "model", store, settings={"model_sha256": "c4" * 32})
    copy_store(folder / "size", store, rows=store.embeddings[:, :4])
    one = np.array([name[:4] == "id10" for name in store.ids])
    names = np.array(store.ids)[one].tolist()
    EmbeddingStore.create(folder / "one", names, store.embeddings[one])
    cohort = EmbeddingStore.open(data / "cohort")
    copy_store(folder / "cohort", cohort, rows=cohort.embeddings[:, :5])
    names = [name.split("/")[0] for name in cohort.ids]
    PLDABackend.train(cohort.embeddings[:, :5], names, 3).save(folder / "plda")
    other = PLDABackend.train(
        cohort.embeddings, names, 3, model_sha256="c4" * 32
    )
    other.save(folder / "plda_other")
    labels = np.arange(40) < 20
    scores = labels + np.sin(np.arange(40))
    seconds = np.full((40, 2), 3.0)
    for name, more in (
        ("as_norm", {"scoring": "as-norm"}),
        ("other", {"model_sha256": "c4" * 32}),
        ("timed", {"durations": seconds}),
    ):
        Calibration.fit(scores, labels, **more).save(folder / f"{name}.json")
    return folder


# fmt: off
BAD = [  # id, more arguments, what the message must say
    ("no_store", ["--cohort={wrong}"], "holds no finished embeddings"),
    ("no_folder", ["--cohort={wrong}/none"],
     "{wrong}/none: no such folder. Want a store of embeddings: a folder as "),
    ("list_as_store", ["--cohort={data}/cohort.txt"],
     "{data}/cohort.txt: is a file. Want a store of embeddings: a folder as "),
    ("no_list", ["--trials=none.txt"], "none.txt: cannot be read"),
    ("missing", ["--trials={data}/cohort.txt"], "is not in {data}/test and"),
    ("top", ["--cohort={data}/cohort", "--scoring=as-norm"],
     "as-norm cannot be had, only cosine, centred, z-norm, t-norm, s-norm; "
     "adaptive s-norm wants a cohort larger than its cohort_top (300)"),
    ("one", ["--cohort={data}/cohort", "--cohort-top=1"],
     "cohort_top: want at least 2, got 1"),
    ("norm", ["--scoring=z-norm"], "cohort: must be given for scoring=z-norm"),
    ("train", ["--plda=train"], "cohort: must be given for plda=train"),
    ("plda", ["--plda={wrong}/none"], "PLDA back end {wrong}/none: cannot be"),
    ("lda", ["--plda=train", "--cohort={data}/cohort"],
     "cohort cohort ({data}/cohort): lda_size: got 128, but 23 speakers"),
    ("one_speaker", ["--plda=train", "--cohort={wrong}/one"],
     "cohort one ({wrong}/one): want at least 2 speakers, got 1 in 5 utt"),
    ("plda_size", ["--plda={wrong}/plda"],
     "{data}/test: have size 7, but the PLDA back end {wrong}/plda has size "),
    ("plda_model", ["--plda={wrong}/plda_other"],
     "PLDA back end {wrong}/plda_other: is for another model's embeddings "
     "(sha256 c4c4c4c4c4c4, and these have 5b5b5b5b5b5b); train one for"),
    ("cohort_size", ["--cohort={wrong}/cohort"],
     "{wrong}/cohort: have size 5, but {data}/test has size 7"),
    ("size", ["--embeddings", "{data}/dev", "{wrong}/size"],
     "{wrong}/size: have size 4, but {data}/dev has size 7"),
    ("models", ["--embeddings", "{data}/dev", "{wrong}/model"],
     "{data}/dev and {wrong}/model: are of different models (sha256 "
     "5b5b5b5b5b5b and c4c4c4c4c4c4)"),
    ("duration_0", ["--embeddings", "{wrong}/zero"],
     "test.txt line 4: utterance 'id10/s/3' in {wrong}/zero lasts 0.0 s"),
    ("duration_nan", ["--embeddings", "{wrong}/nan", "{data}/dev",
     "--development={data}/dev.txt", "--duration-term"],
     "test.txt line 4: the duration of utterance 'id10/s/3' in {wrong}/nan is "
     "not known (NaN), and so those of 1 of 60, but duration_term takes"),
    ("duration_nan_saved", ["--embeddings", "{wrong}/nan",
     "--calibration={wrong}/timed.json"],
     "and so those of 1 of 60, but {wrong}/timed.json takes them all"),
    ("calibration", ["--calibration={wrong}/none.json"],
     "none.json: cannot be read (No such file"),
    ("calibration_scoring", ["--calibration={wrong}/as_norm.json"],
     "{wrong}/as_norm.json: was fitted on as-norm scores, and these are "
     "cosine; score as it was fitted, or fit"),
    ("calibration_model", ["--calibration={wrong}/other.json"],
     "{wrong}/other.json: was fitted on another model's embeddings (sha256 "
     "c4c4c4c4c4c4, and these have 5b5b5b5b5b5b)"),
    ("calibration_twice", ["--calibration={wrong}/other.json",
     "--development={data}/dev.txt"], "exclude each other"),
    ("term_alone", ["--duration-term"],
     "development_file: must be given for duration_term"),
    ("prior_alone", ["--p-target=0.1"], "p_target: has no effect without a c"),
    ("prior", ["--p-target=1", "--calibration={wrong}/other.json"],
     "p_target: want a number in (0, 1), got 1.0"),
    ("draws", ["--replicates=1"], "replicates: want at least 2, got 1"),
    ("other_list", ["--compare={wrong}/scores.txt"],
     'scores.txt line 1: is the trial "1 id10/s/1 id10/s/2", but in'),
    ("shorter", ["--compare={wrong}/short.txt"], "has 2 trials, but"),
    ("no_scores", ["--compare={data}/test.txt"], "got 3 fields"),
    ("names", ["--utt2spk={wrong}/map"], "is not in speaker map"),
]
# fmt: on


@pytest.mark.parametrize(
    "more, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_input_is_one_sentence(score, data, wrong, more, says):
    places = {"wrong": wrong, "data": data}
    with pytest.raises(SystemExit, match="^2$"):
        score(*(word.format(**places) for word in more))
    said = score.capsys.readouterr().err
    assert says.format(**places) in said
    assert len(said.strip().splitlines()) == 1
    assert not (score.folder / "out").exists()


def test_a_duration_that_is_not_known_leaves_all_out(score, wrong, caplog):
    """Where nothing needs them; the utterance is logged."""
    results, _ = score(embeddings=[wrong / "nan"])
    assert "duration" not in results["pictures"]
    (said,) = [x.getMessage() for x in caplog.records]
    assert "line 4: the duration of utterance 'id10/s/3' in" in said
    assert said.endswith("1 of 60; durations are left out.")


def test_messages_name_the_command():
    """As it was typed, not the file that Python ran."""
    command = "speechbrain_attn.scoring"
    run = subprocess.run(
        [sys.executable, "-m", command, "--embeddings=x", "--trials=none"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 2
    assert run.stderr.startswith(f"python -m {command}: trial list none: ") or (
        run.stderr.startswith(f"python -m {command}: x: no such folder")
    )


def test_a_run_does_not_write_over_what_it_compares_with(score, capsys):
    score()
    scores = score.folder / "out" / "scores.txt"
    before = scores.read_text()
    with pytest.raises(SystemExit, match="^2$"):
        score(f"--compare={score.folder / 'out' / '..' / 'out'}/scores.txt")
    assert "is where this run writes its own scores" in capsys.readouterr().err
    assert scores.read_text() == before


def test_a_run_does_not_write_over_its_trials(score, capsys):
    """A scores.txt is a list of trials as well."""
    score()
    scores = score.folder / "out" / "scores.txt"
    before = scores.read_text()
    for option in ("trials", "development"):
        with pytest.raises(SystemExit, match="^2$"):
            score(f"--{option}={scores}")
        said = capsys.readouterr().err
        assert f"{scores}: is where this run writes its own scores.txt" in said
    assert scores.read_text() == before


def test_options_are_checked():
    assert ScoringOptions().scoring in TITLES
    for given, says in (
        ({"scoring": "best"}, "scoring: want one of cosine, "),
        ({"cohort": 3}, "cohort: want text, got 3"),
        ({"cohort_top": True}, "cohort_top: want a whole number, got True"),
        ({"replicates": 1}, "replicates: want at least 2, got 1"),
        ({"cohort_top": 1}, "cohort_top: want at least 2, got 1"),
        ({"lda_size": 0}, "lda_size: want at least 1, got 0"),
        ({"p_target": "1e0"}, "p_target: want a number in .0, 1., got 1.0"),
        ({"p_target": "low"}, "p_target: want a number, got 'low'"),
        ({"p_target": 1}, "p_target: want a number, got 1"),
        ({"duration_term": 1}, "duration_term: want True or False, got 1"),
        ({"cohort_utterances": "yes"}, "want True or False, got 'yes'"),
    ):
        with pytest.raises(AttnError, match=says):
            ScoringOptions(**given)
