"""Mean and deviation of frames under an attention."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_attn.nnet.masking import uniform_attention
from speechbrain_attn.nnet.moments import (
    floored_std,
    weighted_mean,
    weighted_moments,
)


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


def test_gradients_of_moments_have_gradients():
    torch.manual_seed(7)
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(2, 2, 5, dtype=torch.float64, requires_grad=True)

    def moments(x, scores):
        return weighted_moments(x, torch.softmax(scores, dim=2), eps=1e-10)

    assert torch.autograd.gradcheck(moments, (x, scores))
    assert torch.autograd.gradgradcheck(moments, (x, scores))


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
    x = torch.randn(3, 101, 7, requires_grad=True)
    scores = torch.randn(3, 13, 101, requires_grad=True)
    with LargestTensor() as largest:
        attention = torch.softmax(scores, dim=2)
        mean, std = weighted_moments(x, attention, eps=1e-10)
        (mean + std).sum().backward()
    assert 0 < largest.elements <= 3 * 101 * 13


def test_moments_under_torch_func():
    torch.manual_seed(8)
    x = torch.randn(2, 5, 3)
    attention = torch.softmax(torch.randn(2, 2, 5), dim=2)

    def std(x, attention):
        return weighted_moments(x[None], attention[None], eps=1e-10)[1][0]

    each = torch.stack([std(*pair) for pair in zip(x, attention, strict=True)])
    torch.testing.assert_close(torch.vmap(std)(x, attention), each)
    leaf = x[0].clone().requires_grad_()
    std(leaf, attention[0]).sum().backward()
    slope = torch.func.grad(lambda x: std(x, attention[0]).sum())(x[0])
    torch.testing.assert_close(slope, leaf.grad)
