"""Starting from a pretrained model: what is loaded, kept, refused and said."""

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from pretrained_folders import write_host_folder
from speechbrain.dataio.encoder import CategoricalEncoder
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub import load
from speechbrain_attn.hub.adapt import PretrainedStart, network_of
from speechbrain_attn.lobes.models.heads import CosineHead
from speechbrain_attn.lobes.models.repooled import RepooledEncoder
from speechbrain_attn.nnet.pooling import MultiHeadAttentionPooling

TRAINING = """\
pretrained: !PLACEHOLDER
pooling: own
n_mels: 24
project_size: 5
poolings:
    self_attentive:
        pooling: !name:speechbrain_attn.nnet.pooling.SelfAttentivePooling
            attention_size: 3
        keep_embedding: True
    double:
        pooling: !name:DOUBLE
            num_heads: 8
        embedding_size: 7
    serialized:
        pooling: !name:speechbrain_attn.nnet.pooling.SerializedAttentionPooling
            num_layers: 2
        project_size: !ref <project_size>
network: !applyref:speechbrain_attn.hub.adapt.network_of
    source: !ref <pretrained>
    pooling: !ref <pooling>
    poolings: !ref <poolings>
embedding_size: !ref <network[embedding_size]>
modules:
    compute_features: !ref <network[compute_features]>
    mean_var_norm: !ref <network[mean_var_norm]>
    embedding_model: !ref <network[embedding_model]>
    classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
        input_size: !ref <embedding_size>
        out_neurons: 5
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each of the host's networks."""
    root = tmp_path_factory.mktemp("models")
    return {
        name: str(write_host_folder(root / name, name))
        for name in ("ecapa", "resnet", "xvector")
    }


def built(folder, **overrides):
    """What the training YAML above builds for a model."""
    name = "speechbrain_attn.nnet.pooling.DoubleMultiHeadAttentionPooling"
    text = TRAINING.replace("DOUBLE", name)  # a long line
    return load_hyperpyyaml(text, {"pretrained": folder, **overrides})


def features_of(modules):
    noise = torch.randn(3, 16000, generator=torch.Generator().manual_seed(3))
    feats = modules["compute_features"](0.1 * noise)
    return modules["mean_var_norm"](feats, torch.ones(3))


@pytest.mark.parametrize("name", ["ecapa", "resnet", "xvector"])
@torch.no_grad()
def test_as_it_is_the_network_gives_the_models_embeddings(folders, name):
    modules = built(folders[name])["modules"]
    start = PretrainedStart(modules, folders[name])
    network, model = modules["embedding_model"].eval(), load(folders[name])
    torch.manual_seed(1)  # the host's statistics pooling adds noise
    expected = model.mods.embedding_model(features_of(dict(model.mods.items())))
    torch.manual_seed(1)
    assert torch.equal(network(features_of(modules)), expected)
    own = {name.rpartition(".")[0] for name in network.state_dict()}
    assert set(start.parts) == own
    assert " new, " not in start.report and "classifier" in start.report


def check_kept_layers(network, given, feats):
    """The embedding of any mean and deviation is the model's."""
    pooled = torch.rand(3, network.pooling.output_size)
    kept = network.embedding(pooled)
    if hasattr(given, "asp"):
        given.asp.register_forward_hook(lambda *_: pooled.unsqueeze(2))
        expected = given(feats)
    elif hasattr(given, "norm_stats"):
        given.norm_stats.register_forward_pre_hook(lambda *_: (pooled,))
        expected = given(feats)
    else:
        expected = given.blocks[-1](pooled.unsqueeze(1))
    torch.testing.assert_close(kept, expected.squeeze(1))


@pytest.mark.parametrize("pooling", ["self_attentive", "double", "serialized"])
@pytest.mark.parametrize("name", ["ecapa", "resnet", "xvector"])
@torch.no_grad()
def test_another_pooling_gets_the_models_own_frames(folders, name, pooling):
    hparams = built(folders[name], pooling=pooling)
    modules, size = hparams["modules"], hparams["embedding_size"]
    assert size == (7 if pooling == "double" else 6)
    before = modules["embedding_model"].state_dict()
    before = {key: value.clone() for key, value in before.items()}
    start = PretrainedStart(modules, folders[name])
    network = modules["embedding_model"].eval()
    feats = features_of(modules)
    assert network(feats).shape == (3, 1, size)
    given = load(folders[name]).mods.embedding_model
    pooled = []
    kind = {"ecapa": "asp", "xvector": "blocks.15", "resnet": "attention"}
    given.get_submodule(kind[name]).register_forward_pre_hook(
        lambda module, inputs: pooled.append(inputs[0])
    )
    given(feats)
    frames = network.get_submodule(network.trunk_name)(feats)
    if name != "xvector":  # the others pool channels first
        pooled[0] = pooled[0].transpose(1, 2)
    torch.testing.assert_close(frames, pooled[0])
    taken = [network.trunk_name]
    if pooling == "self_attentive":
        taken.append("embedding")
        check_kept_layers(network, given, feats)
    for key, value in network.state_dict().items():
        if not key.startswith(tuple(taken)):
            assert torch.equal(value, before[key])
    assert all(part.startswith(tuple(taken)) for part in start.parts)
    assert "pooling, " in start.report and "left out" in start.report


def test_the_report_counts_every_value(folders):
    modules = built(folders["ecapa"], pooling="serialized")["modules"]
    report = PretrainedStart(modules, folders["ecapa"]).report
    counts = {"loaded": 0, "new": 0, "left out": 0}
    for line in report.splitlines()[2:]:
        for kind in counts:
            if f": {kind}, " in line:
                number = line.split(" of ")[-1].split(" values")[0]
                counts[kind] += int(number.replace(",", ""))

    def size(module):
        return sum(value.numel() for value in module.state_dict().values())

    here = size(modules["embedding_model"])
    there = size(load(folders["ecapa"]).mods.embedding_model)
    assert counts["loaded"] + counts["new"] == here
    assert counts["loaded"] + counts["left out"] == there
    assert min(counts.values()) > 0
    assert "asp of the model, AttentiveStatisticsPooling: left out" in report
    assert "encoder.projection: not in the model" in report


def test_a_module_of_another_shape_is_left_whole_and_said(folders):
    modules = built(folders["ecapa"])["modules"]
    other = modules["embedding_model"].fc = nn.Conv1d(48, 9, 1)
    weight = other.weight.clone()
    start = PretrainedStart(modules, folders["ecapa"])
    assert torch.equal(other.weight, weight)
    assert not [part for part in start.parts if part.startswith("fc")]
    assert "fc, Conv1d: new, 1 module of 441 values" in start.report


def test_an_adapted_model_can_be_the_start_of_another(folders, tmp_path):
    """Its network is repooled, and the same one takes all of it."""
    modules = built(folders["ecapa"], pooling="serialized")["modules"]
    again = built(folders["ecapa"], pooling="serialized")["modules"]
    model = SimpleNamespace(mods=nn.ModuleDict(modules))
    first = PretrainedStart(modules, folders["ecapa"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speechbrain_attn.hub.adapt.load", lambda *_, **__: model)
        start = PretrainedStart(again, "adapted")
    assert len(start.parts) > len(first.parts)
    for key, value in modules["embedding_model"].state_dict().items():
        assert torch.equal(again["embedding_model"].state_dict()[key], value)


def test_layers_that_take_another_size_are_not_kept(folders):
    network = load(folders["ecapa"]).mods.embedding_model
    repooled = RepooledEncoder(
        network,
        lambda input_size: MultiHeadAttentionPooling(input_size, 3),
        embedding_size=7,
        keep_embedding=True,
    )
    assert repooled(torch.randn(2, 50, 24)).shape == (2, 1, 7)
    assert not [k for k in repooled.values_of(network) if k[:5] == "embed"]


# What is refused


def test_nothing_that_fits(folders):
    modules = built(folders["ecapa"])["modules"]
    modules["embedding_model"] = nn.Linear(24, 6)
    with pytest.raises(AttnError, match="no weights of its ECAPA_TDNN fit"):
        PretrainedStart(modules, folders["ecapa"])


def test_features_of_another_size(folders):
    modules = built(folders["ecapa"])["modules"]
    modules["compute_features"] = type(modules["compute_features"])(n_mels=40)
    with pytest.raises(AttnError, match="gives 40 values a frame.*on 24"):
        PretrainedStart(modules, folders["ecapa"])


def test_other_features_of_the_same_size_are_said(folders):
    modules = built(folders["ecapa"])["modules"]
    other = type(modules["compute_features"])(n_mels=24, f_min=300)
    modules["compute_features"] = other
    assert "OTHER than" in PretrainedStart(modules, folders["ecapa"]).report


def test_an_empty_checkpoint(tmp_path):
    folder = write_host_folder(tmp_path / "model")
    torch.save({}, folder / "embedding_model.ckpt")
    modules = built(str(folder))["modules"]
    with pytest.raises(AttnError, match="holds no parameters"):
        PretrainedStart(modules, folder)


@pytest.mark.parametrize("number", [-1, 2.5, "few"])
def test_a_number_of_files_that_is_none(folders, number):
    modules = built(folders["ecapa"])["modules"]
    says = rf"files_per_speaker={number}: want a whole number, 0 to start"
    with pytest.raises(AttnError, match=says):
        PretrainedStart(modules, folders["ecapa"], files_per_speaker=number)


@pytest.mark.parametrize("place", ["model", "features"])
def test_another_sample_rate(tmp_path, place):
    folder = write_host_folder(tmp_path / "model", rate=8000)
    if place == "features":
        path = folder / "hyperparams.yaml"
        text = path.read_text().replace("sample_rate: 8000\n", "")
        path.write_text(
            text.replace("Fbank\n", "Fbank\n    sample_rate: 8000\n")
        )
    with pytest.raises(AttnError, match="audio at 8000 Hz.*reads audio at 16"):
        network_of(str(folder))


def test_an_unknown_pooling_and_a_network_without_a_trunk(folders, tmp_path):
    with pytest.raises(AttnError, match="pooling=sum: want own.*serialized"):
        built(folders["ecapa"], pooling="sum")
    with pytest.raises(AttnError, match="folder not found"):
        network_of(str(tmp_path / "nowhere"))
    with pytest.raises(AttnError, match="Linear has no trunk.*ECAPA_TDNN"):
        RepooledEncoder(nn.Linear(2, 2), MultiHeadAttentionPooling)


def test_a_yaml_that_runs_a_program_is_refused(tmp_path):
    folder = write_host_folder(tmp_path / "model")
    with open(folder / "hyperparams.yaml", "a") as file:
        file.write(f"x: !apply:os.mkdir ['{tmp_path}/marker']\n")
    with pytest.raises(AttnError, match="!apply:os.mkdir"):
        network_of(str(folder))
    assert not (tmp_path / "marker").exists()
    network_of(str(folder), trust=True)
    assert (tmp_path / "marker").exists()


# The classifier's first weights


def manifest(files):
    """Rows and encoder of {speaker: files}, two rows a file."""
    speakers, paths = list(files), sum(files.values(), [])
    rows = [
        (paths.index(path), speakers.index(speaker))
        for speaker, some in files.items()
        for path in some
        for _ in range(2)
    ]
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(reversed(speakers))
    file_numbers, speaker_numbers = map(np.array, zip(*rows, strict=True))
    return SimpleNamespace(
        encoder=encoder,
        rows=SimpleNamespace(
            paths=paths,
            speakers=speakers,
            file_numbers=file_numbers,
            speaker_numbers=speaker_numbers,
        ),
    )


def test_a_class_starts_from_the_mean_of_its_speaker(folders):
    modules = built(folders["ecapa"])["modules"]
    weight = modules["classifier"].weight
    before = weight.detach().clone()
    start = PretrainedStart(modules, folders["ecapa"], files_per_speaker=2)
    model = load(folders["ecapa"])
    voices = {
        "a1": [3.0, 0, 0, 0, 0, 0],
        "a2": [0, 1.0, 0, 0, 0, 0],
        "b1": [0, 0, 0, 0, 0, 9.0],
    }

    def embed(paths, network):
        found = network.embedding_model.state_dict()
        for key, value in model.mods.embedding_model.state_dict().items():
            assert torch.equal(found[key], value)
        return np.array([voices[path] for path in paths], dtype=np.float32)

    start.begin(manifest({"anna": ["a1", "a2", "a3"], "ben": ["b1"]}), embed)
    half = 0.5**0.5  # loud embeddings count as much as others
    expected = torch.tensor([half, half, 0, 0, 0, 0])
    torch.testing.assert_close(weight[1].detach(), expected)
    assert weight[0].tolist() == [0, 0, 0, 0, 0, 1]
    assert torch.equal(weight[2:], before[2:])


def test_of_several_vectors_the_first_is_the_mean(folders):
    modules = built(folders["ecapa"])["modules"]
    modules["classifier"] = CosineHead(6, out_neurons=3, num_sub_centres=2)
    weight = modules["classifier"].weight
    before = weight.detach().clone()
    start = PretrainedStart(modules, folders["ecapa"], files_per_speaker=2)
    voices = {"a1": [2.0, 0, 0, 0, 0, 0], "b1": [0, 0, 0, 0, 0, 9.0]}

    def embed(paths, _):
        return np.array([voices[path] for path in paths], dtype=np.float32)

    start.begin(manifest({"anna": ["a1"], "ben": ["b1"]}), embed)
    assert weight[[0, 2]].tolist() == [[0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]]
    rest = [1, 3, 4, 5]
    assert torch.equal(weight[rest], before[rest])


@pytest.mark.parametrize("files", [0, 2])
def test_nothing_holds_the_model_while_training(folders, files, monkeypatch):
    """Neither where a run begins nor where it goes on."""
    held = []

    def watched(*given, **options):
        model = load(*given, **options)
        held.append(weakref.ref(model.mods.embedding_model))
        return model

    monkeypatch.setattr("speechbrain_attn.hub.adapt.load", watched)
    modules = built(folders["ecapa"])["modules"]
    start = PretrainedStart(modules, folders["ecapa"], files_per_speaker=files)
    gc.collect()
    assert [ref() for ref in held] == [None]
    start.begin(
        manifest({"anna": ["a1"], "ben": ["b1"]}),
        lambda paths, _: np.ones((len(paths), 6), np.float32),
    )
    gc.collect()
    assert [ref() for ref in held] == [None] * len(held)
    assert len(held) == (2 if files else 1)


@pytest.mark.parametrize("pooling, files", [("double", 4), ("own", 0)])
def test_a_class_starts_at_random(folders, pooling, files, caplog):
    """Where embeddings have another size, and where it is asked for."""
    modules = built(folders["ecapa"], pooling=pooling)["modules"]
    before = modules["classifier"].weight.detach().clone()
    start = PretrainedStart(modules, folders["ecapa"], files_per_speaker=files)
    with caplog.at_level("INFO"):
        start.begin(
            manifest({"anna": ["a1"], "ben": ["b1"]}),
            lambda paths, _: np.ones((len(paths), 6), np.float32),
        )
    assert torch.equal(modules["classifier"].weight, before)
    assert start.report in caplog.text
    assert ("starts at random" in caplog.text) == (files > 0)
