"""Lengths, masks, softmax and moments: the one place of padding."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import (
    check_input,
    clean,
    floored_std,
    frame_mask,
    frames_of_lengths,
    masked_softmax,
    present_frames,
    uniform_attention,
    weighted_mean,
    weighted_moments,
)

NAN = float("nan")


def test_frames_are_exact_for_every_length_up_to_2000():
    for frames in range(1, 2001):
        counts = torch.arange(1, frames + 1)
        assert torch.equal(frames_of_lengths(counts / frames, frames), counts)


@pytest.mark.parametrize("frames", [65_537, 99_991, 99_999, 100_000])
def test_frames_are_exact_for_every_length_up_to_100000(frames):
    counts = torch.arange(1, frames + 1)
    assert torch.equal(frames_of_lengths(counts / frames, frames), counts)


def test_frames_are_exact_for_random_lengths_up_to_100000():
    """Lengths as a data pipeline makes them: divided in float64, then cast."""
    draw = np.random.default_rng(1234)
    for frames in draw.integers(2000, 100_001, size=499).tolist():
        counts = draw.integers(1, frames + 1, size=97)
        lengths = torch.tensor(counts / frames, dtype=torch.float32)
        found = frames_of_lengths(lengths, frames)
        assert found.tolist() == counts.tolist()


def test_truncation_would_not_be_exact():
    """Control: why there is a rule at all."""
    counts = torch.arange(1, 101)
    scaled = counts / 100 * 100
    assert not torch.equal(scaled.long(), counts)
    assert not torch.equal(scaled.ceil().long(), counts)


def test_frames_stay_between_one_and_all():
    lengths = torch.tensor([1e-9, 0.02, 1.0, 1.3, 16000.0])
    assert frames_of_lengths(lengths, 23).tolist() == [1, 1, 23, 23, 23]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_frames_of_other_types(dtype):
    lengths = torch.tensor([0.25, 0.5, 1.0], dtype=dtype)
    assert frames_of_lengths(lengths, 4096).tolist() == [1024, 2048, 4096]


def test_mask_is_true_on_own_frames():
    mask = frame_mask(torch.tensor([2 / 5, 1.0, 1 / 5]), 5)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1],
        [1, 0, 0, 0, 0],
    ]


def test_no_lengths_cost_nothing():
    x = torch.randn(3, 11, 7)
    assert frame_mask(None, 11) is None
    assert clean(x, None) is x
    cleaned, presence = present_frames(x, None, None, 7)
    assert cleaned is x and presence is None


def test_clean_replaces_whatever_is_masked():
    mask = torch.tensor([[True, False], [True, True]])
    for shape in ((2, 2), (2, 2, 3), (2, 2, 3, 5)):
        x = torch.ones(shape)
        x[0, 1] = NAN
        cleaned = clean(x, mask)
        assert not cleaned[0, 1].any()
        assert (cleaned[mask] == 1).all()


def test_presence_is_mask_times_weights():
    x = torch.randn(3, 5, 7)
    lengths = torch.tensor([3 / 5, 1.0, 2 / 5])
    weights = torch.full((3, 5), 0.5)
    weights[0, 1] = 0.0
    weights[2] = 0.0  # as if it had none
    weights[0, 4] = NAN  # in the padding
    cleaned, presence = present_frames(x, lengths, weights, 7)
    assert presence.tolist() == [
        [0.5, 0.0, 0.5, 0.0, 0.0],
        [0.5, 0.5, 0.5, 0.5, 0.5],
        [1.0, 1.0, 0.0, 0.0, 0.0],
    ]
    assert torch.equal(cleaned == 0, (presence == 0)[..., None].expand(3, 5, 7))


def test_presence_is_float32_also_for_half_precision():
    x = torch.randn(2, 3, 7, dtype=torch.bfloat16)
    weights = torch.rand(2, 3, dtype=torch.bfloat16)
    _, presence = present_frames(x, torch.ones(2), weights, 7)
    assert presence.dtype == torch.float32
    _, presence = present_frames(x.double(), torch.ones(2), None, 7)
    assert presence.dtype == torch.float64


def test_check_input_accepts_what_fits():
    check_input(torch.ones(2, 3, 7), None, 7)
    check_input(torch.ones(2, 3, 7), torch.tensor([0.5, 1.0]), 7)
    with pytest.raises(AttnError, match="no frames"):
        check_input(torch.ones(2, 0, 7), None, 7)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32]
)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_softmax_is_finite_and_sums_to_one(dtype, size):
    scores = (size * torch.randn(3, 2, 1009)).to(dtype)
    scores[:, :, 5] = NAN
    scores[1, :, 600] = float("inf")
    presence = (torch.rand(3, 1009) > 0.5).float()
    presence[:, 5] = 0.0
    presence[1] = 0.0
    presence[1, 7] = 1.0  # one frame only
    attention = masked_softmax(scores, presence)
    assert attention.dtype == torch.float32
    assert attention.isfinite().all()
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(3, 2))
    absent = (presence == 0)[:, None].expand_as(attention)
    assert (attention[absent] == 0).all()
    assert (attention[1, :, 7] == 1).all()


def test_softmax_by_hand():
    scores = torch.log(torch.tensor([[[1.0, 2.0, 5.0, 4.0]]]))
    presence = torch.tensor([[1.0, 0.5, 0.0, 1.0]])
    found = masked_softmax(scores, presence)[0, 0]
    expected = torch.tensor([1 / 6, 1 / 6, 0.0, 4 / 6])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        masked_softmax(scores, None)[0, 0], torch.tensor([1, 2, 5, 4]) / 12
    )


def test_softmax_of_equal_presence_equals_that_without():
    scores = torch.randn(3, 2, 11)
    for value in (1.0, 0.25, 1e-20):
        presence = torch.full((3, 11), value)
        torch.testing.assert_close(
            masked_softmax(scores, presence), masked_softmax(scores, None)
        )


def test_gradient_of_softmax_is_finite_and_zero_where_absent():
    scores = torch.randn(2, 1, 7)
    scores[0, 0, 3] = NAN
    scores.requires_grad_()
    presence = torch.ones(2, 7)
    presence[0, 3] = 0.0
    attention = masked_softmax(scores, presence)
    (attention * torch.randn(2, 1, 7)).sum().backward()
    assert scores.grad.isfinite().all()
    assert scores.grad[0, 0, 3] == 0
    assert (scores.grad != 0).sum() == 13


def test_uniform_attention():
    x = torch.randn(2, 4, 7)
    assert uniform_attention(x, None).tolist() == [[[0.25] * 4]] * 2
    presence = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.5, 1.0]])
    assert uniform_attention(x, presence).tolist() == [
        [[0.5, 0.5, 0.0, 0.0]],
        [[0.25, 0.0, 0.25, 0.5]],
    ]


def test_moments_are_accurate_far_from_zero():
    """Mean 1000 and deviation 1, where E[x^2] - mean^2 loses everything."""
    x = torch.randn(3, 307, 7) + 1000.0
    attention = torch.softmax(torch.randn(3, 2, 307), dim=2)
    mean, std = weighted_moments(x, attention, eps=1e-10)
    exact = x.double()[:, None], attention.double()[..., None]
    exact_mean = (exact[1] * exact[0]).sum(dim=2)
    centred = exact[0] - exact_mean[:, :, None]
    exact_std = (exact[1] * centred**2).sum(dim=2).sqrt()
    torch.testing.assert_close(mean.double(), exact_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(std.double(), exact_std, rtol=1e-4, atol=0)
    # Control: the formula that is not used.
    naive = (attention @ x**2 - mean**2).clamp(min=0).sqrt()
    assert ((naive - exact_std) / exact_std).abs().max() > 0.01


def test_moments_equal_torchs_own():
    x = torch.randn(3, 11, 7)
    mean, std = weighted_moments(x, uniform_attention(x, None), eps=1e-10)
    torch.testing.assert_close(mean[:, 0], x.mean(dim=1))
    torch.testing.assert_close(std[:, 0], x.std(dim=1, correction=0))


def test_gradient_of_moments_goes_through_their_definition():
    # The function leaves out the gradient through the centre, which is zero.
    torch.manual_seed(6)
    x = torch.randn(2, 11, 3, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(2, 5, 11, dtype=torch.float64, requires_grad=True)
    attention = torch.softmax(scores, dim=2)
    mean = torch.einsum("bht,btc->bhc", attention, x)
    centred = x.unsqueeze(1) - mean.unsqueeze(2)
    variance = torch.einsum("bht,bhtc->bhc", attention, centred.square())
    upstream = torch.randn(2, 2, 5, 3, dtype=torch.float64)
    wanted = torch.stack([mean, variance.sqrt()])
    found = torch.stack(weighted_moments(x, attention, eps=1e-10))
    for one, other in zip(
        torch.autograd.grad(found, [x, scores], upstream, retain_graph=True),
        torch.autograd.grad(wanted, [x, scores], upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_gradient_at_variance_zero_is_finite():
    """One frame, and frames that do not differ: the root has no slope."""
    for frames in (1, 11):
        x = torch.full((2, frames, 3), 7.0, requires_grad=True)
        attention = uniform_attention(x, None)
        mean, std = weighted_moments(x, attention, eps=1e-6)
        torch.testing.assert_close(std, torch.full((2, 1, 3), 1e-3))
        (mean + std).sum().backward()
        torch.testing.assert_close(x.grad, torch.full_like(x, 1 / frames))
    assert floored_std(torch.tensor([0.0, 4.0]), 1e-4).tolist() == [
        pytest.approx(0.01),
        2.0,
    ]


def test_moments_are_float32_under_bf16_autocast():
    x = torch.randn(2, 4099, 3) + 5.0
    attention = uniform_attention(x, None)
    exact = weighted_moments(x, attention, eps=1e-10)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x.mT @ x).dtype == torch.bfloat16  # autocast is really on
        found = weighted_moments(x, attention, eps=1e-10)
        mean = weighted_mean(x.bfloat16(), attention)
    assert torch.equal(found[0], exact[0]) and torch.equal(found[1], exact[1])
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, exact[0], rtol=1e-3, atol=0)


class LargestTensor(TorchDispatchMode):
    """Notes the elements of the largest tensor that anything makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.numel())
        return out


def test_moments_of_many_heads_make_nothing_of_their_product():
    """Nothing of [batch, heads, frames, channels] is materialised."""
    x = torch.randn(3, 101, 7)
    attention = torch.softmax(torch.randn(3, 13, 101), dim=2)
    with LargestTensor() as largest:
        weighted_moments(x, attention, eps=1e-10)
    assert 0 < largest.elements <= 3 * 101 * 13
