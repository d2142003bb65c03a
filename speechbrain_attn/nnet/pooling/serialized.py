"""Serialized multi-layer multi-head attention (arXiv:2107.06493, section 3).

The paper's d is ``input_size``, d_k ``key_size``, d_ff ``ffn_size``, N
``num_layers``. Each layer has one attention head; "multi-head" are the heads of
all layers, whose sum is the utterance's vector.
"""

import torch
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import (
    full_precision,
    masked_softmax,
    present_frames,
    sum_dtype,
    uniform_attention,
)
from speechbrain_attn.nnet.moments import weighted_moments
from speechbrain_attn.nnet.pointwise import is_plain, per_frame, relu_of
from speechbrain_attn.nnet.pooling.registry import register_pooling
from speechbrain_attn.nnet.streaming import InPasses

LAYER_NORM_EPS = 1e-6  # the authors' program


class SerialAttention(nn.Module):
    """Attention module of one layer: a head, and new frames for the next.

    Arguments
    ---------
    input_size, key_size, dropout, norm_position, eps
        As for ``SerializedAttentionPooling``.
    makes_frames : bool
        Whether frames are computed; the last layer's go nowhere.
    """

    def __init__(
        self,
        input_size,
        key_size=128,
        dropout=0.1,
        norm_position="input",
        eps=1e-10,
        makes_frames=True,
    ):
        super().__init__()
        self.norm_position = norm_position
        self.eps = eps
        self.key_size = key_size
        self.query = nn.Linear(2 * input_size, key_size, bias=False)
        self.key = nn.Linear(input_size, key_size, bias=False)
        self.head = nn.Linear(2 * input_size, input_size)
        self.residual = None
        if makes_frames:
            self.residual = nn.Linear(input_size, input_size, bias=False)
        # On the output side the norm is part of what makes the frames.
        self.norm = None
        if makes_frames or norm_position == "input":
            self.norm = nn.LayerNorm(input_size, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def attention(self, x, presence):
        """Weight of each frame, [batch, 1, frames], and the values."""
        values = self.values(x)
        uniform = uniform_attention(values, presence)
        moments = weighted_moments(values, uniform, self.eps)
        return masked_softmax(self.scores(values, moments), presence), values

    def values(self, x):
        """What of the frames is weighted, [batch, frames, channels].

        At least float32, once for all sums over them.
        """
        values = self.norm(x) if self.norm_position == "input" else x
        return values.to(sum_dtype(values))

    def scores(self, values, moments):
        """Score of each frame [batch, 1, frames], before the softmax.

        ``moments`` are mean and deviation of all values, [batch, 1, channels].
        """
        keys = values
        if not is_plain(self.key):
            keys = self.key(values).to(values.dtype)
        with full_precision(values):
            query = self.query(torch.cat(moments, dim=2).squeeze(1))
            query = query * self.key_size**-0.5
            if is_plain(self.key):
                # q . (W_k h) = (W_k^T q) . h: one product with each frame,
                # where making the keys would cost key_size of them.
                query = query @ self.key.weight
            return torch.bmm(query.unsqueeze(1), keys.transpose(1, 2))

    def forward(self, x, presence=None):
        """Head [batch, channels] and frames [batch, frames, channels].

        ``presence`` [batch, frames] in [0, 1]; None: all frames are there.
        """
        attention, values = self.attention(x, presence)
        moments = weighted_moments(values, attention, self.eps)
        return self.vector(moments), self.new_frames(x, moments[0])

    def vector(self, moments):
        """Head [batch, channels] of the moments under the attention."""
        moments = torch.cat(moments, dim=2)
        with full_precision(moments):
            return self.head(moments).squeeze(1)

    def new_frames(self, x, mean):
        """Frames with the mean under the attention [batch, 1, channels]."""
        if self.residual is None:
            return x
        with full_precision(mean):
            update = self.residual(mean)
        if self.norm_position == "output":
            update = self.norm(update)
        return x + self.dropout(update.to(x.dtype))


class FeedForward(nn.Module):
    """Position-wise network with its residual, on [batch, frames, channels].

    Arguments as for ``SerializedAttentionPooling``.
    """

    def __init__(
        self, input_size, ffn_size=512, dropout=0.1, norm_position="input"
    ):
        super().__init__()
        self.norm_position = norm_position
        self.wide = nn.Linear(input_size, ffn_size)
        self.narrow = nn.Linear(ffn_size, input_size)
        self.norm = nn.LayerNorm(input_size, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        """Same shape as ``x``."""
        if self.norm_position == "input":
            return x + self.dropout(self._network(self.norm(x)))
        return x + self.dropout(self.norm(self._network(x)))

    def _network(self, x):
        hidden = relu_of(per_frame(self.wide, x), self.wide)
        return per_frame(self.narrow, hidden)


@register_pooling("serialized")
class SerializedAttentionPooling(InPasses):
    """Sum of the heads of a stack of attention layers.

    A layer's query comes from the mean and deviation of its frames; its head
    from those under its attention. The output is the sum of the heads, before
    the ReLU and batch norm of the paper's classifier.

    Arguments
    ---------
    input_size : int
        Channels per frame, and the size of the output.
    num_layers : int
        Layers, each with one head.
    key_size : int
        Size of queries and keys.
    ffn_size : int
        Width of the feed-forward modules.
    dropout : float
        On each module's output before it is added.
    norm_position : str
        ``"input"``: x + Module(LayerNorm(x)), as the authors' program.
        ``"output"``: x + LayerNorm(Module(x)), as the paper's formula prints.
    prune_last : bool
        Leave out what the last layer would compute in vain (its frames), so
        that every parameter has a gradient.
    eps : float
        Floor on the variance, in squared feature units.

    Raises
    ------
    AttnError
        ``num_layers`` below 1; unknown ``norm_position``.

    Example
    -------
    >>> pool = SerializedAttentionPooling(input_size=64, num_layers=3)
    >>> pool(torch.rand(8, 120, 64), torch.ones(8)).shape
    torch.Size([8, 64])
    """

    head_name = "layer"  # what pictures call a head

    def __init__(
        self,
        input_size,
        num_layers=6,
        key_size=128,
        ffn_size=512,
        dropout=0.1,
        norm_position="input",
        prune_last=True,
        eps=1e-10,
    ):
        super().__init__()
        if num_layers < 1:
            raise AttnError(f"num_layers={num_layers}; want 1 or more.")
        if norm_position not in ("input", "output"):
            raise AttnError(
                f"norm_position={norm_position!r}; want 'input' or 'output'."
            )
        self.input_size = input_size
        self.output_size = input_size
        num_frame_makers = num_layers - 1 if prune_last else num_layers
        self.heads = nn.ModuleList(
            SerialAttention(
                input_size,
                key_size,
                dropout,
                norm_position,
                eps,
                makes_frames=layer < num_frame_makers,
            )
            for layer in range(num_layers)
        )
        self.feed_forwards = nn.ModuleList(
            FeedForward(input_size, ffn_size, dropout, norm_position)
            for _ in range(num_frame_makers)
        )

    def attention(self, x, lengths=None, weights=None):
        """Weight of each frame, [batch, layers, frames]; sums to one."""
        x, presence = present_frames(x, lengths, weights, self.input_size)
        inputs = self._layers(x, presence)
        return torch.cat(
            [
                head.attention(frames, presence)[0]
                for head, (_, frames) in zip(self.heads, inputs, strict=True)
            ],
            dim=1,
        )

    def _layers(self, x, presence):
        """Yield each layer's head and the frames that went into it."""
        for layer, attention in enumerate(self.heads):
            head, frames = attention(x, presence)
            yield head, x
            if layer < len(self.feed_forwards):
                x = self.feed_forwards[layer](frames)

    def forward(self, x, lengths=None, weights=None):
        """Pool [batch, frames, channels] into [batch, channels].

        Arguments as for every pooling (``masking.present_frames``); raises
        AttnError on shapes or values that do not fit.
        """
        x, presence = present_frames(x, lengths, weights, self.input_size)
        return sum(head for head, _ in self._layers(x, presence))

    @property
    def num_passes(self):
        """Two a layer: its query needs all frames, as its attention does."""
        return 2 * len(self.heads)

    def update(self, state, number, x):
        """Add a block of frames (``streaming.InPasses``)."""
        layer, attending = divmod(number, 2)
        values = self.heads[layer].values(x)
        scores = None
        if attending:
            moments = state[number - 1].moments(self.heads[layer].eps)
            scores = self.heads[layer].scores(values, moments)
        state[number].update(values, scores)

    def advance(self, state, number, x):
        """After the second pass of a layer, the frames of the next one."""
        layer, attending = divmod(number, 2)
        if not attending or layer >= len(self.feed_forwards):
            return x
        mean = state[number].mean()
        return self.feed_forwards[layer](self.heads[layer].new_frames(x, mean))

    def finish(self, state):
        """Pooled blocks, [batch, channels]."""
        return sum(
            head.vector(moments.moments(head.eps))
            for head, moments in zip(self.heads, state[1::2], strict=True)
        )
