"""Export: everything that a model's user needs, made from the run."""

import errno
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_folders import COSINES, write_run
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from speechbrain_attn import hub
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.export import export
from speechbrain_attn.scoring.calibration import Calibration


def figure(value):
    return {"value": value, "low": value * 0.9, "high": value * 1.2}


def write_evaluation(folder, name="veri_test", scoring="cosine", seed=0):
    """Write what a verification script leaves, with figures of our own."""
    folder.mkdir()
    draw = np.random.default_rng(seed)
    scores = np.r_[draw.normal(0.7, 0.1, 400), draw.normal(0.2, 0.1, 600)]
    labels = np.arange(1000) < 400
    Calibration.fit(scores, labels, trial_list="veri_dev").save(
        folder / "calibration.json"
    )
    (folder / "det.png").write_bytes(b"a picture")
    results = {
        "trial_list": f"/some/place/{name}.txt",
        "num_trials": 12200,
        "trials": {"targets": 6100, "nontargets": 6100},
        "num_speakers": 85,
        "scoring": scoring,
        "level": 0.95,
        "systems": {
            scoring: {"eer": figure(0.1034), "min_dcf_0.01": figure(0.61249)}
        },
        "conditions": {"model": "/some/place/model", "embedding_size": 6},
        "compared_with": "/some/place/scores.txt",
        "pictures": {"det": "det.svg", "histogram": "not_there.svg"},
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def test_the_folder_holds_weights_in_both_forms(run, tmp_path):
    folder = export(run, tmp_path / "model")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "README.md",
        "classifier.ckpt",
        "embedding_model.ckpt",
        "embedding_model.safetensors",
        "hyperparams.yaml",
        "label_encoder.ckpt",
        "label_encoder.txt",
        "mean_var_norm_emb.ckpt",
        "mean_var_norm_emb.safetensors",
    }
    ckpt = torch.load(folder / "embedding_model.ckpt")
    tensors = load_file(folder / "embedding_model.safetensors")
    assert ckpt.keys() == tensors.keys()
    assert all(torch.equal(ckpt[name], tensors[name]) for name in ckpt)


@pytest.mark.parametrize("classifier", [COSINES, "!new:torch.nn.Identity"])
def test_safetensors_alone_give_the_same(tmp_path, classifier):
    run = write_run(tmp_path / "run", classifier)
    folder = export(run, tmp_path / "model")
    wavs = torch.randn(2, 8000)
    expected = hub.load(run / "model").encode_batch(wavs, normalize=True)
    for path in folder.glob("*.ckpt"):
        if path.stem != "label_encoder":
            path.unlink()
    found = hub.load(folder).encode_batch(wavs, normalize=True)
    assert torch.equal(found, expected)


def test_card_front_matter_is_read_by_the_hub(run, tmp_path):
    more = write_evaluation(tmp_path / "hard", "veri_hard")
    write_evaluation(run / "verification")
    folder = export(
        run, tmp_path / "voices", [more], licence="mit", datasets=["voxceleb"]
    )
    data = ModelCard((folder / "README.md").read_text()).data
    assert data.tags == [
        "speechbrain",
        "embeddings",
        "Speaker",
        "Verification",
        "pytorch",
    ]
    assert data.license == "mit" and data.datasets == ["voxceleb"]
    assert data.model_name == "voices"
    results = data.eval_results
    assert [(r.dataset_name, r.metric_type) for r in results] == [
        ("veri_hard", "EER"),
        ("veri_hard", "minDCF(0.01)"),
        ("veri_test", "EER"),
        ("veri_test", "minDCF(0.01)"),
    ]
    first = results[0]
    assert first.metric_value == 10.34 and first.metric_name == "EER (%)"
    assert first.metric_args == {"interval_95": [9.306, 12.408]}
    assert first.dataset_args["trials"] == 12200


def test_card_tells_of_results_thresholds_and_training(run, tmp_path):
    evaluation = write_evaluation(tmp_path / "test")
    folder = export(run, tmp_path / "model", [evaluation])
    text = (folder / "README.md").read_text()
    assert "| veri_test | 12,200 | 6,100 | 85 | cosine | 10.34 [9.31" in text
    calibration = Calibration.load(folder / "calibration.json")
    for name, threshold in calibration.thresholds.items():
        assert f" (`{name}`) | {threshold.score:.4f} |" in text
    for aim in (
        "both rates of errors equal (`eer`)",
        "at most 0.1 % false acceptances (`fa_0.001`)",
        "lowest cost if 5 % are targets (`min_dcf_0.05`)",
    ):
        assert aim in text, aim
    assert "chosen on veri_dev, with" in text
    slope, offset = calibration.slope, calibration.offset
    assert offset < 0  # as it is where the scores of targets are high
    assert f"{slope:.4f} x cosine - {-offset:.4f} (" in text
    for row in (
        "| data | vox, more |",
        "| speakers | 3 |",
        "| utterances | 12 |",
        "| hours | 6.0 |",  # 12 files of half an hour, two rows each
        "| median utterance | 1800.0 s |",
        "| recipe | `serialized_small.yaml`, seed 7 |",
        "| loss | nll_loss |",
        "| augmentation | speeds as other speakers, masks in the features |",
        "| epochs | 2 |",
    ):
        assert row in text, row
    assert "3 speakers in 6.0 hours of vox, more" in text
    assert "eprint = {2107.06493}" in text and "{SpeechBrain}" in text
    parameters = re.search(r"([\d,]+) parameters", text)[1].replace(",", "")
    network = hub.load(folder).mods.embedding_model
    assert int(parameters) == sum(p.numel() for p in network.parameters())


def test_card_without_results_or_calibration_says_so(run, tmp_path):
    text = (export(run, tmp_path / "model") / "README.md").read_text()
    assert "No trial list has been scored" in text
    assert "No threshold comes with this model" in text
    assert "not been measured on any trial list" in text


def test_results_and_pictures_come_along(run, tmp_path):
    evaluation = write_evaluation(tmp_path / "test")
    attention = tmp_path / "attention_of_anna.png"
    attention.write_bytes(b"\x89PNG\r\n\x1a\n and more")
    folder = export(run, tmp_path / "model", [evaluation], attention)
    text = (folder / "README.md").read_text()
    for title, file, content in (
        ("curve), veri_test, cosine", "veri_test_cosine_det.png", b"a picture"),
        ("![Attention over time", "attention.png", attention.read_bytes()),
    ):
        assert f"{title}](pictures/{file})" in text
        assert (folder / "pictures" / file).read_bytes() == content
    assert "not_there" not in text
    (results,) = json.loads((folder / "results.json").read_text())
    assert results["trial_list"] == "veri_test"
    assert results["conditions"]["model"] == "model"


def test_pictures_of_each_list_can_be_folded(run, tmp_path):
    """Also those of one list that was scored in two ways; the first is open."""
    more = [
        write_evaluation(tmp_path / "one", "veri_test", "as-norm"),
        write_evaluation(tmp_path / "two", "veri_test"),
    ]
    (tmp_path / "one" / "det.png").write_bytes(b"of s-norm")
    folder = export(run, tmp_path / "model", more)
    text = (folder / "README.md").read_text()
    assert re.findall(r"<details.*>\n<summary>(.*)</summary>", text) == [
        "veri_test, adaptive s-norm",
        "veri_test, cosine",
    ]
    assert text.count("<details open>") == 1
    for name, content in (("as-norm", b"of s-norm"), ("cosine", b"a picture")):
        path = folder / "pictures" / f"veri_test_{name}_det.png"
        assert path.read_bytes() == content


def test_results_of_the_run_are_found_two_folders_down(run, tmp_path):
    (run / "verification").mkdir()
    for name in ("veri_test", "veri_hard"):
        write_evaluation(run / "verification" / name, name)
    text = (export(run, tmp_path / "model") / "README.md").read_text()
    assert "| veri_hard | 12,200 |" in text and "| veri_test | 12,200 |" in text


def test_datasets_are_only_named_as_the_hub_knows_them(run, tmp_path):
    """The hub would link to a data set of the name of any folder."""
    text = (export(run, tmp_path / "model") / "README.md").read_text()
    assert ModelCard(text).data.datasets is None


def test_the_loss_is_named_without_its_wrapper(tmp_path):
    run = write_run(tmp_path / "run")
    path = run / "hyperparams.yaml"
    old = "!name:speechbrain.nnet.losses.nll_loss"
    new = """!new:speechbrain.nnet.losses.LogSoftmaxWrapper
    loss_fn: !new:speechbrain.nnet.losses.AdditiveAngularMargin
        margin: 0.2"""
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    text = (export(run, tmp_path / "model") / "README.md").read_text()
    assert "| loss | AdditiveAngularMargin |" in text


def test_nothing_tells_where_it_was_made(run, tmp_path):
    evaluation = write_evaluation(tmp_path / "test")
    folder = export(run, tmp_path / "model", [evaluation], standalone=True)
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(tmp_path).encode() not in content, path.name
            assert b"/some/place" not in content, path.name


def test_every_use_in_the_card_runs(run, tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    export(run, tmp_path / "model", standalone=True)
    soundfile.write(tmp_path / "speech.wav", np.zeros(8000), 16000)
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / "model" / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        names = {}
        exec(block, names)
        assert names["model"].encode_batch(torch.zeros(1, 8000)).shape[2] == 6


def test_calibration_of_other_scores_is_left_out(run, tmp_path):
    """Its thresholds are not of the cosine, which is what models compare."""
    evaluation = write_evaluation(tmp_path / "test", scoring="as-norm")
    folder = export(run, tmp_path / "model", [evaluation])
    assert not (folder / "calibration.json").exists()
    assert "| adaptive s-norm |" in (folder / "README.md").read_text()


def test_two_calibrations_are_refused(run, tmp_path):
    found = [
        write_evaluation(tmp_path / name, name, seed=seed)
        for seed, name in enumerate(("one", "two"))
    ]
    with pytest.raises(AttnError, match="one.*and.*two.* differ"):
        export(run, tmp_path / "model", found)


def test_results_of_another_model_are_refused(run, tmp_path):
    found = write_evaluation(tmp_path / "scored")
    results = json.loads((found / "results.json").read_text())
    for model, code in ((hub.load(run / "model").sha256, 0), ("c4" * 32, 2)):
        results["conditions"]["settings"] = {"model_sha256": model}
        (found / "results.json").write_text(json.dumps(results))
        if not code:
            export(run, tmp_path / "model", [found])
            continue
        with pytest.raises(AttnError, match="scored: holds results of another"):
            export(run, tmp_path / "model", [found])
    own = found / "calibration.json"
    replace(Calibration.load(own), model_sha256="c4" * 32).save(own)
    (found / "results.json").write_text(
        json.dumps({**results, "conditions": {}})
    )
    with pytest.raises(AttnError, match="calibration.json was fitted on anoth"):
        export(run, tmp_path / "model", [found])


def test_lists_of_one_name_are_told_apart(run, tmp_path):
    found = [write_evaluation(tmp_path / name) for name in ("one", "two")]
    says = "two and .*one: are both of a list veri_test and its cosine scores"
    with pytest.raises(AttnError, match=says):
        export(run, tmp_path / "model", found)


@pytest.mark.parametrize("name", ["model", "old", "new"])
def test_a_second_export_replaces_the_first(run, tmp_path, name):
    folder = export(run, tmp_path / name, standalone=True)
    export(run, tmp_path / name)
    assert not list(folder.glob("*.py"))
    assert {path.name for path in tmp_path.iterdir()} == {"run", name}


def test_a_run_that_was_moved_is_exported(run, tmp_path):
    moved = run.rename(tmp_path / "moved")
    text = (export(moved, tmp_path / "model") / "README.md").read_text()
    assert "| speakers | 3 |" in text


def test_a_full_disk_is_said_and_leaves_the_first(run, tmp_path, monkeypatch):
    folder = export(run, tmp_path / "out")
    card = (folder / "README.md").read_text()

    def copyfile(source, target, **_):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(AttnError, match=r"No space left .* make room") as said:
        export(run, folder)
    assert "[(" not in str(said.value)  # shutil lists what it could not copy
    assert (folder / "README.md").read_text() == card
    assert not list(tmp_path.glob(".export*"))


@pytest.mark.parametrize(
    "name",
    [".git/HEAD", "my_notes.md", "old/x.ckpt", "train.py", "pictures/a.txt"],
)
def test_what_no_export_writes_is_not_lost(run, tmp_path, name):
    evaluation = write_evaluation(tmp_path / "test")
    folder = export(run, tmp_path / "model", [evaluation], standalone=True)
    export(run, folder)  # control: what an export writes may go
    card = (folder / "README.md").read_text()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    says = f"model: holds {re.escape(name)}, which no export writes"
    with pytest.raises(AttnError, match=says):
        export(run, folder)
    assert (folder / name).read_text() == "mine"
    assert (folder / "README.md").read_text() == card


def test_files_of_the_run_are_no_hindrance(run, tmp_path):
    (run / "model" / "notes.txt").write_text("of the training")
    for _ in range(2):
        folder = export(run, tmp_path / "model")
    assert (folder / "notes.txt").read_text() == "of the training"


def test_the_old_model_is_back_if_the_new_one_cannot_come(
    run, tmp_path, monkeypatch
):
    folder = export(run, tmp_path / "model")
    rename = os.rename

    def fail(source, target):
        if Path(source).parent.name == "new":
            raise OSError(errno.EIO, "Input/output error", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(AttnError, match="Input/output error"):
        export(run, folder)
    assert hub.load(folder).encode_batch(torch.zeros(1, 8000)).shape[2] == 6
    assert {path.name for path in tmp_path.iterdir()} == {"run", "model"}


def test_what_cannot_be_exported_is_said(run, tmp_path):
    def refused(says, *arguments, **options):
        with pytest.raises(AttnError, match=says):
            export(*arguments, **options)

    target = tmp_path / "model"
    refused("nowhere: folder not found", tmp_path / "nowhere", target)
    refused("holds no trained model", tmp_path, target)
    refused("is the run's own model", run, run / "model")
    refused("holds the run", run, run)
    refused("is no model folder", run, run / "hyperparams.yaml")
    other_run = write_run(tmp_path / "other_run")
    refused("other_run: is there already and is no model", run, other_run)
    assert (other_run / "save" / "train.csv").exists()
    refused("results.json: is missing", run, target, [tmp_path])
    refused("no such picture", run, target, (), tmp_path / "a.png")
    yaml = run / "model" / "hyperparams.yaml"
    refused("is no PNG. `speechbrain-attn attend", run, target, (), yaml)
    refused("hyperparams.yaml: cannot be written", run, yaml / "model")
    refused("want user/name", run, target, push_to="voices")
    old = tmp_path / "old"
    old.mkdir()
    (old / "results.json").write_text('{"eer": 0.1}')
    refused("has no trial_list", run, target, [old])
    (run / "save" / "train.csv").unlink()
    refused("train.csv: is missing", run, target)
    weights = run / "model" / "embedding_model.ckpt"
    torch.save({}, weights)
    refused("holds no parameters", run, target)
    assert not target.exists()
