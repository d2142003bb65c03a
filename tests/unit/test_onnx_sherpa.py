"""A model's embedding is the same where sherpa-onnx computes the features."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from onnx_models import expected, session_of, sherpa_model

from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.folder import NETWORK_PARTS
from speechbrain_attn.hub.onnx import export_onnx
from speechbrain_attn.lobes.features import KaldiFbank

sherpa_onnx = pytest.importorskip("sherpa_onnx")
pytest.importorskip("onnx")
ROOT = Path(__file__).parents[2]
SPEECH = (
    Path(os.environ.get("SPEECHBRAIN_ATTN_SHARED", ROOT.parent / "shared"))
    / "speech"
    / "test.zip"
)
RATE = 16000


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model and its file."""
    path = tmp_path_factory.mktemp("sherpa") / "model.onnx"
    model = sherpa_model()
    return model, export_onnx(model, path, kind="features", name="mine")


@pytest.fixture(scope="module")
def extractor(exported):
    _, file = exported
    config = sherpa_onnx.SpeakerEmbeddingExtractorConfig(model=str(file.path))
    return sherpa_onnx.SpeakerEmbeddingExtractor(config)


def distance(model, extractor, wav):
    """One minus the cosine of our embedding and the runtime's."""
    stream = extractor.create_stream()
    stream.accept_waveform(RATE, wav)
    stream.input_finished()
    theirs = np.array(extractor.compute(stream))
    ours = expected(model, torch.tensor(wav).unsqueeze(0))[0].astype("f8")
    return 1 - ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)


@pytest.mark.parametrize("samples", [8_000, 16_001, 16_079, 16_080, 47_999])
def test_noise_has_our_embedding_there(exported, extractor, samples):
    draw = np.random.default_rng(samples)
    level = np.exp(3 * np.sin(np.arange(samples) / 4000) - 3)
    wav = (level * draw.normal(0, 0.5, samples)).astype("f4")
    assert distance(exported[0], extractor, wav) < 1e-5


def test_real_speech_has_our_embedding_there(exported, extractor):
    if not SPEECH.is_file():
        pytest.skip(f"{SPEECH} is not there; SPEECHBRAIN_ATTN_SHARED names it")
    model, found = exported[0], []
    with zipfile.ZipFile(SPEECH) as archive:
        names = [name for name in archive.namelist() if name.endswith(".opus")]
        for name in names[:: len(names) // 8]:
            file = io.BytesIO(archive.read(name))
            wav, rate = soundfile.read(file, dtype="float32")
            assert rate == RATE
            found.append(distance(model, extractor, wav))
    assert len(found) >= 8 and max(found) < 1e-5


def test_the_file_carries_what_the_runtime_reads(exported, extractor):
    model, file = exported
    found = session_of(file.path).get_modelmeta().custom_metadata_map
    assert extractor.dim == 256
    for name, value in {
        "framework": "wespeaker",
        "output_dim": "256",
        "sample_rate": "16000",
        "normalize_samples": "1",
        "model": "mine",
        "input": "features",
    }.items():
        assert found[name] == value
    # Else the runtime would take the mean off, and the graph again.
    assert "feature_normalize_type" not in found


def test_features_may_come_in_a_batch(exported):
    model, file = exported
    feats = torch.randn(3, 57, 80)
    (found,) = session_of(file.path).run(None, {"feats": feats.numpy()})
    with torch.inference_mode():
        network = model.mods.embedding_model
        rows = network(model.mods.mean_var_norm(feats)).squeeze(1)
    np.testing.assert_allclose(found, rows.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "system", ["self_attentive_tdnn", "double_mha", "serialized_mha"]
)
def test_any_training_file_takes_these_features(system, tmp_path):
    """With the options that the refusal names."""
    given = {
        "data_folder": "unused",
        "verification_file": "unused",
        "output_folder": str(tmp_path),
        "n_mels": 80,
        "compute_features": f"!new:{KaldiFbank.__module__}.KaldiFbank",
    }
    if system == "self_attentive_tdnn":
        given["validation_file"] = "unused"
    # As the command line hands them over.
    text = "".join(f"{key}: {value}\n" for key, value in given.items())
    hparams = load_hparams(ROOT / "hparams" / f"{system}.yaml", text)
    features, _, network = (hparams["modules"][one] for one in NETWORK_PARTS)
    assert isinstance(features, KaldiFbank)
    assert network.input_size == features.output_size == 80
