"""Multi-head and double multi-head attention pooling.

India, Safari, Hernando: arXiv:1906.09890 (multi-head) and arXiv:2007.13199
(double), section 2.
"""

import torch
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import (
    full_precision,
    masked_softmax,
    present_frames,
)
from speechbrain_attn.nnet.moments import floored_std, weighted_mean
from speechbrain_attn.nnet.pooling.registry import register_pooling
from speechbrain_attn.nnet.streaming import InPasses


@register_pooling("multi_head")
class MultiHeadAttentionPooling(InPasses):
    """Each head attends to its own slice of the channels.

    The paper's K is ``num_heads``, D ``input_size``, h_tj slice j of frame t,
    u_j ``query[:, j]``, w_tj the attention; the heads' means are concatenated.

    Arguments
    ---------
    input_size : int
        Channels per frame.
    num_heads : int
        Slices; must divide ``input_size``. One head is plain attention.
    scale : str
        What divides the scores: ``"head_dim"`` the root of a slice's size
        (the paper), ``"heads"`` the root of ``num_heads`` (what the authors'
        program computes), ``"none"``.
    with_std : bool
        Whether each head's deviation follows its mean.
    eps : float
        Floor on the variance, in squared feature units.

    Raises
    ------
    AttnError
        ``num_heads`` does not divide ``input_size``; unknown ``scale``.

    Example
    -------
    >>> pool = MultiHeadAttentionPooling(input_size=64, num_heads=8)
    >>> pool(torch.rand(8, 120, 64), torch.ones(8)).shape
    torch.Size([8, 64])
    """

    def __init__(
        self, input_size, num_heads, scale="head_dim", with_std=False, eps=1e-5
    ):
        super().__init__()
        if num_heads < 1 or input_size % num_heads:
            raise AttnError(
                f"num_heads={num_heads} does not divide input_size="
                f"{input_size}; nearest that do: "
                f"{_nearest_divisors(input_size, num_heads)}."
            )
        head_size = input_size // num_heads
        divisors = {"head_dim": head_size, "heads": num_heads, "none": 1}
        if scale not in divisors:
            raise AttnError(f"scale={scale!r}; want one of {list(divisors)}.")
        self.input_size = input_size
        self.output_size = input_size * (2 if with_std else 1)
        self.num_heads = num_heads
        self.scale = divisors[scale] ** -0.5
        self.with_std = with_std
        self.eps = eps
        self.query = nn.Parameter(torch.empty(head_size, num_heads))
        nn.init.xavier_normal_(self.query)

    def attention(self, x, lengths=None, weights=None):
        """Weight of each frame, [batch, heads, frames]; sums to one."""
        x, presence = present_frames(x, lengths, weights, self.input_size)
        return masked_softmax(self._scores(x), presence)

    def _scores(self, x):
        # One product for all heads, with zeros for what is not theirs: to
        # take the heads one by one, every frame would first have to be moved.
        query = torch.diag_embed(self.query * self.scale)
        query = query.permute(1, 2, 0).flatten(1)
        return nn.functional.linear(x, query).transpose(1, 2)

    def _own_means(self, x, attention):
        """Of each head's slice, [batch, heads, head_size]."""
        # Of all slices, of which one is kept, for the same reason.
        means = weighted_mean(x, attention).unflatten(2, (self.num_heads, -1))
        return means.diagonal(dim1=1, dim2=2).transpose(1, 2)

    def contexts(self, x, lengths=None, weights=None):
        """Vector of each head, [batch, heads, size of a head's output]."""
        x, presence = present_frames(x, lengths, weights, self.input_size)
        attention = masked_softmax(self._scores(x), presence)
        x = x.to(attention.dtype)
        mean = self._own_means(x, attention)
        if not self.with_std:
            return mean
        # Detached as in ``moments.weighted_moments``.
        centred = x - mean.detach().flatten(1).unsqueeze(1)
        variance = self._own_means(centred.square(), attention)
        return torch.cat([mean, floored_std(variance, self.eps)], dim=2)

    def forward(self, x, lengths=None, weights=None):
        """Pool [batch, frames, channels] into [batch, output_size].

        With deviations the order is mean and deviation of head 0, of head 1,
        and so on. Arguments as for every pooling (``masking.present_frames``);
        raises AttnError on shapes or values that do not fit.
        """
        return self._joined(self.contexts(x, lengths, weights))

    def _joined(self, contexts):
        return contexts.flatten(1)

    def update(self, state, number, x):
        """Add a block of frames (``streaming.InPasses``)."""
        scores = self._scores(x).flatten(0, 1).unsqueeze(1)
        slices = x.unflatten(2, (self.num_heads, -1))
        # Heads as if they were utterances: each has channels of its own.
        state[0].update(slices.transpose(1, 2).flatten(0, 1), scores)

    def finish(self, state):
        """Pooled blocks, [batch, output_size]."""
        contexts, std = state[0].moments(self.eps)
        if self.with_std:
            contexts = torch.cat([contexts, std], dim=2)
        contexts = contexts.squeeze(1).unflatten(0, (-1, self.num_heads))
        return self._joined(contexts)


@register_pooling("double_multi_head")
class DoubleMultiHeadAttentionPooling(MultiHeadAttentionPooling):
    """Multi-head pooling, then attention over the heads.

    The paper's u' is ``head_query``, shared by all heads, its w'_j the head
    attention, which has no scale (arXiv:2007.13199, section 2.3).

    Arguments
    ---------
    input_size, num_heads, scale, with_std, eps
        As for ``MultiHeadAttentionPooling``.
    head_drop : float
        Probability in [0, 1) that a head is left out of the head attention in
        training. Not in the paper; the authors' program has 1/3, and can
        leave out all heads of an utterance at once, which is NaN. Here the
        head with the luckiest draw always stays.

    Raises
    ------
    AttnError
        As ``MultiHeadAttentionPooling``; ``head_drop`` outside [0, 1).

    Example
    -------
    >>> pool = DoubleMultiHeadAttentionPooling(input_size=64, num_heads=8)
    >>> pool(torch.rand(8, 120, 64), torch.ones(8)).shape
    torch.Size([8, 8])
    """

    def __init__(
        self,
        input_size,
        num_heads,
        scale="head_dim",
        head_drop=0.0,
        with_std=False,
        eps=1e-5,
    ):
        super().__init__(input_size, num_heads, scale, with_std, eps)
        if not 0 <= head_drop < 1:
            raise AttnError(f"head_drop={head_drop}; want a value in [0, 1).")
        self.head_drop = head_drop
        self.output_size //= num_heads
        self.head_query = nn.Parameter(torch.empty(self.output_size, 1))
        nn.init.xavier_normal_(self.head_query)

    def head_attention(self, x, lengths=None, weights=None):
        """Weight of each head, [batch, heads]; sums to one."""
        return self._head_attention(self.contexts(x, lengths, weights))

    def _head_attention(self, contexts):
        with full_precision(contexts):
            scores = (contexts @ self.head_query).squeeze(2)
        if self.training and self.head_drop > 0:
            draws = torch.rand_like(scores)
            luckiest = draws.amax(dim=1, keepdim=True)
            dropped = (draws < self.head_drop) & (draws < luckiest)
            scores = scores.masked_fill(dropped, float("-inf"))
        return torch.softmax(scores, dim=1)

    def forward(self, x, lengths=None, weights=None):
        """Pool [batch, frames, channels] into [batch, output_size].

        Arguments as for every pooling (``masking.present_frames``); raises
        AttnError on shapes or values that do not fit.
        """
        return self._joined(self.contexts(x, lengths, weights))

    def _joined(self, contexts):
        head_attention = self._head_attention(contexts).unsqueeze(1)
        return weighted_mean(contexts, head_attention).squeeze(1)


def _nearest_divisors(size, wanted):
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    below = [n for n in divisors if n <= wanted][-1:]
    above = [n for n in divisors if n > wanted][:1]
    return ", ".join(str(n) for n in below + above)
