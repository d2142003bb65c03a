"""Lengths, masks and softmax: the one place of padding."""

import numpy as np
import pytest
import torch

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import (
    check_input,
    clean,
    frame_mask,
    frames_of_lengths,
    masked_softmax,
    present_frames,
    uniform_attention,
    zero_after,
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


@pytest.mark.parametrize("wants_gradient", [False, True])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_zero_after_blanks_what_follows_each_count(axis, wants_gradient):
    x = torch.full((3, 5, 5, 5), NAN)
    counts = torch.tensor([2, 5, 1])
    for row, count in zip(x, counts.tolist(), strict=True):
        row.narrow(axis - 1, 0, count).fill_(1.0)
    given = x.clone().requires_grad_(wants_gradient)
    zeroed = zero_after(given, counts, axis)
    assert torch.equal(zeroed, x.nan_to_num(0.0))
    assert (zeroed is given) is not wants_gradient
    if wants_gradient:
        zeroed.sum().backward()
        assert torch.equal(given.grad, zeroed.detach())
    assert zero_after(x, None, axis) is x


def test_presence_is_mask_times_weights_over_their_largest():
    x = torch.randn(3, 5, 7)
    lengths = torch.tensor([3 / 5, 1.0, 2 / 5])
    weights = torch.full((3, 5), 0.5)
    weights[0, 1] = 0.0
    weights[0, 2] = 0.25
    weights[2] = 0.0  # as if it had none
    weights[0, 4] = NAN  # in the padding
    cleaned, presence = present_frames(x, lengths, weights, 7)
    assert presence.tolist() == [
        [1.0, 0.0, 0.5, 0.0, 0.0],
        [1.0, 1.0, 1.0, 1.0, 1.0],
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


@pytest.mark.parametrize("size", [1.0, 1e-20, 1e-39, 1e-44])
def test_softmax_of_tiny_weights_sums_to_one(size):
    x, scores = torch.randn(2, 11, 7), torch.randn(2, 3, 11)
    weights = 0.1 + 0.9 * torch.rand(2, 11)
    _, expected = present_frames(x, None, weights, 7)
    _, presence = present_frames(x, None, size * weights, 7)
    attention = masked_softmax(scores, presence)
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, 3))
    if size > 1e-44:  # which leaves a digit
        torch.testing.assert_close(presence, expected, rtol=1e-5, atol=0)


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
