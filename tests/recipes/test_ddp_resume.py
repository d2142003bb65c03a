"""Killed runs go on where they were, on one process and on two."""

import os
import signal

import pytest
from killed_runs import KILLER, assert_equal_weights, checkpoints
from recipe_runs import RECIPE, options, run

SCRIPT = RECIPE / "train_speaker_embeddings.py"
CLASSIFIER = RECIPE / "hparams" / "baselines" / "xvector.yaml"
GE2E = RECIPE / "hparams" / "self_attentive_tdnn.yaml"


@pytest.fixture
def killer(tmp_path):
    path = tmp_path / "killer.py"
    path.write_text(KILLER)
    return path


@pytest.fixture(params=[CLASSIFIER, GE2E], ids=["classifier", "ge2e"])
def training(request, tiny_xvector, tiny_ge2e, tiny_corpus):
    """YAML file and overrides of a run.

    Random crops, augmentation, a running average of the weights, and a
    checkpoint every third batch; an epoch has 14 batches of the classifier,
    with speakers at other speeds, or 9 of GE2E.
    """
    sizes = tiny_xvector if request.param == CLASSIFIER else tiny_ge2e
    overrides = {
        **sizes,
        "noise_folder": tiny_corpus,
        "no_decay": "True",
        "ema_decay": 0.9,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 3,
    }
    if request.param == CLASSIFIER:
        overrides["speaker_speeds"] = "[90,110]"
    return request.param, overrides


def test_a_killed_run_ends_as_the_unbroken_one(tmp_path, killer, training):
    """Killed in the second epoch, with the newest checkpoint torn."""
    yaml, overrides = training
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    train = [SCRIPT, yaml, *options({**overrides, "output_folder": broken})]
    batches = 9 if yaml == GE2E else 14
    done = run(killer, batches + 5, *train)
    assert done.returncode == -signal.SIGKILL, done.stdout
    assert len((broken / "train_log.txt").read_text().splitlines()) == 1
    last_epoch, newest = sorted(checkpoints(broken), key=os.path.getmtime)
    assert "end-of-epoch: false" in (newest / "CKPT.yaml").read_text()
    with open(newest / "optimizer.ckpt", "r+b") as file:
        file.truncate(1000)  # as if killed while this file was written
    assert not (broken / "model").exists()

    done = run(*train)
    assert done.returncode == 0, done.stdout
    assert f"{newest}: optimizer.ckpt is empty or cut short" in done.stdout
    assert newest.with_name(f"torn-{newest.name}").is_dir()
    assert f"Loading a checkpoint from {last_epoch}" in done.stdout
    done = run(SCRIPT, yaml, *options({**overrides, "output_folder": whole}))
    assert done.returncode == 0, done.stdout
    assert_equal_weights(broken, whole)


def test_two_processes_train_and_go_on_after_a_kill(tmp_path, killer, training):
    """Every process is killed at its sixth batch."""
    yaml, overrides = training
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    overrides["distributed_backend"] = "gloo"

    def torchrun(*words):
        launch = ["-m", "torch.distributed.run", "--standalone"]
        return run(*launch, "--nproc_per_node=2", *words)

    def train(folder):
        return [SCRIPT, yaml, *options({**overrides, "output_folder": folder})]

    done = torchrun(*train(whole))
    assert done.returncode == 0, done.stdout
    log = (whole / "train_log.txt").read_text().splitlines()
    assert len(log) == 2  # one line an epoch, whatever the processes
    done = torchrun(killer, 6, *train(broken))
    assert done.returncode == 1, done.stdout
    assert checkpoints(broken) and not (broken / "model").exists()
    done = torchrun(*train(broken))
    assert done.returncode == 0, done.stdout
    assert "Loading a checkpoint from" in done.stdout
    assert_equal_weights(broken, whole)
