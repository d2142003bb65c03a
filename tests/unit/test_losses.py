"""Additive margin softmax, against its equations written out."""

import copy
import math

import pytest
import torch

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.losses import AdditiveMarginSoftmax

COSINES = [[0.9, 0.1, -0.3], [0.2, 0.8, 0.5], [-0.1, 0.4, 0.3]]
LABELS = [0, 1, 2]


def loss_by_hand(scale, margin, annealing_factor=0.0):
    """The authors' equations, one utterance at a time."""
    total = 0.0
    for row, label in zip(COSINES, LABELS, strict=True):
        own = row[label]
        own = (own - margin + annealing_factor * own) / (1 + annealing_factor)
        logits = [scale * cosine for cosine in row]
        logits[label] = scale * own
        total -= logits[label]
        total += math.log(sum(math.exp(logit) for logit in logits))
    return total / len(COSINES)


def inputs(dtype=torch.float64, requires_grad=False):
    """Predictions and targets as the host's Brain passes them."""
    cosines = torch.tensor(COSINES, dtype=dtype, requires_grad=requires_grad)
    return cosines.unsqueeze(1), torch.tensor(LABELS).unsqueeze(1)


@pytest.mark.parametrize("scale, margin", [(30.0, 0.4), (15.0, 0.3), (1, 0)])
def test_values_by_hand(scale, margin):
    loss = AdditiveMarginSoftmax(scale, margin)(*inputs())
    assert loss.item() == pytest.approx(loss_by_hand(scale, margin), rel=1e-9)


def test_paper_values_are_the_defaults():
    loss = AdditiveMarginSoftmax()(*inputs())
    assert loss.item() == pytest.approx(loss_by_hand(30.0, 0.4), rel=1e-9)


def test_margin_is_taken_from_the_own_speaker_only():
    cosines, labels = (one.squeeze(1) for one in inputs())
    logits = AdditiveMarginSoftmax(10.0, 0.25).logits(cosines, labels)
    expected = 10.0 * (cosines - 0.25 * torch.eye(3))
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("margin", [-0.1, "wide", float("nan")])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(AttnError, match=rf"^margin={margin}: want a number, 0"):
        AdditiveMarginSoftmax(margin=margin)


@pytest.mark.parametrize(
    "step, factor", [(0, 1000.0), (10_000, 250.0), (100_000, 1000 / 121)]
)
def test_annealing_by_hand(step, factor):
    loss = AdditiveMarginSoftmax(30.0, 0.4, annealing=True)
    loss.step.fill_(step)
    assert loss.annealing_factor().item() == pytest.approx(factor)
    expected = loss_by_hand(30.0, 0.4, factor)
    assert loss(*inputs()).item() == pytest.approx(expected, rel=1e-9)


def test_annealed_margin_grows_from_next_to_nothing():
    loss = AdditiveMarginSoftmax(30.0, 0.4, annealing=True)
    values = []
    for step in (0, 100, 10_000, 1_000_000, 100_000_000):
        loss.step.fill_(step)
        values.append(loss(*inputs()).item())
    assert values == sorted(set(values))
    assert values[0] == pytest.approx(loss_by_hand(30.0, 0.0), rel=0.01)
    assert values[-1] == pytest.approx(loss_by_hand(30.0, 0.4), rel=0.01)


def test_only_steps_with_gradients_are_counted():
    loss = AdditiveMarginSoftmax(annealing=True)
    training = inputs(requires_grad=True)
    first = loss(*training)
    assert loss.step.item() == 1
    with torch.no_grad():
        loss(*training)
    loss(*inputs())
    assert loss.step.item() == 1
    first.backward()
    assert loss(*training) > first
    assert loss.step.item() == 2


def test_state_dict_holds_the_step():
    loss = AdditiveMarginSoftmax(annealing=True)
    for _ in range(7):
        loss(*inputs(requires_grad=True))
    # A copy, since a state dict shares the buffer that goes on counting.
    saved = copy.deepcopy(loss.state_dict())
    assert list(saved) == ["step"]
    resumed = AdditiveMarginSoftmax(annealing=True)
    assert resumed(*inputs()) < loss(*inputs())
    resumed.load_state_dict(saved, strict=True)
    assert resumed.step.item() == 7
    assert torch.equal(resumed(*inputs()), loss(*inputs()))


@pytest.mark.parametrize("annealing", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_cosines(dtype, annealing):
    """Scaled and summed in float32, so within the rounding of the cosines."""
    cosines = torch.empty(11, 1, 1009).uniform_(-1, 1).to(dtype)
    labels = torch.arange(11).unsqueeze(1)
    loss = AdditiveMarginSoftmax(annealing=annealing)
    half = cosines.clone().requires_grad_()
    found = loss(half, labels)
    found.backward()
    assert found.dtype == torch.float32
    assert half.grad.isfinite().all()
    torch.testing.assert_close(
        found, loss(cosines.float(), labels), rtol=1e-2, atol=0
    )


def test_under_autocast_it_is_float32():
    predictions, targets = inputs(torch.float32)
    loss = AdditiveMarginSoftmax()
    expected = loss(predictions, targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(predictions, targets)
    assert torch.equal(found, expected)


def test_called_as_the_host_calls_it():
    predictions, targets = inputs()
    loss = AdditiveMarginSoftmax()
    with_length = loss(predictions, targets, torch.ones(3))
    assert with_length.shape == ()
    assert torch.equal(with_length, loss(predictions, targets))
