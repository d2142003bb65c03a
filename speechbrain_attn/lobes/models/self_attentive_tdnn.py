"""Self-attentive shallow TDNN (arXiv:2008.06146).

Only the paper's abstract could be read. Layers and sizes are our reading of it:
a shallow TDNN, self-attentive pooling as in Zhu et al. (Interspeech 2018), and
a little under half the parameters of the GE2E LSTM.
"""

from torch import nn

from speechbrain_attn.lobes.models.pooled_encoder import PooledEncoder
from speechbrain_attn.nnet.encoders import TDNNEncoder
from speechbrain_attn.nnet.pooling import SelfAttentivePooling


class SelfAttentiveTDNN(PooledEncoder):
    """Shallow TDNN, self-attentive pooling, one linear layer, unit length.

    No ReLU stands before the unit length: it would confine all cosines to
    [0, 1].

    Arguments
    ---------
    input_size : int
        Features per frame.
    channels, kernel_sizes, dilations : sequence of int
        One entry for each layer of the TDNN.
    attention_size : int
        Width of the scorer.
    num_hops : int
        Attention distributions.
    with_std : bool
        Whether deviations are pooled beside the means.
    embedding_size : int
        Size of the embedding.

    Example
    -------
    >>> import torch
    >>> network = SelfAttentiveTDNN(channels=(64, 64, 64, 64))
    >>> network(torch.rand(8, 120, 40), torch.ones(8)).shape
    torch.Size([8, 1, 256])
    """

    def __init__(
        self,
        input_size=40,
        channels=(512, 512, 512, 512),
        kernel_sizes=(5, 3, 3, 1),
        dilations=(1, 2, 3, 1),
        attention_size=128,
        num_hops=1,
        with_std=True,
        embedding_size=256,
    ):
        encoder = TDNNEncoder(input_size, channels, kernel_sizes, dilations)
        pooling = SelfAttentivePooling(
            encoder.output_size, attention_size, num_hops, with_std
        )
        super().__init__(encoder, pooling, embedding_size)

    def forward(self, x, lengths=None):
        """Embed features [batch, frames, features]: [batch, 1, embedding_size].

        As ``PooledEncoder.forward``; each embedding has unit length.
        """
        embedding = super().forward(x, lengths)
        return nn.functional.normalize(embedding, dim=2)
