"""Mean and deviation of frames under each head's attention."""

import torch

from speechbrain_attn.nnet.masking import full_precision
from speechbrain_attn.nnet.tracing import is_traced


def weighted_mean(x, attention):
    """Mean over frames under each head's attention, [batch, heads, channels].

    Arguments
    ---------
    x : torch.Tensor
        [batch, frames, channels]
    attention : torch.Tensor
        [batch, heads, frames], float32 or float64, sums to one over frames.
    """
    with full_precision(x):
        return torch.bmm(attention, x.to(attention.dtype))


def weighted_moments(x, attention, eps):
    """Mean and standard deviation over frames, each [batch, heads, channels].

    The deviation comes from the centred second moment: E[x^2] - mean^2 cancels
    where the mean is large. Heads are taken one at a time, so that nothing of
    size [batch, heads, frames, channels] is ever made.

    Arguments
    ---------
    x : torch.Tensor
        [batch, frames, channels]
    attention : torch.Tensor
        [batch, heads, frames], float32 or float64, sums to one over frames.
    eps : float
        Floor on the variance, in squared feature units.
    """
    x = x.to(attention.dtype)
    moments = _moments if is_traced() else _Moments.apply
    mean, variance = moments(x, attention)
    return mean, floored_std(variance, eps)


def floored_std(variance, eps):
    """Square root of a variance that is at least ``eps``.

    One frame has variance 0, where the root has infinite slope.
    """
    return variance.clamp(min=eps).sqrt()


def _moments(x, attention):
    """Mean and variance under each head, [batch, heads, channels]."""
    mean = weighted_mean(x, attention)
    variances = []
    with full_precision(x):
        for weight, centre in _heads(attention, mean):
            # Around the mean a variance does not change with its centre: a
            # gradient through it would be zero, at the price of two passes.
            squares = (x - centre.detach()).square()
            variances.append(torch.bmm(weight, squares))
    return mean, torch.cat(variances, dim=1)


def _heads(*tensors):
    """The parts of [batch, heads, ...] of each head, [batch, 1, ...]."""
    parts = (tensor.split(1, dim=1) for tensor in tensors)
    return zip(*parts, strict=True)


class _Moments(torch.autograd.Function):
    """``_moments`` whose gradient takes half as many passes over the frames."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, attention):
        return _moments(x, attention)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output[0])

    @staticmethod
    def backward(ctx, mean_slope, variance_slope):
        x, attention, mean = ctx.saved_tensors
        x_slope, attention_slopes = None, []
        with full_precision(x):
            for weight, centre, of_mean, of_variance in _heads(
                attention, mean, mean_slope, variance_slope
            ):
                centred = x - centre
                if ctx.needs_input_grad[1]:
                    attention_slopes.append(
                        torch.bmm(of_mean, x.transpose(1, 2))
                        + torch.bmm(of_variance, centred.square().mT)
                    )
                if ctx.needs_input_grad[0]:
                    slope = torch.addcmul(
                        of_mean, of_variance, centred, value=2
                    )
                    slope = slope * weight.mT
                    x_slope = slope if x_slope is None else x_slope + slope
        attention_slope = None
        if attention_slopes:
            attention_slope = torch.cat(attention_slopes, dim=1)
        return x_slope, attention_slope
