"""Killed runs go on where they were, on one process and on two."""

import os
import signal

import pytest
import torch
from recipe_runs import RECIPE, options, run

SCRIPT = RECIPE / "train_speaker_embeddings.py"
CLASSIFIER = RECIPE / "hparams" / "baselines" / "xvector.yaml"
GE2E = RECIPE / "hparams" / "self_attentive_tdnn.yaml"

# Runs a script that kills its own process, as kill -9 does, when the batch of
# the given number (over all epochs) is about to be trained.
KILLER = """\
import os, runpy, signal, sys
import speechbrain

left = int(sys.argv[1])
fit_batch = speechbrain.Brain.fit_batch

def fit_or_die(brain, batch):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return fit_batch(brain, batch)

speechbrain.Brain.fit_batch = fit_or_die
sys.argv = sys.argv[2:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def killer(tmp_path):
    path = tmp_path / "killer.py"
    path.write_text(KILLER)
    return path


@pytest.fixture(params=[CLASSIFIER, GE2E], ids=["classifier", "ge2e"])
def training(request, tiny_xvector, tiny_ge2e, tiny_corpus):
    """YAML file and overrides of a run.

    Random crops, augmentation, and a checkpoint every third batch; an epoch
    has 14 batches of the classifier or 9 of GE2E.
    """
    sizes = tiny_xvector if request.param == CLASSIFIER else tiny_ge2e
    overrides = {
        **sizes,
        "noise_folder": tiny_corpus,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 3,
    }
    return request.param, overrides


def weights(folder):
    """All parameters of the last checkpoint of a finished run, by name."""
    newest = max(checkpoints(folder), key=os.path.getmtime)
    found = {}
    for name in ("embedding_model", "classifier", "compute_cost"):
        path = newest / f"{name}.ckpt"
        if path.exists():
            for key, value in torch.load(path, weights_only=True).items():
                found[f"{name}.{key}"] = value
    return found


def assert_equal_weights(folder, other):
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    differing = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    assert differing == []


def checkpoints(folder):
    return sorted((folder / "save").glob("CKPT*"))


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
