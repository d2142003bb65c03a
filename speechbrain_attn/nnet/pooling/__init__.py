"""Poolings: frames of an utterance to one vector.

Each is a Module with ``input_size`` and ``output_size``;
``forward(x, lengths=None, weights=None)`` takes [batch, frames, channels] to
[batch, output_size], and ``attention(x, lengths=None, weights=None)`` gives
the very weights that it uses, [batch, heads, frames]. How it pools frames that
come in blocks it says as an ``InPasses`` (``nnet.streaming``).
"""

from speechbrain_attn.nnet.pooling.channel_attentive import (
    ChannelAttentiveStatisticsPooling,
)
from speechbrain_attn.nnet.pooling.multi_head import (
    DoubleMultiHeadAttentionPooling,
    MultiHeadAttentionPooling,
)
from speechbrain_attn.nnet.pooling.registry import POOLINGS, register_pooling
from speechbrain_attn.nnet.pooling.self_attentive import (
    AttentiveStatisticsPooling,
    SelfAttentivePooling,
)
from speechbrain_attn.nnet.pooling.serialized import SerializedAttentionPooling
from speechbrain_attn.nnet.pooling.statistics import StatisticsPooling

__all__ = [
    "POOLINGS",
    "AttentiveStatisticsPooling",
    "ChannelAttentiveStatisticsPooling",
    "DoubleMultiHeadAttentionPooling",
    "MultiHeadAttentionPooling",
    "SelfAttentivePooling",
    "SerializedAttentionPooling",
    "StatisticsPooling",
    "register_pooling",
]
