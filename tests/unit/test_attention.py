"""Attention over time: which weights, whose, and when."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from speechbrain_attn.errors import AttnError, TooShortError
from speechbrain_attn.hub.model import SpeakerModel
from speechbrain_attn.inference.attention import Attention, attention_of
from speechbrain_attn.lobes.features import (
    Fbank,
    KaldiFbank,
    SentenceNormalization,
)
from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.ge2e_lstm import GE2ELSTM
from speechbrain_attn.lobes.models.pooled_encoder import (
    ECAPATrunk,
    PooledEncoder,
    ResNetTrunk,
)
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.nnet.encoders import TDNNEncoder, VGGEncoder
from speechbrain_attn.nnet.pooling import POOLINGS

RATE = 16000
MELS = 13
HOP_S = 0.01
FEATURES = {"fbank": Fbank, "kaldi": KaldiFbank}
ENCODERS = {
    "tdnn": lambda: TDNNEncoder(MELS, (6, 6), (5, 3), (1, 2)),
    "vgg": lambda: VGGEncoder(MELS, (4, 6, 6, 6)),
    "ecapa": lambda: ECAPATrunk(
        MELS,
        channels=[8, 8, 8, 8, 6],
        res2net_scale=2,
        se_channels=4,
    ),
    "resnet": lambda: ResNetTrunk(
        MELS, channels=[4, 4, 6, 6], block_sizes=[1, 1, 1, 1]
    ),
}
POOLING_OPTIONS = {
    "multi_head": {"num_heads": 3},
    "double_multi_head": {"num_heads": 3},
    "self_attentive": {"num_hops": 2},
    "serialized": {"num_layers": 3},
}


def speaker_model(network, features=None, norm=None):
    modules = {
        "compute_features": features or Fbank(n_mels=MELS),
        "mean_var_norm": norm or SentenceNormalization(),
        "embedding_model": network,
    }
    return SpeakerModel(modules, {}, device="cpu")


class Loudness(nn.Module):
    """A stand-in for a pooling: attends to frames by their mean."""

    def __init__(self, input_size):
        super().__init__()
        self.input_size = self.output_size = input_size

    def attention(self, x, lengths=None, weights=None):
        loudness = x.mean(dim=2)
        return (loudness / loudness.sum(dim=1, keepdim=True)).unsqueeze(1)

    def forward(self, x, lengths=None, weights=None):
        return x.mean(dim=1)


class FromZero(nn.Module):
    """Features whose silence is zero, so that only a click is heard."""

    def forward(self, x, lengths=None):
        return x - x.amin()


def with_equal_weights(encoder):
    """The encoder as one that spreads what it hears evenly to both sides."""
    for module in encoder.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return encoder


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_click_is_attended_to_when_it_sounds(features, encoder):
    """Over one period of the frames, errors of their width cancel."""
    encoder = with_equal_weights(ENCODERS[encoder]())
    network = PooledEncoder(encoder, Loudness(encoder.output_size))
    model = speaker_model(network, FEATURES[features](n_mels=MELS), FromZero())
    errors = []
    for hop in range(encoder.stride):
        at_s = 0.6 + HOP_S * hop
        wav = torch.zeros(RATE * 3 // 2)
        wav[round(at_s * RATE)] = 1.0
        attention = attention_of(model, wav)
        centres_s = (attention.edges_s[1:] + attention.edges_s[:-1]) / 2
        errors.append((attention.weights[0] * centres_s).sum() - at_s)
        assert abs(errors[-1]) < HOP_S * (encoder.stride / 2 + 1)
    # Kaldi's windows lie between hops, so a click on a hop falls on an edge.
    assert abs(np.mean(errors)) < 0.1 * HOP_S


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("samples", [1600, 5333, 7919])
def test_frames_fill_the_recording(features, encoder, samples):
    encoder = ENCODERS[encoder]()
    network = PooledEncoder(encoder, Loudness(encoder.output_size))
    model = speaker_model(network, FEATURES[features](n_mels=MELS))
    attention = attention_of(model, torch.randn(samples))
    assert len(attention.edges_s) == attention.weights.shape[1] + 1
    assert attention.edges_s[0] == 0
    assert attention.edges_s[-1] == attention.duration_s == samples / RATE
    widths = np.diff(attention.edges_s)
    assert (widths > 0).all()
    inner = widths[1:-1]
    assert inner == pytest.approx(np.full(len(inner), HOP_S * encoder.stride))


def test_frames_of_vgg_begin_between_those_of_the_features():
    """Block i covers frames 16 i to 16 i + 15; frame t lies around 10 t ms."""
    encoder = VGGEncoder(MELS, (4, 4, 4, 4))
    network = PooledEncoder(encoder, Loudness(encoder.output_size))
    attention = attention_of(speaker_model(network), torch.randn(8000))
    assert attention.edges_s == pytest.approx([0, 0.155, 0.315, 0.475, 0.5])


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_every_pooling_shows_its_weights(name):
    encoder = ENCODERS["tdnn"]()
    pooling = POOLINGS[name](
        encoder.output_size, **POOLING_OPTIONS.get(name, {})
    )
    network = PooledEncoder(encoder, pooling).eval()
    model = speaker_model(network)
    wav = torch.randn(4800)
    attention = attention_of(model, wav)
    feats = model.mods.mean_var_norm(model.mods.compute_features(wav[None]))
    expected = network.attention(feats)[0].detach().numpy()
    assert attention.weights == pytest.approx(expected, abs=1e-6)
    assert attention.weights.sum(axis=1) == pytest.approx(1.0)
    assert len(set(attention.names)) == len(attention.weights)
    assert attention.pooling == type(pooling).__name__
    weighed = attention.head_weights is not None
    assert weighed == (name == "double_multi_head")


@pytest.mark.parametrize(
    "name, first",
    [("serialized", "layer 1"), ("self_attentive", "hop 1")]
    + [("multi_head", "head 1"), ("channel_attentive_statistics", "channel 1")],
)
def test_heads_are_named_as_the_papers_do(name, first):
    pooling = POOLINGS[name](6, **POOLING_OPTIONS.get(name, {}))
    network = PooledEncoder(ENCODERS["tdnn"](), pooling).eval()
    model = speaker_model(network)
    assert attention_of(model, torch.randn(4800)).names[0] == first


def mean_and_deviation(attention, x):
    mean = attention.weights[0] @ x
    return np.r_[mean, np.sqrt(attention.weights[0] @ (x - mean) ** 2)]


def mean_of_heads(attention, x):
    slices = np.stack(np.split(x, len(attention.weights), axis=1))
    means = np.einsum("kt,ktd->kd", attention.weights, slices)
    return attention.head_weights @ means


@pytest.mark.parametrize(
    "network, pooled_by_hand",
    [
        (
            lambda: SelfAttentiveTDNN(
                MELS, channels=(7, 7, 7, 7), embedding_size=5
            ),
            mean_and_deviation,
        ),
        (
            lambda: DoubleMHA(MELS, (4, 4), num_heads=4, embedding_size=5),
            mean_of_heads,
        ),
    ],
    ids=["self_attentive", "double"],
)
def test_the_embedding_is_made_of_what_is_shown(network, pooled_by_hand):
    network = network().eval()
    with torch.no_grad():
        for parameter in network.pooling.parameters():
            parameter *= 500  # so that attention is far from uniform
    model = speaker_model(network)
    wav = torch.randn(8000) * torch.linspace(0, 1, 8000) ** 4
    attention = attention_of(model, wav)
    feats = model.mods.mean_var_norm(model.mods.compute_features(wav[None]))
    x = network.encode(feats)[0][0].detach().double().numpy()

    expected = model.encode_batch(wav)[0, 0].numpy()

    def error(attention):
        pooled = torch.from_numpy(pooled_by_hand(attention, x)).float()
        embedding = network.embedding(pooled[None])[0].detach().numpy()
        return np.abs(embedding - expected).max()

    uniform = np.full_like(attention.weights, 1 / attention.weights.shape[1])
    of_uniform = error(replace(attention, weights=uniform))
    assert error(attention) < 1e-4 and error(attention) < 0.05 * of_uniform


def attention_with(*weights, head_weights=None):
    weights = np.array(weights, dtype=float)
    return Attention(
        weights=weights,
        edges_s=np.arange(weights.shape[1] + 1) / 4,
        names=[f"head {number}" for number in range(len(weights))],
        head_weights=head_weights,
        pooling="ByHand",
    )


def test_entropies_of_known_weights():
    found = attention_with(
        [0.25, 0.25, 0.25, 0.25], [0, 1, 0, 0], [0.5, 0, 0, 0.5]
    )
    assert found.entropies() == pytest.approx([math.log(4), 0, math.log(2)])
    assert found.entropy_shares() == pytest.approx([1, 0, 0.5])
    assert found.effective_frames() == pytest.approx([4, 1, 2])
    assert found.relative[1] == pytest.approx([0, 4, 0, 0])


def test_one_frame_has_all_of_the_entropy_there_is():
    found = attention_with([1.0])
    assert found.entropy_shares() == [1.0] and found.effective_frames() == [1.0]


def test_stretches_hold_half_of_the_weight():
    found = attention_with(
        [0.05, 0.3, 0.2, 0.05, 0.15, 0.25],  # 0.3 + 0.25 is enough
        [0.5, 0.1, 0.1, 0.1, 0.1, 0.1],  # half of it in one frame
        [0.1, 0.2, 0.19, 0.18, 0.17, 0.16],  # three that follow each other
        [1 / 6] * 6,  # a sum that is not quite a half
    )
    first, second, third, fourth = (found.stretches(head) for head in range(4))
    assert first == [(0.25, 0.5, 0.3), (1.25, 1.5, 0.25)]
    assert second == [(0.0, 0.25, 0.5)]
    assert third == [(0.25, 1.0, pytest.approx(0.57))]
    assert fourth == [(0.0, 0.75, pytest.approx(0.5))]


def test_all_of_it_is_json():
    network = DoubleMHA(MELS, (4, 4), num_heads=2, embedding_size=5).eval()
    found = attention_of(speaker_model(network), torch.randn(8000))
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["pooling"] == "DoubleMultiHeadAttentionPooling"
    assert values["duration_s"] == 0.5
    assert values["edges_s"] == pytest.approx(found.edges_s)
    assert values["frames"] == len(values["edges_s"]) - 1
    for number, head in enumerate(values["heads"]):
        assert head["name"] == f"head {number + 1}"
        assert head["weights"] == pytest.approx(found.weights[number], rel=1e-5)
        assert len(head["weights"]) == values["frames"]
        entropy = -sum(w * math.log(w) for w in head["weights"])
        assert head["entropy_nats"] == pytest.approx(entropy, rel=1e-4)
        share = entropy / math.log(values["frames"])
        assert head["entropy_share"] == pytest.approx(share, rel=1e-4)
        effective = math.exp(entropy)
        assert head["effective_frames"] == pytest.approx(effective, rel=1e-4)
    weights = [head["head_weight"] for head in values["heads"]]
    assert sum(weights) == pytest.approx(1)


def test_what_has_no_attention_over_time_is_refused():
    wav = torch.randn(8000)
    with pytest.raises(AttnError, match="GE2ELSTM has no pooling whose"):
        attention_of(speaker_model(GE2ELSTM(MELS, 7, 1, 5).eval()), wav)
    encoder = ENCODERS["tdnn"]()
    network = PooledEncoder(encoder, Loudness(encoder.output_size))
    with pytest.raises(AttnError, match="Identity does not say where its fr"):
        attention_of(speaker_model(network, nn.Identity()), wav)
    model = speaker_model(network)
    with pytest.raises(TooShortError, match="has no samples"):
        attention_of(model, torch.zeros(0))
    with pytest.raises(AttnError, match="NaN or infinite"):
        attention_of(model, wav * float("nan"))
