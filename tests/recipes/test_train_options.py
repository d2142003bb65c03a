"""Options of training that any system can switch on from its YAML."""

import re
import shutil

import pytest
import torch
from recipe_runs import RECIPE, options, run, run_many

from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.rows import ManifestRows
from speechbrain_attn.hub.loading import load
from speechbrain_attn.nnet.angular_margin import AdditiveAngularMarginSoftmax

SCRIPT = RECIPE / "train_speaker_embeddings.py"
HPARAMS = RECIPE / "hparams"
CLASSIFIER = HPARAMS / "demo" / "self_attentive_tdnn_aam.yaml"
GE2E = HPARAMS / "self_attentive_tdnn.yaml"
LARGE_MARGIN = HPARAMS / "finetune" / "large_margin.yaml"


def read_checkpoints(folder, name):
    """State of a part in each checkpoint, the oldest first."""
    paths = sorted(folder.glob(f"save/CKPT*/{name}.ckpt"))
    return [torch.load(path, weights_only=True) for path in paths]


def model_weights(folder, name="embedding_model"):
    return torch.load(folder / "model" / f"{name}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def tiny_classifier(tiny_run):
    """Overrides of a run with every option of a classifier switched on."""
    return {
        **tiny_run,
        "channels": 12,
        "embedding_size": 8,
        "total_steps": 20,
        "precision": "fp32",
        "noise_folder": tiny_run["data_folder"],
        "speaker_speeds": "[90,110]",
        "spec_masks": 1,
        "num_sub_centres": 2,
        "top_k": 3,
        "no_decay": "True",
        "query_scale": 0,
        "ema_decay": 0.9,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_classifier):
    """Output folder of such a run."""
    folder = tmp_path_factory.mktemp("options") / "run"
    words = options({**tiny_classifier, "output_folder": folder})
    done = run(SCRIPT, CLASSIFIER, *words)
    assert done.returncode == 0, done.stdout
    return folder


def test_the_model_has_the_real_speakers_only(trained):
    assert len((trained / "save/label_encoder.txt").read_text().split("\n")) > 6
    (*_, head) = read_checkpoints(trained, "classifier")
    assert head["weight"].shape == (3 * 6 * 2, 8)
    assert model_weights(trained, "classifier")["weight"].shape == (6 * 2, 8)
    model = load(trained / "model", device="cpu")
    assert len(model.hparams.label_encoder) == 6
    scores, _, _, speaker = model.classify_batch(torch.randn(2, 16000))
    assert scores.shape == (2, 6) and speaker[0].startswith("id")


def test_validation_is_of_the_real_speakers_by_the_average(trained, tiny_run):
    """The model has a logged loss and error on the dev rows."""
    model = load(trained / "model", device="cpu")
    rows = ManifestRows(trained / "save/dev.csv", tiny_run["data_folder"])
    chosen = [rows[number] for number in range(len(rows))]
    wavs = [read_waveform(row.path, row.start, row.stop) for row in chosen]
    cosines, _, _, found = model.classify_batch(torch.stack(wavs))
    encode = model.hparams.label_encoder.encode_label
    labels = torch.tensor([[encode(row.speaker)] for row in chosen])
    loss = AdditiveAngularMarginSoftmax(0.2, 30, top_k=3)
    wrong = [a != row.speaker for a, row in zip(found, chosen, strict=True)]
    log = (trained / "train_log.txt").read_text()
    assert (
        f"valid loss: {loss(cosines.unsqueeze(1), labels):.2f}, "
        f"valid ErrorRate: {sum(wrong) / len(wrong):.2e}\n"
    ) in log


def test_the_model_holds_the_running_average(trained):
    """Its weights and batch norm's statistics; checkpoints hold both kinds."""
    found = model_weights(trained)
    (*_, trained_last) = read_checkpoints(trained, "embedding_model")
    averages = read_checkpoints(trained, "average")
    chosen = [
        average
        for average in averages
        if all(
            torch.equal(value, average[f"embedding_model.{key}"])
            for key, value in found.items()
            if value.is_floating_point()
        )
    ]
    assert chosen
    assert not torch.equal(
        next(iter(found.values())), next(iter(trained_last.values()))
    )


def test_queries_begin_where_they_are_told_and_learn(tiny_classifier, trained):
    """From 0 no batch moves them further than the learning rate."""
    *_, query = [
        w["pooling.scorer.2.weight"]
        for w in read_checkpoints(trained, "embedding_model")
    ]
    steps = tiny_classifier["total_steps"]
    assert 0 < query.abs().max() <= 1.01 * steps * 0.001


def test_a_running_average_leaves_the_training_alone(
    tmp_path, trained, tiny_classifier
):
    overrides = {**tiny_classifier, "ema_decay": "null"}
    words = options({**overrides, "output_folder": tmp_path})
    done = run(SCRIPT, CLASSIFIER, *words)
    assert done.returncode == 0, done.stdout
    (*_, plain) = read_checkpoints(tmp_path, "embedding_model")
    (*_, averaged) = read_checkpoints(trained, "embedding_model")
    for key, value in plain.items():
        assert torch.equal(value, averaged[key])


def test_decay_spares_vectors_and_queries(trained):
    (*_, optimizer) = read_checkpoints(trained, "optimizer")
    decays = [group["weight_decay"] for group in optimizer["param_groups"]]
    assert decays == [0.01, 0.0]
    (*_, network) = read_checkpoints(trained, "embedding_model")
    vectors = [
        key
        for key, value in network.items()
        if value.dim() == 1 and "running" not in key
    ]
    # And the query of its one hop.
    spared = optimizer["param_groups"][1]["params"]
    assert len(spared) == len(vectors) + 1


def test_ge2e_hears_speeds_as_speakers_and_averages_epochs(tmp_path, tiny_ge2e):
    overrides = {
        **tiny_ge2e,
        "speaker_speeds": "[90,110]",
        "number_of_epochs": 3,
        "average_checkpoints": 2,
        "output_folder": tmp_path,
    }
    done = run(SCRIPT, GE2E, *options(overrides))
    assert done.returncode == 0, done.stdout
    log = (tmp_path / "log.txt").read_text()
    assert "27 batches of 2 speakers" in log and "of 18 speakers" in log
    assert "the mean of the last 2 epochs" in log
    states = read_checkpoints(tmp_path, "embedding_model")
    assert len(states) == 2
    for key, value in model_weights(tmp_path).items():
        if value.is_floating_point():
            mean = (states[0][key] + states[1][key]) / 2
            torch.testing.assert_close(value, mean)
    assert len(load(tmp_path / "model").hparams.label_encoder) == 6


def test_large_margin_goes_on_with_network_and_classifier(
    tmp_path, trained, tiny_run, tiny_xvector
):
    """Without a step, they are those of the run; other starts are refused."""
    data = tmp_path / "fewer_speakers"
    shutil.copytree(tiny_run["data_folder"], data)
    shutil.rmtree(data / "wav" / "id10003")
    xvector = tmp_path / "xvector"
    words = {**tiny_xvector, "number_of_epochs": 1, "output_folder": xvector}
    done = run(SCRIPT, HPARAMS / "baselines/xvector.yaml", *options(words))
    assert done.returncode == 0, done.stdout
    no_classes = shutil.copytree(trained / "model", tmp_path / "no_classes")
    yaml = (no_classes / "hyperparams.yaml").read_text()
    lines = [x for x in yaml.splitlines() if "label_encoder" not in x]
    assert len(lines) < len(yaml.splitlines())
    (no_classes / "hyperparams.yaml").write_text("\n".join(lines))
    overrides = {
        key: value for key, value in tiny_run.items() if key != "out_n_neurons"
    }
    overrides |= {"number_of_epochs": 1, "finished_run": trained / "model"}
    cases = {
        "still": {"lr": 0.0, "weight_decay": 0.0},
        "learns": {"warmup_steps": 2, "total_steps": 14},
        "fewer": {"data_folder": data},
        "xvector": {"finished_run": xvector / "model"},
        "none": {"finished_run": tmp_path / "none"},
        "no_classes": {"finished_run": no_classes},
    }
    lines = [
        [
            LARGE_MARGIN,
            *options({**overrides, "output_folder": tmp_path / name, **more}),
        ]
        for name, more in cases.items()
    ]
    done = run_many(SCRIPT, lines)
    assert [code for code, _ in done] == [0, 0, 2, 2, 2, 2], done
    for name in ("embedding_model", "classifier"):
        start = model_weights(trained, name)
        still = model_weights(tmp_path / "still", name)
        learnt = model_weights(tmp_path / "learns", name)
        learning = [key for key in start if key.endswith("weight")]
        assert start.keys() == still.keys() == learnt.keys() and learning
        for key in learning:
            assert torch.equal(start[key], still[key])
            assert not torch.equal(start[key], learnt[key])
    log = (tmp_path / "still" / "log.txt").read_text()
    assert "network and classifier of 6 speakers" in log
    says = [
        r"'id10004' of data_folder is class 1 there and 0 here\. Train on",
        r"xvector/model: its Classifier gives no cosines",
        r"none: folder not found",
        r"no_classes: has no label encoder, which tells the classes",
    ]
    for (_, said), message in zip(done[2:], says, strict=True):
        assert re.search(message, said.strip().splitlines()[-1]), said
        assert "Traceback" not in said


def test_options_that_cannot_be_met_are_refused_with_a_sentence(
    tmp_path, tiny_classifier
):
    # fmt: off
    bad = [  # key, value, what the message must say
        ("speaker_speeds", "[90,100]", r"speaker_speeds=\[90, 100\]: want"),
        ("speaker_speeds", "[0.9]", r"speaker_speeds=\[0\.9\]: want whole"),
        ("speaker_speeds", 0, r"speaker_speeds=\[0\]: want whole numbers"),
        ("speeds", "[90,100]", r"the product of two speeds, .* Take one: --sp"),
        ("speeds", 90, r"speeds=90 and speaker_speeds=\[90, 110\]: a crop"),
        ("speeds", "[0.9]", r"speeds=\[0\.9\]: want whole numbers of percent"),
        ("verification_file", "null", r"verification_file must be given: a t"),
        ("num_classes", 6, r"num_classes=6: .* make 18 classes of 6 speakers"),
        ("num_sub_centres", 0, r"num_sub_centres=0: want a whole number, 1"),
        ("top_k", -1, r"top_k=-1: want a whole number, 0 for no penalty"),
        ("ema_decay", "much", r"ema_decay=much: want a number between"),
        ("ema_decay", 1, r"ema_decay=1: want a number between 0 and 1"),
        ("query_scale", -1, r"query_scale=-1: want a number, 0 or more"),
        ("query_scale", "high", r"query_scale=high: want a number"),
        ("average_checkpoints", 2, r"both average the weights; take one"),
        ("no_decay", True, r"--no_decay has no value; write --no_decay=True"),
        ("average_checkpoints", -1, r"average_checkpoints=-1: want a whole"),
        ("average_checkpoints", 0, r"average_checkpoints=0: want a whole"),
        ("margin", -1, r" margin=-1: want radians, from 0 to pi"),
    ]
    # fmt: on
    overrides = {**tiny_classifier, "output_folder": tmp_path / "out"}
    done = run_many(
        SCRIPT,
        [
            [CLASSIFIER, *options({**overrides, key: value})]
            for key, value, _ in bad
        ],
    )
    for (code, said), (*_, message) in zip(done, bad, strict=True):
        assert code == 2, said
        assert re.search(message, said.strip().splitlines()[-1]), said
        assert "Traceback" not in said
