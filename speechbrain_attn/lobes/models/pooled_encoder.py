"""A frame encoder, a pooling and embedding layers, freely combined."""

import math

import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.ResNet import ResNet
from speechbrain.lobes.models.Xvector import Xvector
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import (
    check_input,
    full_precision,
    sum_dtype,
)


class PooledEncoder(nn.Module):
    """Speaker embedding network: encoder, pooling, embedding layers.

    Arguments
    ---------
    encoder : torch.nn.Module
        Features to frames: one of ``nnet.encoders``, ``ECAPATrunk``,
        ``ResNetTrunk`` or ``XvectorTrunk``.
    pooling : torch.nn.Module
        Frames to one vector: one of ``nnet.pooling``.
    embedding_size : int or None
        Size of a last linear layer; None returns what is pooled.
    hidden_sizes : sequence of int
        Layers (affine, ReLU, batch norm) before the last one.
    embedding_norm : bool
        Whether batch norm comes last. It keeps what all utterances share from
        filling the embeddings, which a loss on cosines wants from the start.

    Raises
    ------
    AttnError
        The pooling was built for another size than the encoder gives.

    Example
    -------
    >>> from speechbrain_attn.nnet.encoders import TDNNEncoder
    >>> from speechbrain_attn.nnet.pooling import SerializedAttentionPooling
    >>> network = PooledEncoder(
    ...     TDNNEncoder(80, (64, 64), (5, 3), (1, 2)),
    ...     SerializedAttentionPooling(64, num_layers=2),
    ...     embedding_size=32,
    ... )
    >>> network(torch.rand(8, 120, 80), torch.ones(8)).shape
    torch.Size([8, 1, 32])
    """

    def __init__(
        self,
        encoder,
        pooling,
        embedding_size=None,
        hidden_sizes=(),
        embedding_norm=False,
    ):
        super().__init__()
        if pooling.input_size != encoder.output_size:
            raise AttnError(
                f"pooling: built for {pooling.input_size} channels, but the "
                f"encoder gives {encoder.output_size}. Set its input_size."
            )
        self.input_size = encoder.input_size
        self.encoder = encoder
        self.pooling = pooling
        layers = []
        size = pooling.output_size
        for hidden_size in hidden_sizes:
            layers += [
                nn.Linear(size, hidden_size),
                nn.ReLU(),
                nn.BatchNorm1d(hidden_size),
            ]
            size = hidden_size
        if embedding_size is not None:
            # Batch norm cancels a bias before it, which would not learn.
            layers.append(nn.Linear(size, embedding_size, not embedding_norm))
            size = embedding_size
        if embedding_norm:
            layers.append(nn.BatchNorm1d(size))
        self.embedding = nn.Sequential(*layers)
        self.embedding_size = size

    @property
    def exact_padding(self):
        """Whether a padded batch gives what its utterances give alone."""
        return self.encoder.exact_padding

    def encode(self, x, lengths=None):
        """Frames [batch, frames', channels] and their relative lengths.

        Lengths above 1 count as 1: one of the host's scripts passes samples.
        """
        if lengths is not None:
            lengths = lengths.clamp(max=1.0)
        check_input(x, lengths, self.input_size)
        frames = self.encoder(x, lengths)
        return frames, self.encoder.output_lengths(lengths, x.shape[1])

    def attention(self, x, lengths=None):
        """The pooling's weight of each frame, [batch, heads, frames']."""
        return self.pooling.attention(*self.encode(x, lengths))

    def forward(self, x, lengths=None, with_penalty=False):
        """Embed features [batch, frames, features]: [batch, 1, embedding_size].

        ``lengths`` [batch] are parts of the padded length in (0, 1]; None
        means no padding. With ``with_penalty`` the pooling's penalty follows,
        a scalar for the loss (``SelfAttentivePooling.penalty``). Raises
        AttnError on what does not fit.
        """
        frames, lengths = self.encode(x, lengths)
        pooled = self.pooling(frames, lengths)
        # Of an utterance there is one vector: bfloat16 would gain no time in
        # these layers, and cost most of what it costs in all.
        with full_precision(pooled):
            embeddings = self.embedding(pooled.to(sum_dtype(pooled)))
        embeddings = embeddings.unsqueeze(1)
        if not with_penalty:
            return embeddings
        if not hasattr(self.pooling, "penalty"):
            raise AttnError(
                f"{type(self.pooling).__name__} has no penalty to add to the "
                "loss; leave out penalty_factor."
            )
        attention = self.pooling.attention(frames, lengths)
        return embeddings, self.pooling.penalty(attention)


class _HostTrunk(nn.Module):
    """Frames of a network of the host, before its own pooling.

    The host's convolutions see the padding, so a padded batch does not give
    exactly what its utterances give alone.
    """

    exact_padding = False
    stride, first_centre = 1, 0

    @classmethod
    def of(cls, network):
        """The trunk of a host's network, whose modules it shares."""
        trunk = cls.__new__(cls)
        nn.Module.__init__(trunk)
        trunk._take(network)
        return trunk

    def output_lengths(self, lengths, frames):
        """Relative lengths of what comes out; the same as goes in."""
        return lengths


class ECAPATrunk(_HostTrunk):
    """Frames of the host's ECAPA_TDNN; its convolutions mirror the edges.

    Arguments
    ---------
    input_size : int
        Features per frame.
    **options
        Of the host's ECAPA_TDNN: channels, kernel_sizes, dilations, groups,
        res2net_scale, se_channels, ...

    Example
    -------
    >>> trunk = ECAPATrunk(80, channels=[16, 16, 16, 16, 48])
    >>> trunk(torch.rand(2, 120, 80)).shape
    torch.Size([2, 120, 48])
    """

    def __init__(self, input_size, **options):
        super().__init__()
        self._take(ECAPA_TDNN(input_size, lin_neurons=1, **options))

    def _take(self, network):
        self.blocks = network.blocks
        self.mfa = network.mfa
        self.input_size = network.blocks[0].conv.conv.in_channels
        self.output_size = network.mfa.conv.conv.out_channels

    def forward(self, x, lengths=None):
        """Encode [batch, frames, features] into [batch, frames, channels]."""
        x = x.transpose(1, 2)
        x = self.blocks[0](x)
        outputs = []
        for block in self.blocks[1:]:
            x = block(x, lengths=lengths)
            outputs.append(x)
        return self.mfa(torch.cat(outputs, dim=1)).transpose(1, 2)


class ResNetTrunk(_HostTrunk):
    """Frames of the host's ResNet; padding has a large influence on them.

    Arguments
    ---------
    input_size : int
        Features per frame; ``of`` takes it for a multiple of the stride.
    **options
        Of the host's ResNet: channels, block_sizes, strides.

    Example
    -------
    >>> trunk = ResNetTrunk(80, channels=[8, 8, 16, 16])
    >>> trunk(torch.rand(2, 120, 80)).shape
    torch.Size([2, 15, 160])
    """

    def __init__(self, input_size, **options):
        super().__init__()
        self._take(ResNet(input_size, **options))
        self.input_size = input_size

    def _take(self, network):
        self.front = nn.Sequential(
            network.conv1, network.bn1, network.activation1
        )
        self.layers = nn.Sequential(
            network.layer1, network.layer2, network.layer3, network.layer4
        )
        self.output_size = network.norm_stats.num_features // 2
        # Strided convolutions start on the first frame.
        self.stride = math.prod(layer[0].stride for layer in self.layers)
        channels = self.layers[-1][-1].bn2.num_features
        # The host does not keep it.
        self.input_size = self.output_size // channels * self.stride

    def forward(self, x, lengths=None):
        """Encode [batch, frames, features] into [batch, frames', channels]."""
        x = self.layers(self.front(x.unsqueeze(1)))
        return x.transpose(1, 2).flatten(2)


class XvectorTrunk(_HostTrunk):
    """Frames of the host's Xvector; its convolutions mirror the edges.

    Arguments
    ---------
    input_size : int
        Features per frame.
    **options
        Of the host's Xvector: tdnn_channels, tdnn_kernel_sizes, ...

    Example
    -------
    >>> trunk = XvectorTrunk(80, tdnn_channels=[16, 16, 16, 16, 48])
    >>> trunk(torch.rand(2, 120, 80)).shape
    torch.Size([2, 120, 48])
    """

    def __init__(self, input_size, **options):
        super().__init__()
        self._take(Xvector(in_channels=input_size, **options))

    def _take(self, network):
        *blocks, _, _ = network.blocks  # statistics and a linear layer
        self.blocks = nn.Sequential(*blocks)
        self.input_size = blocks[0].conv.in_channels
        self.output_size = network.blocks[-1].w.in_features // 2

    def forward(self, x, lengths=None):
        """Encode [batch, frames, features] into [batch, frames, channels]."""
        return self.blocks(x)
