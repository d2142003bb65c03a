"""A trained run as a model folder: loads anywhere, gives the same numbers."""

import numpy as np
import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.inference.speaker import EncoderClassifier, SpeakerRecognition
from speechbrain.utils.fetching import LocalStrategy

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.folder import load_network, write_model_folder

SPEAKERS = ["anna", "ben", "carla"]
TRAINING_YAML = """
n_mels: 13  # a comment that stays behind
size: 8
sizes: [7, 7, 7]
compute_features: !new:speechbrain_attn.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain_attn.lobes.features.SentenceNormalization
embedding_model: !new:speechbrain_attn.lobes.models.serialized_mha.SerializedMHA
    input_size: !ref <n_mels>
    channels: !ref <sizes>
    embedding_size: !ref <size>
    num_layers: 2
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: !ref <size>
    out_neurons: 3
"""


@pytest.fixture
def training(tmp_path):
    """YAML of a training run, its modules and its override."""
    path = tmp_path / "training.yaml"
    path.write_text(TRAINING_YAML)
    overrides = {"size": 6}
    with open(path) as file:
        modules = load_hyperpyyaml(file, overrides)
    modules["embedding_model"](torch.randn(16, 50, 13))  # moves the batch norm
    for name in ("embedding_model", "classifier"):
        modules[name].eval()
    return path, overrides, modules


def write(folder, training, embeddings=None):
    path, overrides, modules = training
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(SPEAKERS)
    if embeddings is None:
        embeddings = np.zeros((4, 6), dtype=np.float32)
    write_model_folder(folder, path, overrides, modules, encoder, embeddings)
    return str(folder)


def embed(modules, wavs, lengths):
    feats = modules["compute_features"](wavs)
    feats = modules["mean_var_norm"](feats, lengths)
    return modules["embedding_model"](feats, lengths)


def test_embeddings_are_those_of_the_trained_network(tmp_path, training):
    model = EncoderClassifier.from_hparams(write(tmp_path / "model", training))
    wavs, lengths = torch.randn(3, 8000), torch.tensor([1.0, 0.5, 0.2])
    with torch.no_grad():
        expected = embed(training[2], wavs, lengths)
    assert torch.equal(model.encode_batch(wavs, lengths), expected)


def test_classifier_names_the_speakers(tmp_path, training):
    model = EncoderClassifier.from_hparams(write(tmp_path / "model", training))
    model.hparams.label_encoder.expect_len(len(SPEAKERS))
    wavs = torch.randn(3, 8000)
    _, _, index, labels = model.classify_batch(wavs)
    assert labels == [SPEAKERS[i] for i in index]


def test_normalize_subtracts_the_mean_of_the_training_embeddings(
    tmp_path, training
):
    embeddings = np.random.default_rng(0).normal(3.0, size=(50, 6))
    folder = write(tmp_path / "model", training, embeddings.astype(np.float32))
    model = EncoderClassifier.from_hparams(folder)
    wavs = torch.randn(2, 8000)
    plain = model.encode_batch(wavs)
    # Twice: a normaliser that is not a module goes on learning from its input.
    for _ in range(2):
        shifted = model.encode_batch(wavs, normalize=True)
    mean = torch.from_numpy(embeddings.mean(axis=0)).float()
    torch.testing.assert_close(plain - shifted, mean.expand(2, 1, 6))


def test_loads_from_any_directory_and_without_links(
    tmp_path, training, monkeypatch
):
    write(tmp_path / "run" / "model", training)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    absolute = EncoderClassifier.from_hparams(str(tmp_path / "run" / "model"))
    relative = EncoderClassifier.from_hparams("../run/model")
    copied = EncoderClassifier.from_hparams(
        "../run/model", savedir="copy", local_strategy=LocalStrategy.COPY
    )
    assert not any(path.is_symlink() for path in elsewhere.rglob("*"))
    wavs = torch.randn(1, 8000)
    for model in (relative, copied):
        assert torch.equal(
            model.encode_batch(wavs), absolute.encode_batch(wavs)
        )


def test_verifies_two_files(tmp_path, training):
    soundfile = pytest.importorskip("soundfile")
    noise = np.random.default_rng(1).normal(size=(2, 16000)) * 0.1
    for name, samples in zip("ab", noise, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000)
    folder = write(tmp_path / "model", training)
    model = SpeakerRecognition.from_hparams(folder)
    one, two = (str(tmp_path / f"{name}.wav") for name in "ab")
    score, _ = model.verify_files(one, two)
    same, decision = model.verify_files(one, one)
    assert -1 <= score.item() < same.item()
    assert same.item() == pytest.approx(1.0, abs=1e-5)
    assert decision.item() is True


def test_a_second_model_replaces_the_first(tmp_path, training):
    folder = write(tmp_path / "model", training)
    with torch.no_grad():
        training[2]["embedding_model"].pooling.heads[0].head.bias += 1.0
    write(folder, training)
    weights = torch.load(f"{folder}/embedding_model.ckpt")
    bias = training[2]["embedding_model"].pooling.heads[0].head.bias
    assert torch.equal(weights["pooling.heads.0.head.bias"], bias)
    assert [path.name for path in tmp_path.iterdir()].count("model") == 1
    assert not list(tmp_path.glob(".model-*"))


def test_hyperparams_hold_no_reference_path_or_comment(tmp_path, training):
    folder = write(tmp_path / "model", training)
    text = (tmp_path / "model" / "hyperparams.yaml").read_text()
    assert str(tmp_path) not in text and "stays behind" not in text
    network = load_network(folder)
    assert network["embedding_model"].embedding_size == 6  # the override


def test_load_network_refuses_what_is_no_model_folder(tmp_path, training):
    with pytest.raises(AttnError, match="nowhere: folder not found"):
        load_network(tmp_path / "nowhere")
    with pytest.raises(AttnError, match="has no hyperparams.yaml"):
        load_network(tmp_path)
    folder = write(tmp_path / "model", training)
    torch.save({}, f"{folder}/embedding_model.ckpt")
    with pytest.raises(AttnError, match="embedding_model.ckpt"):
        load_network(folder)


def test_a_yaml_without_the_network_is_refused(tmp_path, training):
    path, overrides, modules = training
    path.write_text(TRAINING_YAML.replace("classifier:", "speakers:"))
    with pytest.raises(AttnError, match="has no classifier"):
        write(tmp_path / "model", (path, overrides, modules))
