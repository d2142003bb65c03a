"""Margins on angles, against their equations written out."""

import math

import pytest
import torch
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper

from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.models.heads import CosineHead
from speechbrain_attn.nnet.angular_margin import AdditiveAngularMarginSoftmax
from speechbrain_attn.nnet.schedules import MarginRamp


def wider(cosine, margin):
    """cos(theta + margin), or what stands for it where that would rise."""
    theta = math.acos(cosine)
    if theta <= math.pi - margin:
        return math.cos(theta + margin)
    return cosine - margin * math.sin(margin)


def narrower(cosine, margin):
    """cos(theta - margin), or what stands for it where that would fall."""
    theta = math.acos(cosine)
    if theta >= margin:
        return math.cos(theta - margin)
    return cosine + margin * math.sin(margin)


def loss_by_hand(cosines, labels, margin, scale, top_k, top_k_margin):
    """One utterance at a time, one speaker at a time."""
    total = 0.0
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        others = [speaker for speaker in range(len(row)) if speaker != label]
        others.sort(key=lambda speaker: -row[speaker])
        logits = [scale * cosine for cosine in row]
        logits[label] = scale * wider(row[label], margin)
        for speaker in others[:top_k]:
            logits[speaker] = scale * narrower(row[speaker], top_k_margin)
        total += math.log(sum(math.exp(one) for one in logits))
        total -= logits[label]
    return total / len(labels)


def cosines_and_labels(batch=11, speakers=7, dtype=torch.float64):
    """Cosines over the whole range, with both ends among the own ones."""
    cosines = torch.empty(batch, speakers, dtype=dtype).uniform_(-1, 1)
    labels = torch.randint(speakers, (batch,))
    cosines[0, labels[0]], cosines[1, labels[1]] = -0.9999, 0.9999
    return cosines, labels


@pytest.mark.parametrize("top_k", [0, 1, 3, 6, 99])
@pytest.mark.parametrize("margin, top_k_margin", [(0.2, 0.06), (0.5, 0.3)])
def test_values_by_hand(margin, top_k, top_k_margin):
    loss = AdditiveAngularMarginSoftmax(margin, 30.0, top_k, top_k_margin)
    cosines, labels = cosines_and_labels()
    cosines[2, (labels[2] + 1) % 7] = 0.9999  # an other one within m'
    expected = loss_by_hand(cosines, labels, margin, 30.0, top_k, top_k_margin)
    found = loss(cosines.unsqueeze(1), labels.unsqueeze(1))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_without_penalty_it_is_the_hosts_loss():
    host = LogSoftmaxWrapper(AdditiveAngularMargin(margin=0.2, scale=30))
    cosines, labels = cosines_and_labels(dtype=torch.float32)
    cosines, labels = cosines.unsqueeze(1), labels.unsqueeze(1)
    torch.testing.assert_close(
        AdditiveAngularMarginSoftmax()(cosines, labels, torch.ones(11)),
        host(cosines, labels),
    )


@pytest.mark.parametrize("top_k", [0, 2])
def test_gradients(top_k):
    cosines, labels = cosines_and_labels(batch=5)
    cosines = (0.99 * cosines).unsqueeze(1).requires_grad_()
    loss = AdditiveAngularMarginSoftmax(top_k=top_k)
    assert torch.autograd.gradcheck(
        lambda x: loss(x, labels.unsqueeze(1)), (cosines,)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_cosines_at_the_ends(dtype):
    cosines = torch.tensor([[1, -1, 0.5, 1], [-1, 1, -1, 0]], dtype=dtype)
    labels = torch.tensor([[0], [0]])
    half = cosines.unsqueeze(1).requires_grad_()
    loss = AdditiveAngularMarginSoftmax(top_k=2)
    found = loss(half, labels)
    found.backward()
    assert found.dtype == torch.float32 and half.grad.isfinite().all()
    same = loss(cosines.float().unsqueeze(1), labels)
    torch.testing.assert_close(found, same)


def test_a_ramp_moves_both_margins():
    """Halfway the loss equals one of half the margins; at 0 there is none."""
    loss = AdditiveAngularMarginSoftmax(0.4, top_k=2, top_k_margin=0.1)
    ramp = MarginRamp(loss, final_margin=0.4, warmup_steps=10)
    cosines, labels = (x.unsqueeze(1) for x in cosines_and_labels())
    for step, part in ((0, 0.0), (5, 0.5), (10, 1.0), (99, 1.0)):
        ramp.set_step(step)
        expected = AdditiveAngularMarginSoftmax(
            0.4 * part, top_k=2, top_k_margin=0.1 * part
        )
        torch.testing.assert_close(
            loss(cosines, labels), expected(cosines, labels)
        )
    assert loss(cosines, labels) > 1.1 * AdditiveAngularMarginSoftmax(0.0)(
        cosines, labels
    )


@pytest.mark.parametrize("number", [-1, 2.5])
def test_numbers_that_are_none_are_refused(number):
    with pytest.raises(AttnError, match=rf"top_k={number}: want a whole"):
        AdditiveAngularMarginSoftmax(top_k=number)
    with pytest.raises(AttnError, match=rf"num_sub_centres={number}: want"):
        CosineHead(13, out_neurons=7, num_sub_centres=number)


@pytest.mark.parametrize("angle", [-1, -0.01, 11, "wide", float("nan")])
@pytest.mark.parametrize("key", ["margin", "top_k_margin"])
def test_angles_that_are_none_are_refused(key, angle):
    """Degrees among them, and those that would turn the margin round."""
    with pytest.raises(AttnError, match=rf"^{key}={angle}: want radians"):
        AdditiveAngularMarginSoftmax(**{key: angle})


@pytest.mark.parametrize("number", [1, 3])
def test_a_speakers_cosine_is_that_of_the_nearest_sub_centre(number):
    head = CosineHead(13, out_neurons=7, num_sub_centres=number)
    x = torch.randn(5, 1, 13)
    found = head(x)
    for row in range(5):
        for speaker in range(7):
            centres = head.weight[speaker * number : (speaker + 1) * number]
            cosines = [
                x[row, 0] @ one / (x[row, 0].norm() * one.norm())
                for one in centres
            ]
            torch.testing.assert_close(found[row, 0, speaker], max(cosines))


def test_only_the_nearest_sub_centre_learns():
    head = CosineHead(13, out_neurons=2, num_sub_centres=3)
    x = head.weight[4].detach().reshape(1, 1, 13)  # of the second speaker
    head(x)[0, 0, 1].backward()
    moved = head.weight.grad.abs().sum(dim=1) > 0
    assert not moved[[0, 1, 2, 3, 5]].any()


def test_cosines_are_not_rounded_under_autocast():
    head = CosineHead(13, out_neurons=7, num_sub_centres=3)
    x = torch.randn(5, 1, 13).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = head(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, head(x.float()))
