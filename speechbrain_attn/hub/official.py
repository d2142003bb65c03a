"""Weights under the parameter names of the papers' authors.

India et al.: ``miquelindia90/DoubleAttentionSpeakerVerification``; Zhu et al.:
``clockw/Serialized-Attention-for-Speaker-Verification``. For poolings without
a program, the names are the symbols of the papers' equations.
"""

import difflib

import numpy as np
import torch
from speechbrain.lobes.models.ECAPA_TDNN import Classifier

from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.heads import DoubleMHAHead, SerializedMHAHead
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.encoders import TDNNEncoder, VGGEncoder
from speechbrain_attn.nnet.pooling import (
    DoubleMultiHeadAttentionPooling,
    MultiHeadAttentionPooling,
    SelfAttentivePooling,
    SerializedAttentionPooling,
    StatisticsPooling,
)
from speechbrain_attn.nnet.pooling.serialized import (
    FeedForward,
    SerialAttention,
)


def load_official(module, state_dict):
    """Fill a module from a state dict of the authors' program.

    Shapes are converted where only the layout differs: convolutions of width 1
    are linear layers here, and a dense kernel with a mask, as the serialized
    paper's trunk stores contexts like (-2, 0, 2), is a dilated one. What the
    dense kernel holds between the taps is not looked at. One state dict of a
    whole network serves both the lobe and its head; each takes its part.

    The names say nothing of how layers are put together: build ``DoubleMHA``
    with ``scale="heads"`` and ``norm_order="relu_bn"``, as the program has it.

    Arguments
    ---------
    module : torch.nn.Module
        A pooling, an encoder, a module of the serialized stack, ``DoubleMHA``,
        ``SerializedMHA`` or one of their heads. Changed in place; values take
        its precision.
    state_dict : dict
        The authors' names to tensors or numpy arrays.

    Returns
    -------
    list of str
        Names in ``state_dict`` that were not used: biases which the softmax
        cancels, layers that the authors' program never calls, the frames of a
        pruned last layer, counts of batches, or another module's part.

    Raises
    ------
    AttnError
        No authors' names are known for the module; a parameter that nothing in
        ``state_dict`` fills; a shape that does not fit. Nothing is changed.

    Example
    -------
    >>> pool = MultiHeadAttentionPooling(6, num_heads=2, scale="heads")
    >>> load_official(pool, {"query": np.ones((3, 2)), "b1.bias": np.ones(4)})
    ['b1.bias']
    """
    rows = _rows(module)
    used, missing = {}, []
    for name, parameter in module.state_dict().items():
        # Only counts when batch norm has no momentum, which ours always has.
        if name.endswith("num_batches_tracked"):
            continue
        wanted = _official_names(name, rows)
        found = [row for row in wanted if row[0] in state_dict]
        if not found:
            missing.append(_missing(name, wanted, state_dict))
            continue
        official, convert = found[0]
        value = _fit(convert, state_dict[official], parameter.shape)
        if value is None:
            raise AttnError(
                f"{type(module).__name__}: {official} has shape "
                f"{tuple(np.shape(state_dict[official]))}, which does not fit "
                f"{name}, {tuple(parameter.shape)}. Build the module with the "
                "sizes of the weights."
            )
        used[official] = parameter, value
    if missing:
        raise AttnError(
            f"{type(module).__name__}: nothing to fill\n  "
            + "\n  ".join(missing)
        )
    with torch.no_grad():
        for parameter, value in used.values():
            parameter.copy_(value)
    return [name for name in state_dict if name not in used]


def _official_names(name, rows):
    """What may fill ``name``: [(official name, conversion), ...]."""
    found = []
    for ours, official, convert in rows:
        if name == ours or name.startswith(ours + "."):
            found.append((official + name[len(ours) :], convert))
    return found


def _fit(convert, value, shape):
    """Converted value in the module's shape; None if it does not fit."""
    if not isinstance(value, torch.Tensor):
        value = torch.from_numpy(np.array(value))
    value = convert(value)
    if value is None or value.shape == shape:
        return value
    # A vector for a matrix of one row or column, or a convolution of width 1
    # for a linear layer; never a row for a column.
    long_axes = [[n for n in sizes if n > 1] for sizes in (value.shape, shape)]
    if value.dim() == len(shape) or long_axes[0] != long_axes[1]:
        return None
    return value.reshape(shape)


def _missing(name, wanted, state_dict):
    """The parameter, what it is called officially, and what is most like it."""
    if not wanted:
        return f"{name} (which the authors' program does not have)"
    official = " or ".join(row[0] for row in wanted)
    near = difflib.get_close_matches(wanted[0][0], state_dict, n=3, cutoff=0.0)
    return f"{name} (want {official}; nearest: {', '.join(near) or 'none'})"


# Conversions of values, from theirs to ours.


def _same(value):
    return value


def _transposed(value):
    return value.flatten(1).T if value.dim() > 1 else value


def _taps_of(conv):
    """Conversion of a dense, masked kernel to that of a dilated layer."""
    dilation, size = conv.dilation[0], conv.kernel_size[0]

    def taps(kernel):
        dense = (
            kernel.dim() == 3 and kernel.shape[2] == dilation * (size - 1) + 1
        )
        return kernel[:, :, ::dilation] if dense else None

    return taps


# The table: rows (our layer or parameter, theirs, conversion). A layer stands
# for all its parameters; several rows for one name are alternatives.


def _same_rows(**names):
    return [(ours, theirs, _same) for ours, theirs in names.items()]


def _part(ours, theirs, rows):
    """Rows of a part, under its prefix here and there."""
    return [(f"{ours}.{a}", f"{theirs}.{b}", convert) for a, b, convert in rows]


MULTI_HEAD = [
    ("query", "query", _same),
    ("query", "multiHeadLayer.query", _same),  # with deviations
    ("query", "att", _same),  # one head
    ("query", "attention.last_affine.weight", _transposed),  # Zhu's baseline
]
DOUBLE_MULTI_HEAD = [
    ("query", "utteranceAttention.query", _same),
    ("query", "utteranceAttention.multiHeadLayer.query", _same),
    ("query", "query", _same),
    ("head_query", "headsAttention.att", _same),
    ("head_query", "head_query", _same),
]
SELF_ATTENTIVE = [
    ("scorer.0.weight", "W1", _transposed),
    ("scorer.0.bias", "b1", _same),
    ("scorer.2.weight", "W2", _transposed),
    ("scorer.0.weight", "W", _same),
    ("scorer.0.bias", "b", _same),
    ("scorer.2.weight", "v", _same),
    ("scorer.0", "attention.first_affine", _same),
    ("scorer.2", "attention.last_affine", _same),
]
SERIAL_ATTENTION = _same_rows(
    query="w_q", key="w_k", residual="fcq", head="fc", norm="layer_norm"
)
FEED_FORWARD = _same_rows(wide="w_1", narrow="w_2", norm="layer_norm")
CLASSIFIER = [("weight", "W", _transposed)]
DOUBLE_MHA_HEAD = [
    ("layer", "preLayer", _same),
    *_part("cosines", "predictionLayer", CLASSIFIER),
]
SERIALIZED_MHA_HEAD = [
    ("segment.1", "stats.batchnorm", _same),
    ("segment.2", "tdnn7.affine", _same),
    ("segment.4", "tdnn7.batchnorm", _same),
    ("speakers", "loss.affine", _same),
]


def _serialized(pooling):
    rows = []
    for layer in range(len(pooling.heads)):
        rows += _part(f"heads.{layer}", f"att.{layer}", SERIAL_ATTENTION)
        rows += _part(f"feed_forwards.{layer}", f"ffw.{layer}", FEED_FORWARD)
    return rows


def _vgg(encoder):
    return [
        (f"convs.{layer}", f"conv{layer // 2 + 1}{layer % 2 + 1}", _same)
        for layer in range(len(encoder.convs))
    ]


def _tdnn(encoder):
    rows = []
    for layer, conv in enumerate(encoder.convs):
        # One layer may also come alone, without its number.
        prefixes = [f"tdnn{layer + 1}."] + [""] * (len(encoder.convs) == 1)
        for prefix in prefixes:
            rows += [
                (
                    f"convs.{layer}.weight",
                    f"{prefix}affine.weight",
                    _taps_of(conv),
                ),
                (f"convs.{layer}.bias", f"{prefix}affine.bias", _same),
                (f"norms.{layer}", f"{prefix}batchnorm", _same),
            ]
    last = f"tdnn{len(encoder.convs) + 1}"
    return [*rows, ("projection", last, _same)]


def _double_mha(network):
    return [
        *_part("encoder", "front_end", _rows(network.encoder)),
        *_part("pooling", "poolingLayer", _rows(network.pooling)),
        # As norm_order="relu_bn" numbers them, the order of the program.
        ("embedding.0", "fc1", _same),
        ("embedding.2", "fc2", _same),
        ("embedding.4", "b2", _same),
    ]


def _serialized_mha(network):
    return [
        *((f"encoder.{a}", b, how) for a, b, how in _rows(network.encoder)),
        *_part("pooling", "stats", _rows(network.pooling)),
    ]


# Classes before those that they inherit from.
TABLE = {
    StatisticsPooling: [],
    DoubleMultiHeadAttentionPooling: DOUBLE_MULTI_HEAD,
    MultiHeadAttentionPooling: MULTI_HEAD,
    SelfAttentivePooling: SELF_ATTENTIVE,
    SerialAttention: SERIAL_ATTENTION,
    FeedForward: FEED_FORWARD,
    SerializedAttentionPooling: _serialized,
    VGGEncoder: _vgg,
    TDNNEncoder: _tdnn,
    Classifier: CLASSIFIER,
    DoubleMHA: _double_mha,
    DoubleMHAHead: DOUBLE_MHA_HEAD,
    SerializedMHA: _serialized_mha,
    SerializedMHAHead: SERIALIZED_MHA_HEAD,
}


def _rows(module):
    for cls, rows in TABLE.items():
        if isinstance(module, cls):
            return rows(module) if callable(rows) else rows
    raise AttnError(
        f"{type(module).__name__}: the authors' names are not known for this "
        f"class, but for {', '.join(cls.__name__ for cls in TABLE)}."
    )
