"""Poolings against the papers' equations, frame by frame in float64.

Each loop below is written from the equations and takes one utterance: its
frames, their weights and the pooling's parameters by name. Frames that are
absent are not given to it at all.
"""

import numpy as np
import pytest
import torch
from torch import nn

from speechbrain_attn.nnet.pooling import (
    POOLINGS,
    AttentiveStatisticsPooling,
    ChannelAttentiveStatisticsPooling,
    DoubleMultiHeadAttentionPooling,
    MultiHeadAttentionPooling,
    SelfAttentivePooling,
    SerializedAttentionPooling,
    StatisticsPooling,
)

EPS = 1e-7  # of every pooling here: large enough to be seen


def softmax(scores, weights):
    """exp(score) times weight, over their sum."""
    raised = [
        w * np.exp(score - max(scores))
        for score, w in zip(scores, weights, strict=True)
    ]
    return np.array(raised) / sum(raised)


def moments(frames, attention):
    """Mean and standard deviation of frames under attention."""
    pairs = list(zip(attention, frames, strict=True))
    mean = sum(a * h for a, h in pairs)
    variance = sum(a * (h - mean) ** 2 for a, h in pairs)
    return mean, np.sqrt(np.maximum(variance, EPS))


def relu(x):
    return np.maximum(x, 0.0)


def affine(parameters, layer, x):
    bias = parameters.get(f"{layer}.bias", 0.0)
    return parameters[f"{layer}.weight"] @ x + bias


def layer_norm(parameters, layer, x):
    """Over the channels of one frame, with the authors' 1e-6."""
    scaled = (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + 1e-6)
    return scaled * parameters[f"{layer}.weight"] + parameters[f"{layer}.bias"]


# One utterance -> (pooled vector, attention [heads, frames]).


def statistics(frames, weights, parameters):
    uniform = weights / weights.sum()
    return np.concatenate(moments(frames, uniform)), [uniform]


def self_attentive(activation, with_std):
    def loop(frames, weights, parameters):
        hidden = [activation(affine(parameters, "scorer.0", h)) for h in frames]
        scores = np.array(
            [parameters["scorer.2.weight"] @ one for one in hidden]
        )
        attention = [softmax(hop, weights) for hop in scores.T]
        means, stds = zip(*(moments(frames, a) for a in attention), strict=True)
        return np.concatenate(means + stds if with_std else means), attention

    return loop


def multi_head(divisor, with_std=False, double=False):
    def loop(frames, weights, parameters):
        query = parameters["query"]
        size, num_heads = query.shape
        contexts, attention = [], []
        for j in range(num_heads):
            parts = [h[j * size : (j + 1) * size] for h in frames]
            scores = [part @ query[:, j] / np.sqrt(divisor) for part in parts]
            attention.append(softmax(scores, weights))
            mean, std = moments(parts, attention[-1])
            contexts.append(np.concatenate([mean, std]) if with_std else mean)
        if not double:
            return np.concatenate(contexts), attention
        scores = [
            context @ parameters["head_query"][:, 0] for context in contexts
        ]
        heads = softmax(scores, np.ones(num_heads))
        return sum(
            w * c for w, c in zip(heads, contexts, strict=True)
        ), attention

    return loop


def serialized(num_layers, norm_position):
    def loop(frames, weights, parameters):
        uniform = weights / weights.sum()
        x, total, attentions = list(frames), 0.0, []
        for n in range(num_layers):
            layer = f"heads.{n}"
            h = x
            if norm_position == "input":
                h = [layer_norm(parameters, f"{layer}.norm", f) for f in x]
            both = np.concatenate(moments(h, uniform))
            query = affine(parameters, f"{layer}.query", both)
            keys = [affine(parameters, f"{layer}.key", f) for f in h]
            scores = [query @ key / np.sqrt(len(key)) for key in keys]
            attentions.append(softmax(scores, weights))
            mean, std = moments(h, attentions[-1])
            both = np.concatenate([mean, std])
            total = total + affine(parameters, f"{layer}.head", both)
            if n == num_layers - 1:
                break
            update = affine(parameters, f"{layer}.residual", mean)
            if norm_position == "output":
                update = layer_norm(parameters, f"{layer}.norm", update)
            x = [
                feed_forward(parameters, n, f + update, norm_position)
                for f in x
            ]
        return total, attentions

    return loop


def feed_forward(parameters, n, frame, norm_position):
    layer, h = f"feed_forwards.{n}", frame
    if norm_position == "input":
        h = layer_norm(parameters, f"{layer}.norm", h)
    h = relu(affine(parameters, f"{layer}.wide", h))
    h = affine(parameters, f"{layer}.narrow", h)
    if norm_position == "output":
        h = layer_norm(parameters, f"{layer}.norm", h)
    return frame + h


def channel_attentive(frames, weights, parameters):
    context = np.concatenate(moments(frames, weights / weights.sum()))
    context = affine(parameters, "context_layer", context)
    scores = []
    for h in frames:
        h = relu(affine(parameters, "frame_layer", h) + context)
        h = h - parameters["norm.running_mean"]
        h = h / np.sqrt(parameters["norm.running_var"] + 1e-5)
        h = h * parameters["norm.weight"] + parameters["norm.bias"]
        scores.append(affine(parameters, "score_layer", np.tanh(h)))
    attention = [softmax(channel, weights) for channel in np.array(scores).T]
    pairs = zip(np.array(frames).T, attention, strict=True)
    means, stds = zip(*(moments(*pair) for pair in pairs), strict=True)
    return np.array(means + stds), attention


# fmt: off
SUBJECTS = [  # id, class, what it is built with for 12 channels, its loop
    ("statistics", StatisticsPooling, {"eps": EPS}, statistics),
    ("attentive", AttentiveStatisticsPooling, {"eps": EPS},
     self_attentive(np.tanh, True)),
    ("self_attentive", SelfAttentivePooling, {"eps": EPS},
     self_attentive(relu, True)),
    ("hops", SelfAttentivePooling,
     {"num_hops": 3, "activation": nn.Tanh, "eps": EPS},
     self_attentive(np.tanh, True)),
    ("hops_mean", SelfAttentivePooling,
     {"num_hops": 3, "with_std": False, "bias": False},
     self_attentive(relu, False)),
    ("heads", MultiHeadAttentionPooling, {"num_heads": 4}, multi_head(3)),
    ("heads_by_heads", MultiHeadAttentionPooling,
     {"num_heads": 4, "scale": "heads"}, multi_head(4)),
    ("heads_std", MultiHeadAttentionPooling,
     {"num_heads": 4, "scale": "none", "with_std": True, "eps": EPS},
     multi_head(1, with_std=True)),
    ("double", DoubleMultiHeadAttentionPooling, {"num_heads": 4},
     multi_head(3, double=True)),
    ("double_std", DoubleMultiHeadAttentionPooling,
     {"num_heads": 4, "with_std": True, "eps": EPS},
     multi_head(3, with_std=True, double=True)),
    ("serialized", SerializedAttentionPooling,
     {"num_layers": 3, "eps": EPS}, serialized(3, "input")),
    ("serialized_whole", SerializedAttentionPooling,
     {"num_layers": 2, "prune_last": False, "eps": EPS},
     serialized(2, "input")),
    ("serialized_output", SerializedAttentionPooling,
     {"num_layers": 3, "norm_position": "output", "eps": EPS},
     serialized(3, "output")),
    ("channel", ChannelAttentiveStatisticsPooling, {"eps": EPS},
     channel_attentive),
]
# fmt: on


def test_every_pooling_has_a_loop():
    ours = {
        cls
        for cls in POOLINGS.values()
        if cls.__module__.startswith("speechbrain_attn.")
    }
    assert {row[1] for row in SUBJECTS} == ours


def randomised(module):
    """All parameters and batch norm statistics away from their beginnings."""
    module.double().eval()
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.randn_like(value).abs() * 0.3 + 0.1)
            value *= torch.randn_like(value).sign()
    for name, value in module.named_buffers():
        if name.endswith("running_var"):
            value.abs_()
    return module


@pytest.mark.parametrize("given", ["nothing", "lengths", "weights", "both"])
@pytest.mark.parametrize(
    "cls, options, loop",
    [pytest.param(*row[1:], id=row[0]) for row in SUBJECTS],
)
def test_equals_the_loop(cls, options, loop, given):
    pool = randomised(cls(12, **options))
    num_frames = [11, 4, 1, 7]
    x = torch.randn(4, 11, 12, dtype=torch.float64)
    lengths = weights = None
    if given in ("lengths", "both"):
        lengths = torch.tensor([n / 11 for n in num_frames])
        for utterance, n in enumerate(num_frames):
            x[utterance, n:] = 1000.0
    if given in ("weights", "both"):
        weights = torch.rand(4, 11, dtype=torch.float64)
        weights[:, 1::3] = 0.0
        weights[1] = 0.0  # all absent: as if nothing were said
    with torch.no_grad():
        output = pool(x, lengths, weights)
        attention = pool.attention(x, lengths, weights)
    parameters = {k: v.numpy() for k, v in pool.state_dict().items()}
    for utterance, n in enumerate(num_frames):
        own = np.arange(11) < (11 if lengths is None else n)
        own = own.astype("float64")
        if weights is not None and utterance != 1:
            own *= weights[utterance].numpy()
        there = own > 0
        pooled, heads = loop(
            x[utterance].numpy()[there], own[there], parameters
        )
        expected = np.zeros((len(heads), 11))
        expected[:, there] = heads
        near = {"atol": 1e-10, "rtol": 1e-9}
        np.testing.assert_allclose(output[utterance], pooled, **near)
        np.testing.assert_allclose(attention[utterance], expected, **near)


def test_penalty_is_the_mean_over_the_batch():
    """||A^T A - I||_F^2 of each utterance, by loops over pairs of hops."""
    attention = torch.rand(3, 5, 11, dtype=torch.float64)
    penalties = []
    for utterance in attention.numpy():
        total = 0.0
        for i, first in enumerate(utterance):
            for j, second in enumerate(utterance):
                total += (sum(first * second) - (i == j)) ** 2
        penalties.append(total)
    found = SelfAttentivePooling.penalty(attention).item()
    assert found == pytest.approx(np.mean(penalties), rel=1e-12)
