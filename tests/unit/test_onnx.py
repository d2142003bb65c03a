"""ONNX files in onnxruntime give what the model gives."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_models import (
    LENGTHS,
    MODELS,
    as_model,
    embed,
    expected,
    recordings,
    session_of,
    sherpa_model,
)
from speechbrain.processing.features import InputNormalization

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub import onnx as hub_onnx
from speechbrain_attn.hub.fingerprint import network_sha256
from speechbrain_attn.hub.onnx import export_onnx
from speechbrain_attn.lobes.features import Fbank, KaldiFbank
from speechbrain_attn.lobes.models.pooled_encoder import (
    ECAPATrunk,
    PooledEncoder,
)
from speechbrain_attn.nnet.pooling import POOLINGS

onnx = pytest.importorskip("onnx")
DOCS = Path(__file__).parents[2] / "docs" / "onnx.md"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Name, and whether of integers -> model and ``Exported``, made once."""
    folder = tmp_path_factory.mktemp("onnx")
    made = {}

    def export(name, int8=False):
        if (name, int8) not in made:
            model = as_model(MODELS[name]())
            path = folder / f"{name}{int8}.onnx"
            made[name, int8] = model, export_onnx(model, path, int8=int8)
        return made[name, int8]

    return export


@pytest.mark.parametrize("name", MODELS)
def test_any_length_is_embedded_as_by_the_model(exported, name):
    model, file = exported(name)
    session = session_of(file.path)
    for samples in LENGTHS:
        waveforms, _ = recordings(samples)
        np.testing.assert_allclose(
            embed(session, waveforms),
            expected(model, waveforms),
            atol=1e-4,
            rtol=0,
        )
    assert file.parity.difference < 1e-4 and file.parity.largest > 0.1


@pytest.mark.parametrize("name", MODELS)
def test_so_is_a_padded_batch(exported, name):
    model, file = exported(name)
    session = session_of(file.path)
    for samples in ((30_011, 16_000, 4_123, 161), (8_000, 8_000)):
        waveforms, lengths = recordings(*samples)
        found = embed(session, waveforms, lengths)
        rows = expected(model, waveforms, lengths)
        np.testing.assert_allclose(found, rows, atol=1e-4, rtol=0)
        # Control: the embeddings are not all the same.
        assert np.abs(rows[0] - rows[1]).max() > 1e-3


def test_the_file_says_what_it_is(exported):
    model, file = exported("serialized")
    network = [model.mods[part] for part in hub_onnx.NETWORK_PARTS]
    session = session_of(file.path)
    found = session.get_modelmeta().custom_metadata_map
    comment = found.pop("comment")
    assert re.fullmatch(r"Made by speechbrain_attn \d+\.\d+\.\d+", comment)
    assert found == {
        "model": "SerializedMHA",
        "input": "waveform",
        "sample_rate": "16000",
        "embedding_size": "16",
        "precision": "float32",
        "fingerprint": network_sha256(network),
    }
    shapes = [(one.name, one.shape) for one in session.get_inputs()]
    assert shapes == [
        ("waveforms", ["batch", "samples"]),
        ("lengths", ["batch"]),
    ]
    (output,) = session.get_outputs()
    assert (output.name, output.shape) == ("embeddings", ["batch", 16])


@pytest.mark.parametrize("name, operation", [
    ("serialized", "MatMulInteger"), ("double", "ConvInteger")
])  # fmt: skip
def test_integers_are_close_and_features_stay_floats(exported, name, operation):
    _, floats = exported(name)
    model, integers = exported(name, int8=True)
    assert 1e-6 < integers.parity.distance < 0.01
    proto = onnx.load(integers.path)
    assert operation in {node.op_type for node in proto.graph.node}
    types = {one.name: one.data_type for one in proto.graph.initializer}
    assert types["features.basis"] == onnx.TensorProto.FLOAT
    assert integers.path.stat().st_size < floats.path.stat().st_size
    session = session_of(integers.path)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["precision"] == "int8"
    waveforms, _ = recordings(16_000)
    found = embed(session, waveforms)[0]
    row = expected(model, waveforms)[0]
    cosine = found @ row / np.linalg.norm(found) / np.linalg.norm(row)
    assert cosine > 0.99


WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "speechbrain_attn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def test_the_documented_lines_run_without_torch(exported, tmp_path):
    model, file = exported("serialized")
    (tmp_path / "model.onnx").write_bytes(file.path.read_bytes())
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.S)[1]
    code = f"{WITHOUT_TORCH}{code}\nnp.save('found.npy', embeddings)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "(2, 16) SerializedMHA\n", done.stderr
    waveforms = np.random.default_rng(0).normal(0, 0.1, (2, 48000))
    waveforms = torch.tensor(waveforms, dtype=torch.float32)
    np.testing.assert_allclose(
        np.load(tmp_path / "found.npy"),
        expected(model, waveforms, torch.tensor([1.0, 0.6])),
        atol=1e-4,
    )


def test_another_networks_graph_is_not_written(exported, tmp_path, monkeypatch):
    """What was there stays, and nothing is left beside it."""
    _, file = exported("serialized")
    graph = onnx.load(file.path)
    monkeypatch.setattr(hub_onnx, "_exported", lambda *args: graph)
    network = MODELS["serialized"]()
    with torch.no_grad():
        network[2].encoder.convs[0].weight.mul_(1.01)
    path = tmp_path / "old.onnx"
    path.write_text("old")
    with pytest.raises(AttnError, match=r"old.onnx: not written.*differ .* by"):
        export_onnx(as_model(network), path)
    assert [one.name for one in tmp_path.iterdir()] == ["old.onnx"]
    assert path.read_text() == "old"


def test_a_graph_that_cannot_be_of_integers_is_said(exported, monkeypatch):
    """As with torch 2.11, whose shapes onnxruntime does not follow."""
    from onnxruntime import quantization

    _, file = exported("serialized")
    graph = onnx.load(file.path)

    def refuse(*_, **__):
        raise onnx.shape_inference.InferenceError("shapes\ndiffer")

    monkeypatch.setattr(quantization, "quantize_dynamic", refuse)
    monkeypatch.setattr(hub_onnx, "_exported", lambda *args: graph)
    with pytest.raises(AttnError, match=r"^8 bits: .* \(shapes\)\. Take a new"):
        export_onnx(as_model(MODELS["serialized"]()), "x.onnx", int8=True)


def host_network():
    encoder = ECAPATrunk(13, channels=[8, 8, 8, 8, 24], se_channels=4)
    features, norm, _ = MODELS["serialized"]()
    network = PooledEncoder(encoder, POOLINGS["statistics"](24))
    return as_model((features, norm, network.eval()))


def other_features(features):
    def build():
        model = sherpa_model()
        model.mods.compute_features = features().eval()
        return model

    return build


def host_norm():
    model = sherpa_model()
    model.mods.mean_var_norm = InputNormalization(norm_type="sentence")
    return model


NOT_SHERPAS = "not the features that sherpa-onnx computes.*hparams.*KaldiFbank"
REFUSED = {
    "kind": (sherpa_model, "a.onnx", "mel", "kind='mel'; want one of"),
    "ending": (sherpa_model, "a.pt", "waveform", "ends in .onnx"),
    "folder": (sherpa_model, ".onnx", "waveform", "ends in .onnx"),
    "host": (host_network, "a.onnx", "waveform", "PooledEncoder.*padding"),
    "host_norm": (host_norm, "a.onnx", "features", "InputNormalization.*pad"),
    "fbank": (other_features(Fbank), "a.onnx", "features", NOT_SHERPAS),
    "range": (
        other_features(lambda: KaldiFbank(f_max=8000.0)),
        "a.onnx",
        "features",
        NOT_SHERPAS,
    ),
    "no_graph": (
        other_features(torch.nn.Identity),
        "a.onnx",
        "waveform",
        "compute_features: Identity has no ONNX graph; want Fbank",
    ),
    "no_room": (sherpa_model, "/proc/a.onnx", "waveform", "cannot be written"),
}


@pytest.mark.parametrize(
    "build, path, kind, says", REFUSED.values(), ids=REFUSED
)
def test_what_cannot_be_exported_is_refused(
    build, path, kind, says, tmp_path, exported, monkeypatch
):
    if "proc" in path:
        # No graph is needed to see that there is no room for it.
        monkeypatch.setattr(
            hub_onnx, "_exported", lambda *args: onnx.ModelProto()
        )
        parity = hub_onnx.Parity(0.0, 0.0, 1.0)
        monkeypatch.setattr(hub_onnx, "parity_of", lambda *args: parity)
    with pytest.raises(AttnError, match=says):
        export_onnx(build(), tmp_path / path, kind=kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_one_sentence(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AttnError, match=rf"{package}.*pip install.*\[onnx\]"):
        export_onnx(sherpa_model(), tmp_path / "a.onnx")
