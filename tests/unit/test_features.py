"""Features and their normalisation, against slow references."""

import math

import numpy as np
import pytest
import torch
from speechbrain.processing.features import InputNormalization

from speechbrain_attn.errors import TooShortError
from speechbrain_attn.lobes.features import (
    LOG_FLOOR,
    Fbank,
    KaldiFbank,
    SentenceNormalization,
)

FEATURES = {"fbank": Fbank, "kaldi_fbank": KaldiFbank}
every_feature = pytest.mark.parametrize(
    "features", FEATURES.values(), ids=FEATURES
)


def tone_in_noise(samples=4800):
    """A chirp with some noise, within [-1, 1]."""
    time = np.arange(samples) / 16000
    noise = np.random.default_rng(1234).standard_normal(samples)
    return 0.5 * np.sin(2 * np.pi * (200 + 4000 * time) * time) + 0.01 * noise


def as_batch(wav):
    return torch.tensor(wav, dtype=torch.float32).unsqueeze(0)


def host_filters(n_mels):
    """The host's filterbank matrix [bins, n_mels], from what it does to 1."""
    filterbank = Fbank(n_mels=n_mels).filterbank
    return filterbank(torch.eye(201).unsqueeze(0))[0].double().numpy()


def fbank_by_hand(wav, n_mels):
    """Windows one by one, in float64: frame t is centred on sample 160 t."""
    index = np.arange(400)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * index / 400)
    wav = np.concatenate([np.zeros(200), wav, np.zeros(200 + 160)])
    frames = []
    for start in range(0, len(wav) - 399, 160):
        spectrum = np.fft.rfft(wav[start : start + 400] * window)
        frames.append(np.abs(spectrum) ** 2 @ host_filters(n_mels))
    floor = max(LOG_FLOOR, 1e-6 * np.max(frames))  # 60 dB below the largest
    # The last two windows are centred behind the last sample.
    return np.log(np.maximum(frames[:-2], floor))


def test_fbank_equals_a_slow_reference():
    wav = tone_in_noise()
    found = Fbank()(as_batch(wav))[0]
    expected = fbank_by_hand(wav, 80)
    assert found.shape == expected.shape == (30, 80)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def test_fbank_filters_are_triangles_on_the_mel_scale():
    """The host's matrix peaks where 2595 log10(1 + f / 700) puts its mels."""
    points = np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 23 + 2)
    centres = 700 * (10 ** (points[1:-1] / 2595) - 1)
    peaks = host_filters(23).argmax(axis=0) * 40.0
    assert (np.abs(peaks - centres) <= 40).all()


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 320, 16000, 16001])
def test_fbank_frames_are_samples_over_hop_rounded_up(samples):
    features = Fbank(n_mels=7)
    assert features(torch.randn(2, samples)).shape == (2, -(-samples // 160), 7)


@pytest.mark.parametrize("sample_rate, hop", [(8000, 80), (16000, 160)])
def test_fbank_of_other_rates(sample_rate, hop):
    features = Fbank(sample_rate=sample_rate, n_mels=7)
    assert features.hop_samples == hop and features.output_size == 7
    assert features(torch.randn(1, 11 * hop)).shape == (1, 11, 7)


def test_fbank_in_a_hop_aligned_batch_is_the_same_as_alone():
    features = Fbank(n_mels=23)
    wav = torch.randn(11 * 160)
    batch = torch.zeros(3, 31 * 160)
    batch[1, : len(wav)] = wav
    batch[2] = torch.randn(31 * 160)
    alone = features(wav.unsqueeze(0))[0]
    torch.testing.assert_close(features(batch)[1, :11], alone)


def test_fbank_floor_is_under_the_largest_energy_of_the_utterance():
    features = Fbank(n_mels=23, top_db=60)
    wav = torch.randn(1, 31 * 160)
    wav[:, 20 * 160 :] *= 1e-4  # 80 dB down
    found = features(wav)
    assert (found.max() - found.min()).item() == pytest.approx(
        math.log(1e6), abs=1e-3
    )
    lower = Fbank(n_mels=23, top_db=100)(wav)
    assert (lower[:, 25:] < found[:, 25:] - 1).all()
    torch.testing.assert_close(lower[:, :15], found[:, :15])


def test_fbank_gain_moves_all_features_alike():
    """So that sentence normalisation takes it out, of quiet recordings too."""
    wav = torch.randn(1, 31 * 160)
    shift = Fbank(n_mels=23)(1e-3 * wav) - Fbank(n_mels=23)(wav)
    expected = torch.full_like(shift, math.log(1e-6))
    torch.testing.assert_close(shift, expected, atol=1e-3, rtol=0)


def test_fbank_floor_is_the_same_under_padding():
    """Where the largest energy lies in the very last samples, too."""
    features = Fbank(n_mels=23)
    wav = 1e-5 * torch.randn(1, 11 * 160)
    wav[:, -5:] = 1.0
    padded = torch.nn.functional.pad(wav, (0, 20 * 160))
    torch.testing.assert_close(features(padded)[:, :11], features(wav))


def test_fbank_of_digital_silence_is_the_floor():
    found = Fbank(n_mels=7)(torch.zeros(2, 1600))
    assert torch.equal(found, torch.full((2, 10, 7), LOG_FLOOR).log())


@every_feature
def test_silence_is_finite_and_so_is_its_gradient(features):
    wavs = torch.zeros(2, 1600, requires_grad=True)
    out = features(n_mels=7)(wavs)
    out.sum().backward()
    assert out.isfinite().all() and wavs.grad.isfinite().all()


@every_feature
def test_features_are_float32_under_bf16_autocast(features):
    features = features(n_mels=23)
    wavs = torch.randn(2, 3200)
    expected = features(wavs)
    with torch.autocast("cpu", torch.bfloat16):
        found = features(wavs)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert features(wavs.bfloat16()).dtype == torch.float32
    assert features(wavs.double()).dtype == torch.float32


@every_feature
def test_features_have_no_weights_to_save(features):
    assert not list(features().parameters())
    assert not features().state_dict()


@pytest.mark.parametrize("samples", [80, 160, 239, 240, 400, 4879, 4880])
def test_kaldi_fbank_frames_are_samples_over_hop_rounded(samples):
    """Its values are compared with Kaldi's own in the parity tests."""
    found = KaldiFbank(n_mels=7)(torch.randn(2, samples))
    assert found.shape == (2, (samples + 80) // 160, 7)


@pytest.mark.parametrize("samples", [0, 79])
def test_kaldi_fbank_of_less_than_half_a_hop_is_refused(samples):
    says = rf"wavs: {samples} samples give no frame; want 80"
    with pytest.raises(TooShortError, match=says):
        KaldiFbank()(torch.randn(2, samples))


def test_kaldi_fbank_ends_where_lengths_say():
    features = KaldiFbank(n_mels=23)
    wavs = torch.randn(3, 4800)
    counts = torch.tensor([4800, 1600, 163])
    found = features(wavs, counts / 4800)
    assert found.shape == (3, 30, 23)
    for row, count in enumerate(counts.tolist()):
        alone = features(wavs[row : row + 1, :count])[0]
        torch.testing.assert_close(found[row, : len(alone)], alone)
    # Control: its last windows do look ahead.
    assert not torch.allclose(features(wavs)[1, :10], found[1, :10], atol=0.1)


def test_kaldi_fbank_does_not_look_at_the_padding():
    features = KaldiFbank(n_mels=23)
    wavs, lengths = torch.randn(2, 3200), torch.tensor([0.5, 0.1])
    expected = features(wavs, lengths)
    wavs[0, 1600:], wavs[1, 320:] = float("nan"), 1e3
    assert torch.equal(features(wavs, lengths), expected)


def normalised_by_hand(feats, counts):
    """Row by row, with numpy, in float64."""
    out = np.zeros(feats.shape)
    for row, count in enumerate(counts):
        own = feats[row, :count].double().numpy()
        out[row, :count] = own - own.mean(axis=0)
    return out


@pytest.mark.parametrize("filling", [0.0, 1e3, float("nan")])
def test_normalisation_sees_own_frames_only(filling):
    counts = 23, 11, 2
    feats = 3.0 * torch.randn(3, 23, 7) - 10.0
    for row, count in enumerate(counts):
        feats[row, count:] = filling
    norm = SentenceNormalization()
    found = norm(feats, torch.tensor(counts) / 23)
    expected = normalised_by_hand(feats, counts)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_normalisation_of_frames_that_do_not_differ_is_zero():
    norm = SentenceNormalization()
    for frames in (1, 19):
        feats = torch.full((2, frames, 7), -23.0, requires_grad=True)
        out = norm(feats)
        out.sum().backward()
        torch.testing.assert_close(out, torch.zeros(2, frames, 7))
        assert feats.grad.isfinite().all()


def test_normalisation_without_lengths_is_with_lengths_of_one():
    feats = torch.randn(3, 23, 7)
    norm = SentenceNormalization()
    for lengths in (torch.ones(3), torch.tensor([16000.0, 2.0, 1.0])):
        torch.testing.assert_close(norm(feats), norm(feats, lengths))


def test_normalisation_of_a_full_batch_equals_the_hosts():
    feats = torch.randn(3, 23, 7) - 10.0
    host = InputNormalization(norm_type="sentence", std_norm=False)
    torch.testing.assert_close(
        SentenceNormalization()(feats, torch.ones(3)),
        host(feats, torch.ones(3)),
    )


def test_normalisation_is_the_same_in_training_and_keeps_nothing():
    feats = torch.randn(3, 23, 7)
    norm = SentenceNormalization()
    assert torch.equal(norm.train()(feats), norm.eval()(feats))
    assert not norm.state_dict()
