"""The demo: its plan, its steps, its results page, and one run for real."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_attn.demo import results, run
from speechbrain_attn.errors import AttnError

ROOT = Path(__file__).resolve().parents[2]

RECORD = {
    "data": "a corpus",
    "system": "double_mha",
    "list": "veri_test",
    "trials": 1200,
    "targets": 600,
    "eer": 0.1034,
    "min_dcf": 0.61249,
    "parameters": 1234567,
    "hparams": "hparams/demo/double_mha.yaml",
    "seed": 1,
    "train_speakers": 374,
    "train_utterances": 3213,
    "train_hours": 3.74,
    "train_seconds": 240.2,
    "machine": "a processor, 2 cores",
    "versions": {"torch": "2"},
    "date": "2020-02-02",
    "command": "python -m speechbrain_attn.demo.run --system double_mha",
}


@pytest.fixture
def speech(tmp_path):
    """Three noise speakers of two utterances, and lists of two of them."""
    rng = np.random.default_rng(0)
    for name in "abc":
        for utterance in (1, 2):
            path = tmp_path / "speech" / name / "s" / f"{utterance}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(8000), 16000)
    (tmp_path / "test.txt").write_text("1 a/s/1.wav a/s/2.wav\n0 a/s/1 b/s/1\n")
    (tmp_path / "more.txt").write_text("1 a/s/1.wav a/s/2.wav\n0 a/s/1 c/s/1\n")
    return tmp_path


def plan_of(folder, *more):
    options, overrides = run.parse_options(
        [
            f"--data={folder / 'speech'}",
            f"--trials={folder / 'test.txt'}",
            f"--output={folder / 'out'}",
            *more,
        ]
    )
    return run.make_plan(options, overrides)


@pytest.fixture
def stub_recipe(tmp_path, monkeypatch):
    """Scripts in the place of the recipe's: they note their arguments."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "train_speaker_embeddings.py").write_text(
        "import os, sys\n"
        "print('arguments:', *sys.argv[1:])\n"
        "if '--fail' in sys.argv: sys.exit(3)\n"
        "folder = sys.argv[3].removeprefix('--output_folder=')\n"
        "os.makedirs(folder + '/save/CKPT+1', exist_ok=True)\n"
    )
    monkeypatch.setattr(run, "RECIPE", folder)
    return folder


def test_plan_on_recordings(speech):
    plan = plan_of(speech, "--system=double_mha", "--lr=0.1", "--seed=5")
    assert plan.hparams == ROOT / "hparams" / "demo" / "double_mha.yaml"
    assert plan.data_name == "speech" and plan.seed == 5
    assert plan.overrides == ["--lr=0.1"]
    assert plan.folder == speech / "out" / "speech" / "double_mha"
    assert plan.held_back() == {"a", "b"}


@pytest.mark.parametrize("arguments", [["--data=x"], ["--trials=x"]])
def test_recordings_and_trials_go_together(arguments, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        run.main(arguments)
    assert "--data and --trials go together" in capsys.readouterr().err


def test_training_with_ge2e_asks_for_a_validation_list_at_once(speech):
    system = "--system=self_attentive_tdnn"
    says = "self_attentive_tdnn.yaml keeps what is best .* add --validation"
    with pytest.raises(AttnError, match=says):
        plan_of(speech, system)
    held = f"--validation={speech / 'more.txt'}"
    plan = plan_of(speech, system, held)
    assert plan.validation == (speech / "more.txt").resolve()


def test_speakers_of_another_list_must_be_held_back(speech):
    more = f"--lists={speech / 'more.txt'}"
    with pytest.raises(AttnError, match="more.txt: speakers such as c "):
        run.check_speakers(plan_of(speech, more))
    held = f"--validation={speech / 'more.txt'}"
    run.check_speakers(plan_of(speech, more, held))


def test_training_counts_speakers_and_keeps_its_log(
    speech, stub_recipe, capfdbinary
):
    plan = plan_of(speech, "--lr=0.1")
    run.train(plan)
    shown = capfdbinary.readouterr().out.decode()
    log = (plan.folder / "logs" / "train.log").read_text()
    assert log in shown
    assert "--out_n_neurons=1 " in log  # c alone: a and b are tested on
    assert f"--output_folder={plan.folder}" in log and "--lr=0.1" in log
    first = json.loads((plan.folder / "demo.json").read_text())
    assert run.train(plan) > first["train_seconds"] > 0


def test_a_failed_step_is_named_with_its_log(speech, stub_recipe):
    plan = plan_of(speech, "--fail")
    says = r"training failed with exit code 3: .*train_speaker_emb.*train\.log"
    with pytest.raises(AttnError, match="(?s)" + says):
        run.train(plan)
    run.train(plan_of(speech))  # in the same folder: nothing was kept there


def test_another_run_in_the_same_folder_is_refused(speech, stub_recipe):
    run.train(plan_of(speech))
    with pytest.raises(AttnError, match="run: seed=1234, now 6. Give another"):
        run.train(plan_of(speech, "--seed=6"))


def test_missing_recipe_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "RECIPE", tmp_path / "nowhere")
    with pytest.raises(SystemExit, match="^2$"):
        run.main([])
    assert "in a clone of the repository" in capsys.readouterr().err


def test_page_is_rendered_from_its_records(tmp_path):
    page = tmp_path / "results" / "page.md"
    results.add_records(page, [RECORD])
    row = "| double_mha | 1,234,567 | veri_test | 1,200 | 10.34 | 0.612 |"
    assert row in page.read_text()
    assert "374 speakers" in page.read_text()
    # A later result takes the place of the earlier one, others stay.
    better = {**RECORD, "eer": 0.05}
    other = {**RECORD, "list": "veri_hard", "eer": 0.2}
    results.add_records(page, [better, other])
    assert page.read_text().count("| double_mha |") == 2
    assert "| 5.00 |" in page.read_text() and "10.34" not in page.read_text()
    records = results.read_records(page.with_suffix(".json"))
    assert results.render_page(records, "page.json") == page.read_text()


def test_broken_data_of_a_page_are_refused(tmp_path):
    (tmp_path / "page.json").write_text("[{")
    with pytest.raises(AttnError, match=r"page\.json: is not JSON"):
        results.add_records(tmp_path / "page.md", [RECORD])


def test_tables_that_differ_from_their_data_are_found(tmp_path, capsys):
    page = tmp_path / "docs" / "results" / "page.md"
    results.add_records(page, [RECORD])
    (tmp_path / "hparams").symlink_to(ROOT / "hparams")
    readme = tmp_path / "README.md"
    readme.write_text(
        "before\n<!-- table: docs/results/page.json -->\n| old |\n"
        "<!-- end of table -->\nafter\n"
    )
    root = f"--root={tmp_path}"
    assert results.main([root]) == 1
    assert results.main([root, "--write"]) == 0
    assert results.main([root]) == 0
    assert capsys.readouterr().out.count("README.md") == 2
    text = readme.read_text()
    assert "| 10.34 |" in text and "old" not in text
    assert text.startswith("before\n<!--") and text.endswith("-->\nafter\n")
    page.write_text("by hand")
    assert results.main([root]) == 1


@pytest.fixture(scope="module")
def tiny_speech(tmp_path_factory):
    """Made-up voices that stand for recordings."""
    pytest.importorskip("espeakng_loader", reason="made-up voices")
    from speechbrain_attn.demo.voices import CorpusSettings, make_corpus

    folder = tmp_path_factory.mktemp("tiny") / "recordings"
    settings = CorpusSettings(
        num_train=4, num_validation=2, num_test=2, num_utterances=2, max_s=3.5
    )
    make_corpus(folder, settings, progress=False)
    shutil.copy(folder / "veri_test.txt", folder / "veri_again.txt")
    return folder


def test_the_whole_way_for_real(tiny_speech, tmp_path, capfdbinary):
    """The recipe's own scripts, from recordings to the results page."""
    page = tmp_path / "out" / "results.md"
    code = run.main(
        [
            "--system=serialized_mha",
            f"--data={tiny_speech}",
            "--data-name=tiny",
            f"--trials={tiny_speech / 'veri_test.txt'}",
            f"--validation={tiny_speech / 'veri_dev.txt'}",
            "--lists",
            str(tiny_speech / "veri_again.txt"),
            f"--output={tmp_path / 'out'}",
            "--total_steps=3",
            "--warmup_steps=1",
            "--number_of_epochs=1",
            "--batch_size=4",
            "--channels=16",
            "--embedding_size=8",
            "--num_workers=0",
            "--device=cpu",
        ]
    )
    shown = capfdbinary.readouterr().out.decode()
    assert code == 0
    records = json.loads(page.with_suffix(".json").read_text())
    assert [r["list"] for r in records] == ["veri_again", "veri_test"]
    for record in records:
        assert record["train_speakers"] == 4
        assert record["trials"] == 16 and record["targets"] == 8
        assert 0 <= record["eer"] <= 1
        assert str(tmp_path) not in json.dumps(record)
    assert "(same speaker): score" in shown and "(two speakers)" in shown
    assert f"{records[0]['parameters']:,}" in shown
    for line in ("model:", "checkpoints:", "scores:", "logs:"):
        place = shown.rsplit(line, 1)[1].split("\n")[0].strip()
        assert any(Path(place).iterdir())
    assert sys.executable not in page.read_text()
