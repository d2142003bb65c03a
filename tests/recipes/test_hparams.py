"""Every YAML file loads, builds what it says, and agrees with its siblings."""

import io
from pathlib import Path

import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML

HPARAMS = Path(__file__).parents[2] / "hparams"
SIZES = {  # of the embeddings, in the papers or as we read them
    "self_attentive_tdnn": 256,
    "self_attentive_tdnn_aam": 256,
    "ge2e_lstm": 256,
    "double_mha": 400,
    "serialized_mha": 256,
}
SYSTEMS = list(SIZES)
TRAINING = sorted(
    str(path.relative_to(HPARAMS))
    for folder in (".", "demo", "baselines")
    for path in (HPARAMS / folder).glob("*.yaml")
    if not path.name.startswith("verification")
)
GIVEN = {
    "data_folder": "data",
    "verification_file": "trials.txt",
    "validation_file": "validation.txt",
    "pretrain_path": "model",
    "out_n_neurons": 7,
}
# What SpeechBrain's unmodified training script reads.
HOST_KEYS = """data_folder train_annotation valid_annotation sample_rate
sentence_len random_chunk save_folder output_folder verification_file
split_ratio skip_prep prepare_noise_data prepare_rir_data modules opt_class
checkpointer epoch_counter dataloader_options compute_cost lr_annealing
error_stats train_logger wav_augment""".split()


def overrides_of(name, tmp_path, **more):
    """Overrides that fill the placeholders which a file has."""
    text = (HPARAMS / name).read_text()
    given = {key: GIVEN[key] for key in GIVEN if f"\n{key}:" in text}
    return {**given, "output_folder": str(tmp_path), **more}


def load(name, tmp_path, **more):
    with open(HPARAMS / name) as file:
        return load_hyperpyyaml(file, overrides_of(name, tmp_path, **more))


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", TRAINING)
def test_training_file_builds_and_its_network_learns(name, tmp_path):
    hparams = load(name, tmp_path)
    classifies = "out_n_neurons" in hparams
    if classifies:
        assert not [key for key in HOST_KEYS if key not in hparams]
        assert hparams["prepare_noise_data"]() == {}  # nothing is downloaded
    modules = hparams["modules"]
    wavs, lengths = torch.randn(4, 8000) * 0.1, torch.ones(4)
    wavs, lengths = hparams["wav_augment"](wavs, lengths)
    feats = modules["mean_var_norm"](modules["compute_features"](wavs), lengths)
    predictions = modules["classifier"](
        modules["embedding_model"](feats, lengths)
    )
    targets = torch.tensor([[0], [3], [0], [3]])
    targets = hparams["wav_augment"].replicate_labels(targets)
    size = 7 * (1 + len(hparams.get("speaker_speeds", [])))
    size = size if classifies else hparams["embedding_size"]
    assert predictions.shape == (len(targets), 1, size)
    loss = hparams["compute_cost"](predictions, targets, lengths)
    parameters = list(torch.nn.ModuleDict(modules).parameters())
    optimizer = hparams["opt_class"](parameters)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    if hasattr(hparams["lr_annealing"], "on_batch_end"):
        hparams["lr_annealing"].on_batch_end(optimizer)
    old_lr, new_lr = hparams["lr_annealing"](1)
    assert old_lr >= 0 and new_lr >= 0
    assert set(hparams["checkpointer"].recoverables) >= {
        "embedding_model",
        "classifier" if classifies else "compute_cost",
        "counter",
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_verification_builds_the_network_of_training(system, tmp_path):
    """A size stands in both files; they must not drift apart."""
    specifications = []
    verification = f"verification_{system.removesuffix('_aam')}.yaml"
    for name in (f"{system}.yaml", verification):
        with open(HPARAMS / name) as file:
            overrides = overrides_of(name, tmp_path)
            resolved = YAML().load(resolve_references(file, overrides))
        text = io.StringIO()
        YAML().dump(resolved["network"], text)
        specifications.append(text.getvalue())
    assert specifications[0] == specifications[1]
    hparams = load(verification, tmp_path)
    pretrainer = hparams["pretrainer"]
    assert pretrainer.paths["embedding_model"] == "model/embedding_model.ckpt"
    assert pretrainer.loadables["embedding_model"] is hparams["embedding_model"]


@pytest.mark.parametrize(
    "name", ["serialized_mha.yaml", "verification_serialized_mha.yaml"]
)
def test_an_override_reaches_the_included_network(name, tmp_path):
    deep = load(name, tmp_path)["embedding_model"]
    shallow = load(name, tmp_path, num_layers=2)["embedding_model"]
    assert len(deep.pooling.heads) == 6 and len(shallow.pooling.heads) == 2
    assert num_parameters(deep) > num_parameters(shallow)


@pytest.mark.parametrize("system, size", SIZES.items())
def test_systems_have_the_papers_embedding_sizes(system, size, tmp_path):
    hparams = load(f"{system}.yaml", tmp_path)
    assert hparams["embedding_model"].embedding_size == size
    assert hparams["network"]["embedding_model"] is hparams["embedding_model"]


def test_serialized_rate_falls_to_two_fifths_after_each_epoch(tmp_path):
    schedule = load("serialized_mha.yaml", tmp_path)["lr_annealing"]
    assert schedule(1) == pytest.approx((1e-3, 4e-4))
    assert schedule(2) == pytest.approx((4e-4, 1.6e-4))


@pytest.mark.parametrize("system", SYSTEMS)
def test_demo_is_the_system_made_smaller(system, tmp_path):
    full = load(f"{system}.yaml", tmp_path)["embedding_model"]
    demo = load(f"demo/{system}.yaml", tmp_path)["embedding_model"]
    assert type(demo) is type(full)
    assert num_parameters(demo) < num_parameters(full)


def test_half_of_the_crops_stay_clean_where_noise_is_added(tmp_path):
    """As in the serialized paper, section 4.1: an augmented copy beside."""
    noises = tmp_path / "noises"
    noises.mkdir()
    soundfile.write(noises / "hum.wav", [0.1, -0.1] * 16000, 16000)
    hparams = load("serialized_mha.yaml", tmp_path, noise_folder=str(noises))
    wavs = 0.1 * torch.randn(64, 1600)
    noisy, _ = hparams["wav_augment"](wavs, torch.ones(64))
    changed = (noisy != wavs).any(dim=1).sum().item()
    assert 16 < changed < 48
