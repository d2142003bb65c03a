"""Self-attentive shallow TDNN (arXiv:2008.06146).

Only the paper's abstract could be read. Layers and sizes are our reading of it:
a shallow TDNN, self-attentive pooling as in Zhu et al. (Interspeech 2018), and
a little under half the parameters of the GE2E LSTM.
"""

from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.models.pooled_encoder import PooledEncoder
from speechbrain_attn.nnet.encoders import TDNNEncoder
from speechbrain_attn.nnet.pooling import SelfAttentivePooling

PRESETS = {
    # Ours; 15 frames of context.
    "shallow": {
        "channels": (512, 512, 512, 512),
        "kernel_sizes": (5, 3, 3, 1),
        "dilations": (1, 2, 3, 1),
        "embedding_size": 256,
    },
    # Snyder et al., 2018, the trunk of Zhu et al.
    "xvector": {
        "channels": (512, 512, 512, 512, 1500),
        "kernel_sizes": (5, 3, 3, 1, 1),
        "dilations": (1, 2, 3, 1, 1),
        "embedding_size": 512,
    },
}


class SelfAttentiveTDNN(PooledEncoder):
    """Shallow TDNN, self-attentive pooling, one linear layer, unit length.

    No ReLU stands before the unit length: it would confine all cosines to
    [0, 1].

    Arguments
    ---------
    input_size : int
        Features per frame.
    preset : str
        "shallow" or "xvector": what holds for the sizes that are None.
    channels, kernel_sizes, dilations : sequence of int or None
        One entry for each layer of the TDNN.
    attention_size : int
        Width of the scorer.
    num_hops : int
        Attention distributions. With more than one, ``with_penalty`` of
        ``forward`` gives what keeps them from repeating each other.
    with_std : bool
        Whether deviations are pooled beside the means.
    embedding_size : int or None
        Size of the embedding.

    Raises
    ------
    AttnError
        An unknown preset, or sequences of different lengths.

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
        preset="shallow",
        channels=None,
        kernel_sizes=None,
        dilations=None,
        attention_size=128,
        num_hops=1,
        with_std=True,
        embedding_size=None,
    ):
        if preset not in PRESETS:
            raise AttnError(f"preset={preset!r}; want one of {list(PRESETS)}.")
        sizes = PRESETS[preset]
        encoder = TDNNEncoder(
            input_size,
            channels or sizes["channels"],
            kernel_sizes or sizes["kernel_sizes"],
            dilations or sizes["dilations"],
        )
        pooling = SelfAttentivePooling(
            encoder.output_size, attention_size, num_hops, with_std
        )
        super().__init__(
            encoder, pooling, embedding_size or sizes["embedding_size"]
        )

        self.embedding.append(_UnitLength())


class _UnitLength(nn.Module):
    """Brings vectors [..., size] to length one."""

    def forward(self, x):
        """Unit vectors of ``x``."""
        return nn.functional.normalize(x, dim=-1)
