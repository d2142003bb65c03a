"""Another pooling on the trunk of a network that may be trained already."""

from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.ResNet import ResNet
from speechbrain.lobes.models.Xvector import Xvector
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.models.pooled_encoder import (
    ECAPATrunk,
    PooledEncoder,
    ResNetTrunk,
    XvectorTrunk,
)


class RepooledEncoder(PooledEncoder):
    """The trunk of a network under another pooling.

    What follows the network's own pooling is kept, or dropped for an
    embedding layer of its own.

    Arguments
    ---------
    network : torch.nn.Module
        The host's ECAPA_TDNN, ResNet or Xvector, or a PooledEncoder. Its
        modules are taken and not copied.
    pooling : callable
        Makes the pooling: called with ``input_size``.
    embedding_size : int or None
        As for ``PooledEncoder``; of no say where layers are kept.
    project_size : int or None
        Size of a linear layer without bias between trunk and pooling; None
        for no such layer. For poolings that compute much with each frame.
    embedding_norm : bool
        As for ``PooledEncoder``; of no say where layers are kept.
    keep_embedding : bool
        Whether the network's layers after its pooling are kept, if they take
        what the pooling gives and give ``embedding_size`` values. Of sense
        for means followed by deviations, as the host's poolings give.

    Attributes
    ----------
    trunk_name : str
        Of the submodule that is the network's trunk.

    Raises
    ------
    AttnError
        The network has no trunk that is known here.

    Example
    -------
    >>> import torch
    >>> from speechbrain_attn.nnet.pooling import SelfAttentivePooling
    >>> network = ECAPA_TDNN(80, channels=[16, 16, 16, 16, 48])
    >>> repooled = RepooledEncoder(network, SelfAttentivePooling, 32)
    >>> repooled(torch.rand(2, 120, 80)).shape
    torch.Size([2, 1, 32])
    """

    def __init__(
        self,
        network,
        pooling,
        embedding_size=None,
        project_size=None,
        embedding_norm=True,
        keep_embedding=False,
    ):
        encoder, trunk_name = trunk_of(network), "encoder"
        if project_size is not None:
            encoder = ProjectedTrunk(encoder, project_size)
            trunk_name = "encoder.trunk"
        super().__init__(
            encoder,
            pooling(input_size=encoder.output_size),
            embedding_size,
            embedding_norm=embedding_norm,
        )
        self.trunk_name = trunk_name
        layers, takes, gives = embedding_of(network)
        self.keeps_embedding = (
            keep_embedding
            and takes == self.pooling.output_size
            and embedding_size in (None, gives)
        )
        if self.keeps_embedding:
            self.embedding, self.embedding_size = layers, gives

    def values_of(self, network):
        """What belongs here of another network of the same kind, by name."""
        parts = {self.trunk_name: trunk_of(network)}
        if self.keeps_embedding:
            parts["embedding"] = embedding_of(network)[0]
        return {
            f"{place}.{name}": value
            for place, part in parts.items()
            for name, value in part.state_dict().items()
        }


def trunk_of(network):
    """The modules of a network up to its pooling, as an encoder of frames.

    Raises AttnError for a network that has none of a known kind.
    """
    if isinstance(network, PooledEncoder):
        return network.encoder
    for host, trunk in (
        (ECAPA_TDNN, ECAPATrunk),
        (ResNet, ResNetTrunk),
        (Xvector, XvectorTrunk),
    ):
        if isinstance(network, host):
            return trunk.of(network)
    raise AttnError(
        f"network: {type(network).__name__} has no trunk that could take "
        "another pooling; want ECAPA_TDNN, ResNet or Xvector of SpeechBrain, "
        "or a PooledEncoder such as the lobes of this package."
    )


def embedding_of(network):
    """Layers of a network after its pooling, [batch, size] to [batch, size].

    Returns them and the sizes that they take and give; shares the modules.
    """
    if isinstance(network, PooledEncoder):
        sizes = network.pooling.output_size, network.embedding_size
        return network.embedding, *sizes
    if isinstance(network, ResNet):
        layers = network.norm_stats, network.fc_embed, network.norm_embed
        last = network.fc_embed
        return nn.Sequential(*layers), last.in_features, last.out_features
    if isinstance(network, Xvector):
        last = network.blocks[-1]
        return nn.Sequential(last), last.w.in_features, last.w.out_features
    one_frame, flat = nn.Unflatten(1, (-1, 1)), nn.Flatten()
    layers = one_frame, network.asp_bn, network.fc, flat
    last = network.fc.conv
    return nn.Sequential(*layers), last.in_channels, last.out_channels


class ProjectedTrunk(nn.Module):
    """A trunk and a linear layer that makes its frames smaller.

    Arguments
    ---------
    trunk : torch.nn.Module
        As the encoder of a ``PooledEncoder``.
    project_size : int
        Channels of the frames that come out.
    """

    def __init__(self, trunk, project_size):
        super().__init__()
        self.trunk = trunk
        self.projection = nn.Linear(trunk.output_size, project_size, bias=False)
        self.input_size = trunk.input_size
        self.output_size = project_size
        self.exact_padding = trunk.exact_padding
        self.stride = trunk.stride
        self.first_centre = trunk.first_centre
        if hasattr(trunk, "context"):  # not known of the host's
            self.context = trunk.context
        self.output_lengths = trunk.output_lengths

    def forward(self, x, lengths=None):
        """Encode [batch, frames, features] into [batch, frames', channels]."""
        return self.projection(self.trunk(x, lengths))
