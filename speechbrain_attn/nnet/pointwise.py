"""Convolutions over frames, and layers that see one frame at a time."""

import torch
from torch import nn

from speechbrain_attn.nnet.tracing import is_traced

_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm2d, nn.Identity)


def convolve(x, weight, bias=None, dilation=1):
    """Convolution over frames that keeps their number.

    Arguments
    ---------
    x : torch.Tensor
        [batch, channels, 1, frames]: frames as an image of one line, whose
        channels lie side by side in memory, so that nothing is moved.
    weight : torch.Tensor
        [output channels, channels, kernel size], the last odd.
    bias : torch.Tensor or None
        [output channels]
    dilation : int
        Frames between two taps.
    """
    padding = dilation * (weight.shape[2] // 2)
    if weight.shape[2] == 1 and _runs_on_cpu(x):
        # Without a say in the result, but for a single utterance torch takes
        # its own slow loop unless a convolution is dilated.
        dilation = 2
    return nn.functional.conv2d(
        x,
        weight.unsqueeze(2),
        bias,
        padding=(0, padding),
        dilation=(1, dilation),
    )


def over_frames(conv, x):
    """``convolve`` by an ``nn.Conv1d`` that keeps the number of frames."""
    if not is_plain(conv):
        return conv(x.squeeze(2)).unsqueeze(2)
    return convolve(x, conv.weight, conv.bias, *conv.dilation)


def per_frame(layer, x):
    """``nn.Linear`` of frames: [batch, frames, channels] in and out.

    On a CPU as a convolution, which torch hands to oneDNN where it hands a
    linear layer in float32 to MKL; MKL has half the speed on processors of
    another maker, oneDNN has not, in both directions.
    """
    if not (is_plain(layer) and _runs_on_cpu(x)):
        return layer(x)
    x = x.transpose(1, 2).unsqueeze(2)
    x = convolve(x, layer.weight.unsqueeze(2), layer.bias)
    return x.squeeze(2).transpose(1, 2)


def relu_of(x, *layers):
    """ReLU of what ``layers`` gave, in place where nobody else may see that."""
    return nn.functional.relu(x, inplace=all(map(is_plain, layers)))


def is_plain(layer):
    """Whether a layer is torch's own, with nothing hung on it.

    What computes with the layer's weights past the layer would miss an adapter
    in its place, a pruning, a parametrisation or a hook.
    """
    return type(layer) in _PLAIN and not any(
        (
            layer._forward_pre_hooks,
            layer._forward_hooks,
            layer._backward_pre_hooks,
            layer._backward_hooks,
        )
    )


def _runs_on_cpu(x):
    # oneDNN has no float64.
    return x.is_cpu and x.dtype != torch.float64 and not is_traced()
