"""Serialized multi-layer multi-head attention on a TDNN (arXiv:2107.06493)."""

from speechbrain_attn.lobes.models.pooled_encoder import PooledEncoder
from speechbrain_attn.nnet.encoders import TDNNEncoder
from speechbrain_attn.nnet.pooling import SerializedAttentionPooling


class SerializedMHA(PooledEncoder):
    """TDNN trunk, a stack of serialized attention layers, sum of their heads.

    The embedding is that sum, before the ReLU, batch norm and segment layer
    of the paper's classifier (``heads.SerializedMHAHead``), as in the authors'
    program. Batch norm of the trunk has no affine part and momentum 0.5, as
    there.

    Arguments
    ---------
    input_size : int
        Features per frame; 23 MFCC and 3 pitch features in the paper.
    channels, kernel_sizes, dilations : sequence of int
        One entry for each layer of the TDNN.
    embedding_size : int
        Size of the attention layers' frames and of the embedding (d).
    num_layers : int
        Attention layers, one head each (N).
    key_size : int
        Size of queries and keys (d_k).
    ffn_size : int
        Width of the feed-forward modules (d_ff).
    dropout : float
        On each module's output before it is added.
    norm_position, prune_last
        As for ``SerializedAttentionPooling``.
    bn_affine : bool
        Whether batch norm of the trunk has weights and biases.
    bn_momentum : float
        Momentum of its running statistics.
    embedding_norm : bool
        Whether batch norm comes last, for a classifier on cosines; the
        paper's begins with one of its own.

    Example
    -------
    >>> import torch
    >>> network = SerializedMHA(channels=(64, 64, 64), num_layers=2)
    >>> network(torch.rand(8, 120, 26), torch.ones(8)).shape
    torch.Size([8, 1, 256])
    """

    def __init__(
        self,
        input_size=26,
        channels=(512, 512, 512),
        kernel_sizes=(5, 3, 3),
        dilations=(1, 2, 3),
        embedding_size=256,
        num_layers=6,
        key_size=128,
        ffn_size=512,
        dropout=0.1,
        norm_position="input",
        prune_last=True,
        bn_affine=False,
        bn_momentum=0.5,
        embedding_norm=False,
    ):
        encoder = TDNNEncoder(
            input_size,
            channels,
            kernel_sizes,
            dilations,
            bn_affine,
            bn_momentum,
            project_size=embedding_size,
        )
        pooling = SerializedAttentionPooling(
            embedding_size,
            num_layers,
            key_size,
            ffn_size,
            dropout,
            norm_position,
            prune_last,
        )
        super().__init__(encoder, pooling, embedding_norm=embedding_norm)
