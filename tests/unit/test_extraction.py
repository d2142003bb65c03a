"""Extraction: each file has the embedding that it has alone."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.lobes.features import Fbank as HostFbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization
from torch import nn

from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.batching import roomy
from speechbrain_attn.errors import AttnError, AudioError, TooShortError
from speechbrain_attn.inference import extraction
from speechbrain_attn.inference.extraction import extract_embeddings
from speechbrain_attn.lobes.features import (
    Fbank,
    KaldiFbank,
    SentenceNormalization,
)
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA

# Samples; none but the two that are equal fills whole hops.
LENGTHS = {"a": 16001, "b": 8123, "c": 30011, "d": 8123, "e": 161, "f": 23003}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{utterance: path} of noise of several lengths, not sorted by length."""
    folder = tmp_path_factory.mktemp("wavs")
    generator = np.random.default_rng(0)
    files = {}
    for name, length in LENGTHS.items():
        files[name] = folder / f"{name}.wav"
        soundfile.write(files[name], generator.normal(0, 0.1, length), 16000)
    return files


class MeanNetwork(nn.Module):
    """Mean over valid frames, then an affine layer; says what it was given."""

    exact_padding = True

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(40, 7)
        self.dropout = nn.Dropout(0.5)
        self.batches = []

    def forward(self, x, lengths=None):
        self.batches.append(tuple(x.shape[:2]))
        frames = (lengths * x.shape[1]).round()
        valid = torch.arange(x.shape[1]) < frames[:, None]
        x = (x * valid[..., None]).sum(1) / frames[:, None]
        return self.dropout(self.linear(x)).unsqueeze(1)


def tiny(model=None):
    # The mean of normalised features is zero: the tiny network goes without.
    return Fbank(n_mels=40), Identity(), model or MeanNetwork()


class Identity(nn.Module):
    exact_padding = True

    def forward(self, x, lengths):
        return x


def serialized(features):
    lobe = SerializedMHA(
        input_size=40, channels=(32, 32, 32), embedding_size=16, num_layers=2
    )
    return features(n_mels=40), SentenceNormalization(), lobe


def ecapa():
    lobe = ECAPA_TDNN(
        40, channels=[16] * 4 + [48], lin_neurons=8, attention_channels=8
    )
    norm = InputNormalization(norm_type="sentence", std_norm=False)
    return HostFbank(n_mels=40), norm, lobe


NETWORKS = {
    "mean": tiny,
    "serialized": lambda: serialized(Fbank),
    "kaldi_features": lambda: serialized(KaldiFbank),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch_frames", [1, 320, 10**6])
def test_batches_give_what_each_file_gives_alone(files, name, batch_frames):
    network = NETWORKS[name]()
    found, ids = extract_embeddings(
        files, *network, batch_frames=batch_frames, progress=False
    )
    assert ids == list(files)
    assert found.dtype == np.float32
    for row, utterance in zip(found, files, strict=True):
        alone, _ = extract_embeddings(
            {utterance: files[utterance]}, *network, progress=False
        )
        np.testing.assert_allclose(row, alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_frames, num_batches", [(1, 6), (320, 3)])
def test_batches_are_bounded_and_of_similar_length(
    files, batch_frames, num_batches
):
    network = tiny()
    extract_embeddings(
        files, *network, batch_frames=batch_frames, progress=False
    )
    batches = network[2].batches
    # In hops: c 188 | f 144, a 101 | b 51, d 51, e 2; the next would exceed.
    assert len(batches) == num_batches
    for size, frames in batches:
        assert size == 1 or size * frames <= batch_frames
        assert frames == roomy(frames)


def test_batches_have_few_sizes_and_little_padding():
    sizes = {hops: roomy(hops) for hops in range(1, 2049)}
    assert all(hops <= size <= hops * 9 / 8 for hops, size in sizes.items())
    assert len({size for hops, size in sizes.items() if hops > 256}) == 24


def test_a_host_encoder_has_the_embedding_of_its_own_way(files, caplog):
    """That of one waveform as it is, without padding to whole hops."""
    long = {name: files[name] for name in "acbd"}
    network = ecapa()
    extraction._note_inexact.cache_clear()  # another test may have caused it
    with caplog.at_level(logging.INFO, extraction.__name__):
        found, _ = extract_embeddings(long, *network, progress=False)
        extract_embeddings(long, *network, progress=False)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "Fbank, InputNormalization, ECAPA_TDNN" in said[0]
    assert "only utterances of equal length share a batch" in said[0]
    for module in network:
        module.eval()
    features, norm, lobe = network
    for row, path in zip(found, long.values(), strict=True):
        wav = read_waveform(path).unsqueeze(0)
        with torch.no_grad():
            alone = lobe(norm(features(wav), torch.ones(1)), torch.ones(1))
        np.testing.assert_allclose(row, alone[0, 0], rtol=0, atol=1e-5)


def test_host_features_make_a_lobe_of_ours_inexact(files):
    _, _, lobe = serialized(Fbank)
    batches = []
    lobe.register_forward_pre_hook(
        lambda module, args: batches.append(args[0].shape[0])
    )
    extract_embeddings(
        files,
        HostFbank(n_mels=40),
        SentenceNormalization(),
        lobe,
        progress=False,
    )
    assert sorted(batches) == [1, 1, 1, 1, 2]  # b and d are of one length


def test_every_module_comes_back_in_its_mode(files):
    features, norm, model = network = tiny()
    features.eval()
    model.linear.eval()  # a frozen part of a network in training
    extract_embeddings(files, *network, progress=False)
    assert not features.training
    assert norm.training and model.training and model.dropout.training
    assert not model.linear.training
    assert model.linear.weight.requires_grad


def test_threads_of_torch_come_back_for_threads_that_begin_later(files):
    """Batches run on a core each; the network then has them all again."""
    torch.set_num_threads(2)
    try:
        extract_embeddings(files, *serialized(Fbank), progress=False)
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(1)


def test_modes_come_back_after_an_error(files, tmp_path):
    network = tiny()
    with pytest.raises(AudioError, match="no such audio file"):
        extract_embeddings(
            {**files, "x": tmp_path / "x.wav"}, *network, progress=False
        )
    assert all(module.training for module in network)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_is_near_full_precision(files, precision):
    network = serialized(Fbank)
    full, _ = extract_embeddings(files, *network, progress=False)
    half, _ = extract_embeddings(
        files, *network, progress=False, precision=precision
    )
    assert half.dtype == np.float32
    assert not np.array_equal(half, full)
    cosine = (full * half).sum(1) / (
        np.linalg.norm(full, axis=1) * np.linalg.norm(half, axis=1)
    )
    # bf16 has 8 bits: 2**-8 a value, far less for the angle of all.
    assert cosine.min() > 0.999


def test_files_of_any_kind(files, tmp_path):
    """Stereo at 8 kHz: the header counts neither as the waveform does."""
    wav = np.random.default_rng(1).normal(0, 0.1, (4000, 2))
    soundfile.write(tmp_path / "s.flac", wav, 8000)
    network = ecapa()
    found, _ = extract_embeddings(
        {"s": str(tmp_path / "s.flac"), "a": files["a"]},
        *network,
        progress=False,
    )
    assert found.shape == (2, 8)


def broken(tmp_path, kind):
    path = tmp_path / "x.wav"
    wav = np.random.default_rng(1).normal(0, 0.1, 4000)
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is no audio")
    elif kind == "nan":
        wav[7] = np.nan
        soundfile.write(path, wav, 16000, subtype="FLOAT")
    elif kind == "short":
        soundfile.write(path, wav[:159], 16000)
    elif kind == "no_samples":
        soundfile.write(path, wav[:0], 16000)
    elif kind == "cut_flac":
        path = tmp_path / "x.flac"
        soundfile.write(path, wav, 16000)
        path.write_bytes(path.read_bytes()[:2000])
    return path


# fmt: off
BAD_FILES = [  # kind, error, what the message must say
    ("missing", AudioError, r"utterance 'x': .*x.wav: no such audio file"),
    ("empty", AudioError, r"utterance 'x': .*x.wav: cannot be decoded"),
    ("text", AudioError, r"utterance 'x': .*x.wav: cannot be decoded"),
    ("nan", AudioError, r"utterance 'x': .*x.wav: holds NaN"),
    ("no_samples", AudioError, r"utterance 'x': .*x.wav: no samples"),
    ("cut_flac", AudioError, r"utterance 'x': .*x.flac"),
    ("short", TooShortError,
     r"'x': .*x.wav lasts 0.0099 s; the shortest .* is 0.01 s"),
]
# fmt: on


@pytest.mark.parametrize(
    "kind, error, says", BAD_FILES, ids=[row[0] for row in BAD_FILES]
)
def test_a_bad_file_is_named_with_its_utterance(
    files, tmp_path, kind, error, says
):
    with pytest.raises(error, match=says):
        extract_embeddings(
            {**files, "x": broken(tmp_path, kind)}, *tiny(), progress=False
        )


def test_a_file_too_short_for_a_host_encoder_is_named(files):
    says = r"'e': .*e.wav lasts 0.0101 s, and its 2 frames .* of ECAPA_TDNN"
    with pytest.raises(TooShortError, match=says):
        extract_embeddings(files, *ecapa(), progress=False)


def test_other_errors_of_a_network_stay_what_they_are(files):
    class Faulty(MeanNetwork):
        def forward(self, x, lengths=None):
            raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="^a fault$"):
        extract_embeddings(files, *tiny(Faulty()), progress=False)


def test_an_embedding_that_is_not_finite_is_named(files):
    class Overflowing(MeanNetwork):
        def forward(self, x, lengths=None):
            embeddings = super().forward(x, lengths)
            # Only a, the third in length, of 101 hops.
            frames = (lengths * x.shape[1]).round()
            embeddings[frames == 101, 0, 3] = float("inf")
            return embeddings

    says = r"utterance 'a': its embedding is not finite \(.*a.wav\)"
    with pytest.raises(AttnError, match=says):
        extract_embeddings(files, *tiny(Overflowing()), progress=False)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"files": {}}, "no utterances to embed"),
        ({"precision": "int8"}, "precision 'int8' is not known; want .*bf16"),
    ],
)
def test_bad_settings_are_refused(files, settings, says):
    arguments = {"files": files, "progress": False, **settings}
    network = dict(
        zip(
            ("compute_features", "mean_var_norm", "embedding_model"),
            tiny(),
            strict=True,
        )
    )
    with pytest.raises(AttnError, match=says):
        extract_embeddings(**arguments, **network)
