"""Attention and soft frame weights of every pooling."""

import pytest
import torch
from subjects import COUNTS, POOLING_SUBJECTS, assert_near, ids

from speechbrain_attn.nnet.pooling import (
    POOLINGS,
    SerializedAttentionPooling,
)

every_pooling = pytest.mark.parametrize(
    "subject", POOLING_SUBJECTS, ids=ids(POOLING_SUBJECTS)
)


def silence_some(subject):
    """x, lengths, weights of 0 and 1, and the frames that count, by row."""
    x, lengths = subject.inputs()
    weights = torch.ones(x.shape[:2])
    weights[0, [0, 7, 8, 22]] = 0.0
    weights[2, 1:10] = 0.0
    weights[3, 4] = 0.0
    kept = [
        row[:count][mask[:count] > 0]
        for row, count, mask in zip(x, COUNTS, weights, strict=True)
    ]
    return x, lengths, weights, kept


@every_pooling
@torch.no_grad()
def test_frame_of_weight_zero_is_as_if_absent(subject):
    pooling = subject.make()
    x, lengths, weights, kept = silence_some(subject)
    expected = [pooling(frames[None])[0] for frames in kept]
    assert_near(pooling(x, lengths, weights), expected)
    # Whatever stands there, or in the padding, and of the weights too.
    for filling in (1e3, float("nan")):
        filled = x.masked_fill(weights[..., None] == 0, filling)
        masked = weights.clone()
        for row, count in enumerate(COUNTS):
            filled[row, count:] = filling
            masked[row, count:] = filling
        assert_near(pooling(filled, lengths, masked), expected)


@every_pooling
@torch.no_grad()
def test_weights_without_lengths(subject):
    pooling = subject.make()
    x, _ = subject.inputs()
    weights = torch.ones(x.shape[:2])
    weights[:, 3:19:2] = 0.0
    expected = torch.stack([row[weights[0] > 0] for row in x])
    assert_near(pooling(x, weights=weights), pooling(expected))


@every_pooling
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 1e-30])
@torch.no_grad()
def test_equal_weights_are_as_none(subject, value):
    """Also when all are zero: an utterance is never without frames."""
    pooling = subject.make()
    x, lengths = subject.inputs()
    for row, count in enumerate(COUNTS):
        x[row, count:] = float("nan")
    weights = torch.full(x.shape[:2], value)
    assert_near(pooling(x, lengths, weights), pooling(x, lengths))


@every_pooling
@torch.no_grad()
def test_zero_weights_of_one_utterance_leave_the_others_theirs(subject):
    pooling = subject.make()
    x, lengths, weights, _ = silence_some(subject)
    weights[0] = 0.0
    out = pooling(x, lengths, weights)
    assert_near(out[:1], pooling(x, lengths)[:1])
    assert_near(out[1:], pooling(x[1:], lengths[1:], weights[1:]))


@every_pooling
@torch.no_grad()
def test_half_a_weight_is_half_a_frame(subject):
    """A frame of weight 1 among those of 1/2 counts as if it stood twice."""
    pooling = subject.make()
    x = torch.randn(3, 7, subject.input_size)
    weights = torch.full((3, 7), 0.5)
    weights[:, [1, 4]] = 1.0
    twice = torch.cat([x, x[:, [1, 4]]], dim=1)
    assert_near(pooling(x, weights=weights), pooling(twice))
    assert (pooling(x) - pooling(twice)).abs().max() > 1e-2


@every_pooling
@torch.no_grad()
def test_attention_sums_to_one_over_present_frames(subject):
    pooling = subject.make()
    x, lengths, weights, kept = silence_some(subject)
    attention = pooling.attention(x, lengths, weights)
    assert attention.dim() == 3
    assert attention.shape[::2] == x.shape[:2]
    assert_near(attention.sum(dim=2), torch.ones(attention.shape[:2]))
    present = weights > 0
    for row, count in enumerate(COUNTS):
        present[row, count:] = False
    present = present.unsqueeze(1).expand_as(attention)
    assert (attention[~present] == 0).all()
    assert (attention[present] > 0).all()
    # And is what the utterance has alone, without the absent frames.
    for row, frames in enumerate(kept):
        alone = pooling.attention(frames[None])[0]
        assert_near(attention[row][present[row]], alone.flatten())


@every_pooling
@torch.no_grad()
def test_attention_survives_scores_of_any_size(subject):
    """Also where the highest scores meet weights near zero."""
    pooling = subject.make()
    x, lengths = subject.inputs()
    weights = torch.ones(x.shape[:2])
    weights[:, ::2] = 1e-20
    for factor in (1.0, 1e3):
        attention = pooling.attention(factor * x, lengths, weights)
        assert_near(attention.sum(dim=2), torch.ones(attention.shape[:2]))
        assert pooling(factor * x, lengths, weights).isfinite().all()


def moments(x, attention, eps):
    """Mean and deviation [heads, channels] of one utterance, in a loop."""
    means, stds = [], []
    for head in attention:
        mean = sum(a * frame for a, frame in zip(head, x, strict=True))
        variance = sum(
            a * (frame - mean) ** 2 for a, frame in zip(head, x, strict=True)
        )
        means.append(mean)
        stds.append(variance.clamp(min=eps).sqrt())
    return torch.stack(means), torch.stack(stds)


def _hops(pooling, x, attention):
    mean, std = moments(x, attention, pooling.eps)
    with_std = pooling.output_size > mean.numel()
    return torch.cat([mean, std] if with_std else [mean]).flatten()


def _channels(pooling, x, attention):
    mean, std = moments(x, attention, pooling.eps)
    return torch.cat([mean.diagonal(), std.diagonal()])


def _heads(pooling, x, attention):
    size = pooling.input_size // pooling.num_heads
    found = []
    for number, head in enumerate(attention):
        own = x[:, number * size : (number + 1) * size]
        mean, std = moments(own, head[None], pooling.eps)
        found.append(torch.cat([mean, std] if pooling.with_std else [mean], 1))
    return torch.cat(found)


def _double(pooling, x, attention):
    heads = _heads(pooling, x, attention)
    weights = pooling.head_attention(x[None])[0]
    assert_near(weights.sum()[None], torch.ones(1))
    return sum(w * head for w, head in zip(weights, heads, strict=True))


def _flat_heads(pooling, x, attention):
    return _heads(pooling, x, attention).flatten()


FROM_ATTENTION = {
    "attentive_statistics": _hops,
    "channel_attentive_statistics": _channels,
    "double_multi_head": _double,
    "multi_head": _flat_heads,
    "self_attentive": _hops,
    "statistics": _hops,
}
# A layer's frames are not handed out, so only one layer can be made from the
# attention: see below.
NOT_FROM_ATTENTION = {"serialized"}


def test_every_pooling_is_made_from_its_attention():
    assert FROM_ATTENTION.keys() | NOT_FROM_ATTENTION == POOLINGS.keys()
    assert not FROM_ATTENTION.keys() & NOT_FROM_ATTENTION


def _recomputed_subjects():
    names = {cls: name for name, cls in POOLINGS.items()}
    return [
        pytest.param(subject, FROM_ATTENTION[name], id=subject.name)
        for subject in POOLING_SUBJECTS
        if (name := names[type(subject.build())]) in FROM_ATTENTION
    ]


@pytest.mark.parametrize("subject, recompute", _recomputed_subjects())
@torch.no_grad()
def test_attention_is_what_forward_uses(subject, recompute):
    pooling = subject.make()
    x, lengths, weights, _ = silence_some(subject)
    out = pooling(x, lengths, weights)
    attention = pooling.attention(x, lengths, weights)
    present = attention.sum(dim=1) > 0
    for row in range(len(COUNTS)):
        own = present[row]
        expected = recompute(pooling, x[row, own], attention[row, :, own])
        assert_near(out[row][None], expected[None])


@pytest.mark.parametrize("norm_position", ["input", "output"])
@torch.no_grad()
def test_attention_is_what_a_serialized_layer_uses(norm_position):
    pooling = SerializedAttentionPooling(
        7, num_layers=1, key_size=5, norm_position=norm_position
    ).eval()
    layer = pooling.heads[0]
    x = torch.randn(3, 11, 7)
    attention = pooling.attention(x)
    values = layer.norm(x) if norm_position == "input" else x
    for row in range(3):
        found = moments(values[row], attention[row], layer.eps)
        expected = layer.head(torch.cat(found, dim=1))
        assert_near(pooling(x[row : row + 1]), expected)
