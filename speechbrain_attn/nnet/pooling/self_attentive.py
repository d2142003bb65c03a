"""Pooling under attention from a two-layer scorer.

Self-attentive (Zhu et al., Interspeech 2018; structured form and penalty of
Lin et al., 2017, arXiv:1703.03130) and attentive statistics pooling (Okabe et
al., 2018, arXiv:1803.10963).
"""

import torch
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import masked_softmax, present_frames
from speechbrain_attn.nnet.moments import weighted_mean, weighted_moments
from speechbrain_attn.nnet.pointwise import per_frame
from speechbrain_attn.nnet.pooling.registry import register_pooling
from speechbrain_attn.nnet.streaming import InPasses


@register_pooling("self_attentive")
class SelfAttentivePooling(InPasses):
    """Mean, and standard deviation if wanted, under one or more hops.

    A = softmax over frames of g(H W1) W2, one column a hop. The papers' H is
    ``x``, d_a ``attention_size``, r ``num_hops``, g ``activation``.

    Arguments
    ---------
    input_size : int
        Channels per frame.
    attention_size : int
        Width of the scorer.
    num_hops : int
        Attention distributions, each giving its own mean (and deviation).
    with_std : bool
        Whether deviations follow the means.
    activation : type
        Nonlinearity of the scorer.
    bias : bool
        Whether the scorer's first layer has one. Its last has none: softmax
        cancels it, so it would never learn.
    eps : float
        Floor on the variance, in squared feature units.

    Raises
    ------
    AttnError
        ``num_hops`` below 1.

    Example
    -------
    >>> pool = SelfAttentivePooling(input_size=64, num_hops=5)
    >>> pool(torch.rand(8, 120, 64), torch.ones(8)).shape
    torch.Size([8, 640])
    """

    head_name = "hop"  # what pictures call a head

    def __init__(
        self,
        input_size,
        attention_size=128,
        num_hops=1,
        with_std=True,
        activation=nn.ReLU,
        bias=True,
        eps=1e-10,
    ):
        super().__init__()
        if num_hops < 1:
            raise AttnError(f"num_hops={num_hops}; want 1 or more.")
        self.input_size = input_size
        self.output_size = input_size * num_hops * (2 if with_std else 1)
        self.num_hops = num_hops
        self.with_std = with_std
        self.eps = eps
        self.scorer = nn.Sequential(
            nn.Linear(input_size, attention_size, bias=bias),
            activation(),
            nn.Linear(attention_size, num_hops, bias=False),
        )

    def attention(self, x, lengths=None, weights=None):
        """Weight of each frame, [batch, hops, frames]; sums to one."""
        x, presence = present_frames(x, lengths, weights, self.input_size)
        return self._attention(x, presence)

    def _attention(self, x, presence):
        return masked_softmax(self._scores(x), presence)

    def _scores(self, x):
        wide, activation, narrow = self.scorer
        return narrow(activation(per_frame(wide, x))).transpose(1, 2)

    def forward(self, x, lengths=None, weights=None):
        """Pool [batch, frames, channels] into [batch, output_size].

        The means of all hops come first, then their deviations. Arguments as
        for every pooling (``masking.present_frames``); raises AttnError on
        shapes or values that do not fit.
        """
        x, presence = present_frames(x, lengths, weights, self.input_size)
        attention = self._attention(x, presence)
        if not self.with_std:
            return weighted_mean(x, attention).flatten(1)
        mean, std = weighted_moments(x, attention, self.eps)
        return torch.cat([mean, std], dim=1).flatten(1)

    def update(self, state, number, x):
        """Add a block of frames (``streaming.InPasses``)."""
        state[0].update(x, self._scores(x))

    def finish(self, state):
        """Pooled blocks, [batch, output_size]."""
        if not self.with_std:
            return state[0].mean().flatten(1)
        return torch.cat(state[0].moments(self.eps), dim=1).flatten(1)

    @staticmethod
    def penalty(attention):
        """How much hops repeat each other: mean of ||A^T A - I||_F^2.

        ``attention`` [batch, hops, frames] gives a scalar; add it to the loss
        with a small factor (Lin et al., 2017, eq. 8).
        """
        gram = torch.bmm(attention, attention.transpose(1, 2))
        identity = torch.eye(gram.shape[1], device=gram.device)
        return (gram - identity).square().sum(dim=(1, 2)).mean()


@register_pooling("attentive_statistics")
class AttentiveStatisticsPooling(SelfAttentivePooling):
    """Mean and standard deviation under one attention (Okabe et al., 2018).

    The paper's h_t is ``x[:, t]``, its f ``activation``, its alpha_t the
    attention; its scalar k is left out, since softmax cancels it. ECAPA's
    module of the same name is ``ChannelAttentiveStatisticsPooling``.

    Arguments
    ---------
    input_size : int
        Channels per frame.
    attention_size : int
        Width of the scorer.
    activation : type
        The scorer's nonlinearity; the paper leaves it open.
    bias : bool
        Whether the scorer's first layer has one.
    eps : float
        Floor on the variance, in squared feature units.

    Example
    -------
    >>> pool = AttentiveStatisticsPooling(input_size=64)
    >>> pool(torch.rand(8, 120, 64), torch.ones(8)).shape
    torch.Size([8, 128])
    """

    def __init__(
        self,
        input_size,
        attention_size=128,
        activation=nn.Tanh,
        bias=True,
        eps=1e-10,
    ):
        super().__init__(
            input_size,
            attention_size,
            activation=activation,
            bias=bias,
            eps=eps,
        )
