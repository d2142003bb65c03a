"""Double multi-head attention on a VGG front end (arXiv:2007.13199)."""

from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.models.pooled_encoder import PooledEncoder
from speechbrain_attn.nnet.encoders import VGGEncoder
from speechbrain_attn.nnet.pooling import (
    DoubleMultiHeadAttentionPooling,
    MultiHeadAttentionPooling,
)


class DoubleMHA(PooledEncoder):
    """VGG front end, (double) multi-head attention, two layers.

    The embedding is what the second layer gives, as in the paper; the third
    belongs to the classifier (``heads.DoubleMHAHead``).

    Arguments
    ---------
    input_size : int
        Features per frame.
    channels : sequence of int
        Channels of each block of the front end.
    num_heads : int
        Heads (the paper's K), a divisor of the front end's output size.
    pooling : str
        ``"double"``, ``"multi_head"`` or ``"attention"`` (one head): the
        three systems of the paper's table 2.
    scale : str
        As for ``MultiHeadAttentionPooling``.
    head_drop : float
        As for ``DoubleMultiHeadAttentionPooling``, which alone has it.
    embedding_size : int
        Size of both layers.
    norm_order : str
        ``"relu_bn"``: ReLU after the first layer, ReLU then batch norm after
        the second, as in the authors' program. ``"bn_relu"``: batch norm then
        ReLU after both, as in the paper's text.
    batch_norm : bool
        Whether the front end has batch norm; the paper's has none.

    Raises
    ------
    AttnError
        An unknown ``pooling`` or ``norm_order``; heads that do not divide.

    Example
    -------
    >>> import torch
    >>> network = DoubleMHA(channels=(4, 8, 16, 32), num_heads=8)
    >>> network(torch.rand(8, 120, 80), torch.ones(8)).shape
    torch.Size([8, 1, 400])
    """

    def __init__(
        self,
        input_size=80,
        channels=(128, 256, 512, 1024),
        num_heads=32,
        pooling="double",
        scale="head_dim",
        head_drop=0.0,
        embedding_size=400,
        norm_order="relu_bn",
        batch_norm=False,
    ):
        encoder = VGGEncoder(input_size, channels, batch_norm)
        size = encoder.output_size
        if pooling == "double":
            pool = DoubleMultiHeadAttentionPooling(
                size, num_heads, scale, head_drop
            )
        elif pooling == "multi_head":
            pool = MultiHeadAttentionPooling(size, num_heads, scale)
        elif pooling == "attention":
            pool = MultiHeadAttentionPooling(size, 1, scale)
        else:
            raise AttnError(
                f"pooling={pooling!r}; want 'double', 'multi_head' or "
                "'attention'."
            )
        super().__init__(encoder, pool)
        self.embedding_size = embedding_size
        # Batch norm cancels a bias before it, which would not learn.
        bias = norm_order != "bn_relu"
        first = nn.Linear(pool.output_size, embedding_size, bias)
        second = nn.Linear(embedding_size, embedding_size, bias)
        norm = nn.BatchNorm1d(embedding_size)
        if norm_order == "relu_bn":
            layers = [first, nn.ReLU(), second, nn.ReLU(), norm]
        elif norm_order == "bn_relu":
            first_norm = nn.BatchNorm1d(embedding_size)
            layers = [first, first_norm, nn.ReLU(), second, norm, nn.ReLU()]
        else:
            raise AttnError(
                f"norm_order={norm_order!r}; want 'relu_bn' or 'bn_relu'."
            )
        self.embedding = nn.Sequential(*layers)
