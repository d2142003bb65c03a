"""Convolutions over frames, and layers that see one frame at a time."""

import torch
from torch import nn

from speechbrain_attn.nnet.tracing import is_traced


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


def per_frame(layer, x):
    """``nn.Linear`` of frames: [batch, frames, channels] in and out.

    On a CPU as a convolution, which torch hands to oneDNN where it hands a
    linear layer in float32 to MKL; MKL has half the speed on processors of
    another maker, oneDNN has not, in both directions.
    """
    if not _runs_on_cpu(x):
        return layer(x)
    x = x.transpose(1, 2).unsqueeze(2)
    x = convolve(x, layer.weight.unsqueeze(2), layer.bias)
    return x.squeeze(2).transpose(1, 2)


def _runs_on_cpu(x):
    # oneDNN has no float64.
    return x.is_cpu and x.dtype != torch.float64 and not is_traced()
