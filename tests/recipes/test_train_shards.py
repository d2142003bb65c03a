"""Training from tar shards, on one machine and on two."""

import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from killed_runs import KILLER, assert_equal_weights, checkpoints
from recipe_runs import RECIPE, options, run

from speechbrain_attn.dataio.epochs import EpochBatchSampler

SCRIPT = RECIPE / "train_speaker_embeddings.py"
CLASSIFIER = RECIPE / "hparams" / "baselines" / "xvector.yaml"
GE2E = RECIPE / "hparams" / "self_attentive_tdnn.yaml"


@pytest.fixture(scope="module")
def shards(tmp_path_factory, tiny_corpus):
    """The tiny corpus in shards of about six files."""
    folder = tmp_path_factory.mktemp("shards") / "tiny"
    script = RECIPE / "make_shards.py"
    done = run(script, tiny_corpus, folder, "--shard-megabytes=0.2")
    assert done.returncode == 0, done.stdout
    assert len(list(folder.glob("*.tar"))) > 4
    return folder


@pytest.fixture(scope="module")
def classifier(tiny_xvector, tiny_corpus, validation_trials):
    """Overrides of a run: random crops, noise, two workers, an EER."""
    return {
        **tiny_xvector,
        "validation_file": validation_trials,
        "out_n_neurons": 4,
        "noise_folder": tiny_corpus,
        "num_workers": 2,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 3,
    }


def train(folder, overrides, yaml=CLASSIFIER):
    """Words of the command."""
    return [SCRIPT, yaml, *options({**overrides, "output_folder": folder})]


@pytest.fixture(scope="module")
def from_files(tmp_path_factory, classifier):
    """Output folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "files"
    done = run(*train(folder, classifier))
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory, classifier, shards):
    """Output folder of a run from shards, killed in the second epoch."""
    place = tmp_path_factory.mktemp("killed")
    killer = place / "killer.py"
    killer.write_text(KILLER)
    overrides = {**classifier, "data_folder": shards}
    done = run(killer, 14, *train(place / "run", overrides))
    assert done.returncode == -signal.SIGKILL, done.stdout
    log = (place / "run" / "train_log.txt").read_text()
    assert len(log.splitlines()) == 1 and len(checkpoints(place / "run")) == 2
    return place / "run"


def test_a_killed_run_from_shards_ends_as_the_one_from_files(
    tmp_path, classifier, shards, killed, from_files
):
    folder = shutil.copytree(killed, tmp_path / "run")
    done = run(*train(folder, {**classifier, "data_folder": shards}))
    assert done.returncode == 0, done.stdout
    assert "crops a step" not in done.stdout
    assert "begins anew" not in done.stdout
    assert str(shards) in (folder / "save" / "train.csv").read_text()
    assert_equal_weights(folder, from_files)
    for one in ("embedding_model", "mean_var_norm_emb"):
        model = Path("model", f"{one}.ckpt")
        ours, theirs = (
            torch.load(place / model, weights_only=True)
            for place in (folder, from_files)
        )
        for key, value in ours.items():
            torch.testing.assert_close(value, theirs[key], rtol=0, atol=0)
    logs = [
        (place / "train_log.txt").read_text().split("data_wait_ms")[0]
        for place in (folder, from_files)
    ]
    assert logs[0] == logs[1]


def test_ge2e_from_shards_is_that_from_files(
    tmp_path, tiny_ge2e, tiny_corpus, shards
):
    for name, data in (("files", tiny_corpus), ("shards", shards)):
        overrides = {**tiny_ge2e, "number_of_epochs": 1, "data_folder": data}
        done = run(*train(tmp_path / name, overrides, GE2E))
        assert done.returncode == 0, done.stdout
    assert_equal_weights(tmp_path / "files", tmp_path / "shards")


def test_two_machines_train_as_two_processes_of_one(
    tmp_path, classifier, tiny_corpus, shards
):
    """From shards there and from files here."""
    overrides = {**classifier, "distributed_backend": "gloo"}
    launch = ["-m", "torch.distributed.run"]
    alone = train(tmp_path / "alone", {**overrides, "num_workers": 0})
    done = run(*launch, "--standalone", "--nproc_per_node=2", *alone)
    assert done.returncode == 0, done.stdout
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    words = train(tmp_path / "apart", {**overrides, "data_folder": shards})
    master = ["--master_addr=localhost", f"--master_port={port}"]
    with ThreadPoolExecutor(2) as pool:
        nodes = [
            [*launch, "--nnodes=2", f"--node_rank={rank}", *master, *words]
            for rank in range(2)
        ]
        for done in pool.map(lambda node: run(*node), nodes):
            assert done.returncode == 0, done.stdout
    assert_equal_weights(tmp_path / "apart", tmp_path / "alone")


def steps_taken(folder):
    """Of the optimiser, up to the newest checkpoint."""
    newest = max(checkpoints(folder), key=os.path.getmtime)
    return yaml.safe_load((newest / "brain.ckpt").read_text())["optimizer_step"]


def test_an_epoch_of_other_files_begins_anew(
    tmp_path, classifier, tiny_corpus, killed
):
    """All its batches are heard, of which three were in another order."""
    folder = shutil.copytree(killed, tmp_path / "run")
    data = shutil.copytree(tiny_corpus, tmp_path / "data")
    shutil.rmtree(data / "wav" / "id10007")
    before = steps_taken(folder)
    done = run(*train(folder, {**classifier, "data_folder": data}))
    assert done.returncode == 0, done.stdout
    assert "heard in its first 3 steps is heard again" in done.stdout
    rows = (folder / "save" / "train.csv").read_text().splitlines()[1:]
    epoch = len(EpochBatchSampler(len(rows), 8))
    assert steps_taken(folder) == before + epoch


def test_another_number_of_processes_goes_on_and_says_what_changes(
    tmp_path, classifier, shards, killed
):
    folder = shutil.copytree(killed, tmp_path / "run")
    overrides = {
        **classifier,
        "data_folder": shards,
        "distributed_backend": "gloo",
    }
    launch = ["-m", "torch.distributed.run", "--standalone"]
    done = run(*launch, "--nproc_per_node=2", *train(folder, overrides))
    assert done.returncode == 0, done.stdout
    says = "begun with 8 crops a step, over all processes, and goes on with 16"
    assert says in done.stdout
    assert (folder / "model" / "embedding_model.ckpt").is_file()
