"""The training script: its options, and what it says of bad input."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from recipe_runs import RECIPE, options, run, run_many

from speechbrain_attn.nnet.schedules import PlateauHalving

SCRIPT = RECIPE / "train_speaker_embeddings.py"
YAML = RECIPE / "hparams" / "baselines" / "xvector.yaml"


def words(overrides, yaml=YAML):
    return [yaml, *options(overrides)]


def logged(folder, name):
    """Values of a statistic, an epoch each."""
    log = (folder / "train_log.txt").read_text()
    return [float(value) for value in re.findall(rf"{name}: ([^\s,]+)", log)]


@pytest.fixture(scope="module")
def plateau_yaml(tmp_path_factory):
    """xvector.yaml with a schedule that is told of validations."""
    text = YAML.read_text()
    start, end = text.index("lr_annealing:"), text.index("epoch_counter:")
    text = text.replace(
        text[start:end],
        "lr_annealing: !new:speechbrain_attn.nnet.schedules.PlateauHalving\n"
        "    lr: !ref <lr>\n"
        "    patience: 1\n",
    )
    path = tmp_path_factory.mktemp("yaml") / "plateau.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_xvector):
    """Output folder of a finished run, to be copied."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    # At a lower rate so few batches learn less than their losses differ by.
    overrides = {**tiny_xvector, "lr": 0.02, "output_folder": folder}
    done = run(SCRIPT, *words(overrides))
    assert done.returncode == 0, done.stdout
    return folder


def test_a_run_learns_and_writes_what_is_promised(trained):
    assert logged(trained, "epoch") == [1, 2]
    loss = logged(trained, "train loss")
    assert loss[1] < loss[0]
    assert min(logged(trained, "valid ErrorRate")) <= 1
    assert all(wait >= 0 for wait in logged(trained, "data_wait_ms"))
    assert (trained / "model" / "embedding_model.ckpt").is_file()


def test_validation_list_bf16_augmentation_and_no_dev_rows(
    tmp_path, plateau_yaml, tiny_xvector, tiny_corpus, validation_trials
):
    """The EER is logged, chooses the checkpoint and moves the rate."""
    overrides = {
        **tiny_xvector,
        "validation_file": validation_trials,
        "split_ratio": "[100,0]",
        "noise_folder": tiny_corpus,
        "rir_folder": tiny_corpus,
        "speeds": "[90,100,110]",
        "spec_masks": 2,
        "precision": "bf16",
        "number_of_epochs": 4,
        "num_workers": 1,
        "out_n_neurons": 9,
        "output_folder": tmp_path,
        "tensorboard_folder": tmp_path / "board",
    }
    done = run(SCRIPT, *words(overrides, plateau_yaml))
    assert done.returncode == 0, done.stdout
    assert list((tmp_path / "board").glob("events*"))
    assert "out_n_neurons=9, and there are 4 speakers" in done.stdout
    rates = logged(tmp_path, "valid EER")
    assert len(rates) == 4 and all(0 <= rate <= 1 for rate in rates)
    schedule, expected = PlateauHalving(0.001, patience=1), []
    for rate in rates:
        schedule.on_validation(rate)
        expected.append(float(f"{schedule(1)[0]:.2e}"))
    assert logged(tmp_path, "lr") == expected
    assert "ErrorRate" not in (tmp_path / "train_log.txt").read_text()
    speakers = (tmp_path / "save" / "label_encoder.txt").read_text()
    assert "id10003" not in speakers and "id10005" in speakers
    best = min(rates)
    kept = [path.read_text() for path in tmp_path.glob("save/CKPT*/CKPT.yaml")]
    saved = [float(re.search(r"EER: (\S+)", text)[1]) for text in kept]
    assert min(saved) == pytest.approx(best, rel=0.01)


def test_a_finished_run_does_nothing_more(tmp_path, trained, tiny_xvector):
    """Finished by its number of batches, with epochs left."""
    folder = shutil.copytree(trained, tmp_path / "run")
    overrides = {
        **tiny_xvector,
        "output_folder": folder,
        "optimizer_step_limit": 10,
        "number_of_epochs": 9,
    }
    done = run(SCRIPT, *words(overrides))
    assert done.returncode == 0, done.stdout
    assert logged(folder, "epoch") == [1, 2]
    same = (folder / "model" / "embedding_model.ckpt").read_bytes()
    assert same == (trained / "model" / "embedding_model.ckpt").read_bytes()


def test_a_last_batch_of_one_joins_the_one_before(
    tmp_path, trained, tiny_xvector
):
    rows = (trained / "save" / "train.csv").read_text().splitlines()[1:]
    overrides = {
        **tiny_xvector,
        "number_of_epochs": 1,
        "batch_size": len(rows) - 1,
        "output_folder": tmp_path,
    }
    done = run(SCRIPT, *words(overrides))
    assert done.returncode == 0, done.stdout


def test_options_that_cannot_be_met_are_refused_with_a_sentence(
    tmp_path, tiny_xvector, tiny_corpus
):
    empty = tmp_path / "empty"
    empty.mkdir()
    gone, url = tmp_path / "gone", "https://a.b/c.txt"
    alone = tmp_path / "alone"
    for speaker in ("id10001", "id10002", "id10005"):
        place = Path("wav", speaker)
        shutil.copytree(tiny_corpus / place, alone / place)
    # fmt: off
    bad = [  # key, value, what the message must say
        ("nonexistent", 3, r"no key 'nonexistent'"),
        ("number_of_epoch", 3, r"did you mean --number_of_epochs\?"),
        ("data_folder", gone, r"gone: no such data folder"),
        ("data_folder", empty, r"empty: no audio at <speaker>"),
        ("verification_file", url, r"verification_file=https.*c\.txt: nothing"),
        ("verification_file", gone, r"gone: cannot be read"),
        ("validation_file", url, r"validation_file=https.*c\.txt: nothing"),
        ("noise_folder", empty, r"noise_folder: no audio files"),
        ("rir_folder", gone, r"rir_folder: no such folder"),
        ("sample_rate", 8000, r"sample_rate=8000: want 16000"),
        ("out_n_neurons", 5, r"holds 6 speakers; set --out_n_neurons=6"),
        ("batch_size", 1, r"batch_size=1: want two crops at least"),
        ("max_grad_norm", 0, r"max_grad_norm=0\.0: want a number above 0"),
        ("max_grad_norm", -5, r"max_grad_norm=-5\.0: want a number above 0"),
        ("augment_prob", 50, r"augment_prob=50: want a number from 0 to 1"),
        ("spec_masks", -1, r"num_time_masks=-1: want .* call it spec_masks"),
        ("spec_masks", 2.5, r"num_time_masks=2\.5: want a whole number"),
        ("data_folder", alone, r"holds one speaker, 'id10005'; want two"),
    ]
    # fmt: on
    output = {"output_folder": tmp_path / "out"}
    lines = [words({**tiny_xvector, **output, k: v}) for k, v, _ in bad]
    lines.append([tmp_path / "none.yaml"])
    lines.append([YAML, f"--output_folder={tmp_path}/out"])
    says = [message for *_, message in bad]
    lines.append([YAML, f"--output_folder={tmp_path}/out", "--lr=1", "--lr=2"])
    says += [
        r"none\.yaml: no such YAML",
        r"add --data_folder=\.\.\.",
        r"lr is given twice",
    ]
    done = run_many(SCRIPT, lines)
    for (code, said), message in zip(done, says, strict=True):
        assert code == 2, said
        last = said.strip().splitlines()[-1]
        assert re.search(message, last), said
        assert "Traceback" not in said


def test_checkpoints_that_do_not_fit_are_refused_by_name(
    tmp_path, trained, tiny_xvector
):
    """An empty network, one of other sizes, and a changed set of speakers."""
    cases = {}
    for name in ("empty", "sizes", "speakers"):
        cases[name] = shutil.copytree(trained, tmp_path / name)
    for checkpoint in (cases["empty"] / "save").glob("CKPT*"):
        torch.save({}, checkpoint / "embedding_model.ckpt")
    encoder = cases["speakers"] / "save" / "label_encoder.txt"
    encoder.write_text(encoder.read_text().replace("id10003", "id99999"))
    overrides = {
        name: {**tiny_xvector, "output_folder": folder, "number_of_epochs": 3}
        for name, folder in cases.items()
    }
    overrides["sizes"]["channels"] = 16
    done = run_many(SCRIPT, [words(each) for each in overrides.values()])
    says = [
        r"empty/save/CKPT\+.*cannot be loaded .*Missing key",
        r"sizes/save/CKPT\+.*cannot be loaded .*size mismatch",
        r"label_encoder\.txt: lacks 1 of 6 speakers, such as 'id10003'",
    ]
    for (code, said), message in zip(done, says, strict=True):
        assert code == 2, said
        assert re.search(message, said.strip().splitlines()[-1]), said


def test_a_file_that_breaks_while_training_is_named(
    tmp_path, trained, tiny_xvector, tiny_corpus
):
    """In a worker of the loader, whose message comes with its traceback."""
    folder = shutil.copytree(trained, tmp_path / "run")
    manifest = folder / "save" / "train.csv"
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    text = manifest.read_text()
    manifest.write_text(text.replace(text.split(",")[7], str(broken)))
    overrides = {
        **tiny_xvector,
        "output_folder": folder,
        "skip_prep": "True",
        "num_workers": 1,
        "number_of_epochs": 3,
    }
    done = run(SCRIPT, *words(overrides))
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    last = done.stdout.strip().splitlines()[-1]
    assert re.search(r"py: .*broken\.wav: cannot be decoded", last), last
