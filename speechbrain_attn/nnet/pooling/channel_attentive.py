"""Channel-dependent attentive statistics (ECAPA-TDNN, arXiv:2005.07143)."""

import torch
from torch import nn

from speechbrain_attn.nnet.masking import (
    masked_softmax,
    present_frames,
    uniform_attention,
)
from speechbrain_attn.nnet.moments import floored_std, weighted_moments
from speechbrain_attn.nnet.pointwise import per_frame
from speechbrain_attn.nnet.pooling.registry import register_pooling
from speechbrain_attn.nnet.streaming import InPasses


@register_pooling("channel_attentive_statistics")
class ChannelAttentiveStatisticsPooling(InPasses):
    """Mean and deviation under an attention of its own for each channel.

    The scorer sees each frame together with the mean and deviation of the
    whole utterance (global context; section 3.1 of the paper). For comparison
    with the host's ECAPA; its layer order (ReLU, batch norm, tanh) is kept.

    Arguments
    ---------
    input_size : int
        Channels per frame.
    attention_size : int
        Width of the scorer.
    global_context : bool
        Whether the scorer sees the utterance's mean and deviation.
    eps : float
        Floor on the variance, in squared feature units.

    Example
    -------
    >>> pool = ChannelAttentiveStatisticsPooling(input_size=64)
    >>> pool(torch.rand(8, 120, 64), torch.ones(8)).shape
    torch.Size([8, 128])
    """

    head_name = "channel"  # what pictures call a head

    def __init__(
        self, input_size, attention_size=128, global_context=True, eps=1e-12
    ):
        super().__init__()
        self.input_size = input_size
        self.output_size = 2 * input_size
        self.eps = eps
        self.frame_layer = nn.Linear(input_size, attention_size)
        self.context_layer = None
        if global_context:
            self.num_passes = 2  # the first is for the context
            self.context_layer = nn.Linear(
                2 * input_size, attention_size, bias=False
            )
        self.norm = nn.BatchNorm1d(attention_size)
        # No bias: softmax cancels it, so it would never learn.
        self.score_layer = nn.Linear(attention_size, input_size, bias=False)

    def attention(self, x, lengths=None, weights=None):
        """Weight of each frame, [batch, heads = channels, frames]."""
        x, presence = present_frames(x, lengths, weights, self.input_size)
        return self._attention(x, presence)

    def _attention(self, x, presence):
        moments = None
        if self.context_layer is not None:
            moments = weighted_moments(
                x, uniform_attention(x, presence), self.eps
            )
        return masked_softmax(self._scores(x, moments), presence)

    def _scores(self, x, moments):
        hidden = per_frame(self.frame_layer, x)
        if moments is not None:
            # A sum of two products, where concatenating the context to every
            # frame would make three times the frames.
            hidden = hidden + self.context_layer(torch.cat(moments, dim=2))
        hidden = self.norm(torch.relu(hidden).transpose(1, 2)).transpose(1, 2)
        return per_frame(self.score_layer, torch.tanh(hidden)).transpose(1, 2)

    def forward(self, x, lengths=None, weights=None):
        """Pool [batch, frames, channels] into [batch, 2 * channels].

        Arguments as for every pooling (``masking.present_frames``); raises
        AttnError on shapes or values that do not fit.
        """
        x, presence = present_frames(x, lengths, weights, self.input_size)
        attention = self._attention(x, presence).transpose(1, 2)
        x = x.to(attention.dtype)
        mean = (attention * x).sum(dim=1, keepdim=True)
        variance = (attention * (x - mean).square()).sum(dim=1)
        std = floored_std(variance, self.eps)
        return torch.cat([mean.squeeze(1), std], dim=1)

    def update(self, state, number, x):
        """Add a block of frames (``streaming.InPasses``)."""
        if number < self.num_passes - 1:
            state[number].update(x)
            return
        moments = state[0].moments(self.eps) if number else None
        scores = self._scores(x, moments).flatten(0, 1).unsqueeze(1)
        # Channels as if they were utterances: each has an attention of its own.
        channels = x.transpose(1, 2).flatten(0, 1).unsqueeze(2)
        state[number].update(channels, scores)

    def finish(self, state):
        """Pooled blocks, [batch, 2 * channels]."""
        moments = [
            moment.reshape(-1, self.input_size)
            for moment in state[-1].moments(self.eps)
        ]
        return torch.cat(moments, dim=1)
