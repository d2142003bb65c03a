"""Statistics pooling (Snyder et al., 2018, X-vectors)."""

import torch

from speechbrain_attn.nnet.masking import present_frames, uniform_attention
from speechbrain_attn.nnet.moments import weighted_moments
from speechbrain_attn.nnet.pooling.registry import register_pooling
from speechbrain_attn.nnet.streaming import InPasses


@register_pooling("statistics")
class StatisticsPooling(InPasses):
    """Mean and population standard deviation over frames.

    Unlike the host's module of this name, no noise is added: the same input
    gives the same output.

    Arguments
    ---------
    input_size : int
        Channels per frame.
    eps : float
        Floor on the variance, in squared feature units.

    Example
    -------
    >>> pool = StatisticsPooling(input_size=64)
    >>> pool(torch.rand(8, 120, 64), torch.ones(8)).shape
    torch.Size([8, 128])
    """

    def __init__(self, input_size, eps=1e-10):
        super().__init__()
        self.input_size = input_size
        self.output_size = 2 * input_size
        self.eps = eps

    def attention(self, x, lengths=None, weights=None):
        """Weight of each frame, [batch, heads = 1, frames]; sums to one."""
        x, presence = present_frames(x, lengths, weights, self.input_size)
        return uniform_attention(x, presence)

    def forward(self, x, lengths=None, weights=None):
        """Pool [batch, frames, channels] into [batch, 2 * channels].

        Arguments as for every pooling (``masking.present_frames``); raises
        AttnError on shapes or values that do not fit.
        """
        x, presence = present_frames(x, lengths, weights, self.input_size)
        attention = uniform_attention(x, presence)
        return torch.cat(weighted_moments(x, attention, self.eps), 2).flatten(1)

    def update(self, state, number, x):
        """Add a block of frames (``streaming.InPasses``)."""
        state[0].update(x)

    def finish(self, state):
        """Pooled blocks, [batch, 2 * channels]."""
        return torch.cat(state[0].moments(self.eps), dim=2).flatten(1)
