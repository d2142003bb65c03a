"""Weights under the authors' names: all of them, or an error that says which.

The values that come out are checked in ``test_golden.py``.
"""

import numpy as np
import pytest
import torch
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.official import load_official
from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.heads import DoubleMHAHead, SerializedMHAHead
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.encoders import TDNNEncoder
from speechbrain_attn.nnet.pooling import (
    DoubleMultiHeadAttentionPooling,
    MultiHeadAttentionPooling,
    SelfAttentivePooling,
    SerializedAttentionPooling,
    StatisticsPooling,
)


def random_state(shapes):
    generator = np.random.default_rng(5)
    return {
        name: generator.normal(size=shape).astype("float32")
        for name, shape in shapes.items()
    }


def stack_state(num_layers, size=7, key=5, wide=11):
    """As ``SerializedMultiHeadMultiLayerAttention`` names a stack."""
    shapes = {}
    for n in range(num_layers):
        shapes |= {
            f"att.{n}.w_k.weight": (key, size),
            f"att.{n}.w_q.weight": (key, 2 * size),
            f"att.{n}.fcq.weight": (size, size, 1),
            f"att.{n}.fc.weight": (size, 2 * size, 1),
            f"att.{n}.fc.bias": (size,),
            f"att.{n}.layer_norm.weight": (size,),
            f"att.{n}.layer_norm.bias": (size,),
            f"ffw.{n}.w_1.weight": (wide, size),
            f"ffw.{n}.w_1.bias": (wide,),
            f"ffw.{n}.w_2.weight": (size, wide),
            f"ffw.{n}.w_2.bias": (size,),
            f"ffw.{n}.layer_norm.weight": (size,),
            f"ffw.{n}.layer_norm.bias": (size,),
        }
    return random_state(shapes | norm_shapes("batchnorm", size))


def norm_shapes(name, size, *affine):
    entries = (*affine, "running_mean", "running_var")
    return {f"{name}.{entry}": (size,) for entry in entries}


def serialized_state():
    """As the whole network of the serialized paper is named."""
    shapes = {
        "tdnn1.affine.weight": (13, 3, 5),
        "tdnn2.affine.weight": (13, 13, 5),
        "tdnn3.affine.weight": (13, 13, 7),
        "tdnn4.weight": (7, 13, 1),
        "tdnn7.affine.weight": (17, 7, 1),
        "tdnn7.affine.bias": (17,),
        "loss.affine.weight": (19, 17, 1),
        "loss.affine.bias": (19,),
        **{f"tdnn{n}.affine.bias": (13,) for n in (1, 2, 3)},
        **norm_shapes("tdnn1.batchnorm", 13),
        **norm_shapes("tdnn2.batchnorm", 13),
        **norm_shapes("tdnn3.batchnorm", 13),
        **norm_shapes("tdnn7.batchnorm", 17),
    }
    stack = {f"stats.{key}": value for key, value in stack_state(2).items()}
    return random_state(shapes) | stack


def double_state():
    """As the whole network of the double attention paper is named."""
    affine = ("weight", "bias")
    return random_state(
        {
            "front_end.conv11.weight": (2, 1, 3, 3),
            "front_end.conv11.bias": (2,),
            "front_end.conv12.weight": (2, 2, 3, 3),
            "front_end.conv12.bias": (2,),
            "poolingLayer.utteranceAttention.query": (2, 5),
            "poolingLayer.headsAttention.att": (2, 1),
            "fc1.weight": (7, 2),
            "fc2.weight": (7, 7),
            "preLayer.weight": (7, 7),
            "predictionLayer.W": (7, 11),
            **{f"{name}.bias": (7,) for name in ("fc1", "fc2", "preLayer")},
            **norm_shapes("b1", 7, *affine),
            **norm_shapes("b2", 7, *affine),
        }
    )


@pytest.mark.parametrize("dilation", [2, 3])
def test_a_masked_dense_kernel_becomes_a_dilated_one(dilation):
    """Equal to the masked convolution; what the mask hides has no say."""
    state = random_state(
        {"affine.weight": (7, 5, 2 * dilation + 1), "affine.bias": (7,)}
    )
    # A batch norm that does nothing: its own eps is 1e-5.
    state["batchnorm.running_mean"] = np.zeros(7)
    state["batchnorm.running_var"] = np.full(7, 1 - 1e-5)
    kernel = torch.from_numpy(state["affine.weight"])
    x = torch.randn(2, 17, 5)
    masked = torch.zeros_like(kernel)
    masked[:, :, ::dilation] = kernel[:, :, ::dilation]
    expected = nn.functional.conv1d(
        x.transpose(1, 2),
        masked,
        torch.from_numpy(state["affine.bias"]),
        padding=dilation,
    )
    encoder = TDNNEncoder(5, [7], [3], [dilation], bn_affine=False).eval()
    for hidden in (1.0, 1e6):
        kernel[:, :, 1:dilation] = hidden
        assert load_official(encoder, state) == []
        torch.testing.assert_close(
            encoder(x), expected.relu().transpose(1, 2), atol=1e-5, rtol=1e-5
        )


def test_a_kernel_of_another_context_is_refused():
    """Three taps side by side would fit a dilated kernel in size only."""
    state = random_state({"affine.weight": (7, 5, 3), "affine.bias": (7,)})
    encoder = TDNNEncoder(5, [7], [3], [3], bn_affine=False)
    with pytest.raises(AttnError, match=r"affine.weight has shape \(7, 5, 3\)"):
        load_official(encoder, state)


def test_a_pruned_stack_leaves_what_it_need_not_compute():
    state = stack_state(3)
    x = torch.randn(2, 13, 7)
    found, unused = [], []
    for prune_last in (False, True):
        pool = SerializedAttentionPooling(7, 3, 5, 11, prune_last=prune_last)
        unused.append(load_official(pool.eval(), state))
        found.append(pool(x))
    torch.testing.assert_close(*found)
    behind = ["batchnorm.running_mean", "batchnorm.running_var"]
    assert unused[0] == behind
    last = [key for key in state if key.startswith("ffw.2.")]
    assert unused[1] == ["att.2.fcq.weight", *last, *behind]


def test_one_state_dict_serves_lobe_and_head():
    lobe = SerializedMHA(
        3, [13] * 3, embedding_size=7, num_layers=2, key_size=5, ffn_size=11
    )
    head = SerializedMHAHead(7, 19, segment_size=17)
    state = serialized_state()
    left = set(load_official(lobe, state)) & set(load_official(head, state))
    last = {key for key in state if key.startswith("stats.ffw.1.")}
    assert left == {"stats.att.1.fcq.weight"} | last

    lobe = DoubleMHA(10, (2,), 5, scale="heads", embedding_size=7)
    head = DoubleMHAHead(7, 11)
    state = double_state()
    left = set(load_official(lobe, state)) & set(load_official(head, state))
    assert left == {key for key in state if key.startswith("b1.")}
    assert torch.equal(
        head.cosines.weight.T, torch.from_numpy(state["predictionLayer.W"])
    )


def test_tensors_and_read_only_arrays_in_the_precision_of_the_module():
    values = np.random.default_rng(5).normal(size=(3, 2))
    values.flags.writeable = False
    for value in (values, torch.tensor(values)):
        for dtype in (torch.float64, torch.float32):
            pool = MultiHeadAttentionPooling(6, 2).to(dtype)
            assert load_official(pool, {"query": value}) == []
            assert pool.query.dtype == dtype
            assert torch.equal(pool.query, torch.tensor(values).to(dtype))


def test_a_pooling_without_parameters_uses_nothing():
    assert load_official(StatisticsPooling(3), {"att": np.ones(3)}) == ["att"]


# fmt: off
BAD = [  # id, what builds the module, authors' shapes, what the message says
    ("missing", lambda: DoubleMultiHeadAttentionPooling(6, 2),
     {"utteranceAttention.query": (3, 2), "headAttention.att": (3, 1)},
     r"head_query \(want headsAttention.att or .*; nearest: headAttention.att"),
    ("empty", lambda: MultiHeadAttentionPooling(6, 2), {},
     r"nothing to fill\s+query .*nearest: none"),
    ("other_heads", lambda: MultiHeadAttentionPooling(6, 2), {"query": (2, 3)},
     r"query has shape \(2, 3\), which does not fit query, \(3, 2\)"),
    ("row_for_column", lambda: MultiHeadAttentionPooling(4, 4), {"att": (4, 1)},
     r"att has shape \(4, 1\), which does not fit query, \(1, 4\)"),
    ("other_width", lambda: SelfAttentivePooling(6, 5, bias=False),
     {"W1": (6, 4), "W2": (5, 1)},
     r"W1 has shape \(6, 4\), which does not fit scorer.0.weight, \(5, 6\)"),
    ("vector", lambda: SelfAttentivePooling(6, 5, bias=False),
     {"W1": (6,), "W2": (5, 1)}, r"W1 has shape \(6,\), which does not fit"),
    ("no_program", lambda: SelfAttentiveTDNN(channels=(2,) * 4), {},
     "SelfAttentiveTDNN: the authors' names are not known"),
    ("other_order", lambda: DoubleMHA(10, (2,), 5, norm_order="bn_relu"), {},
     r"embedding.3.weight \(which the authors' program does not have\)"),
]
# fmt: on


@pytest.mark.parametrize(
    "build, shapes, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_what_does_not_fit_is_refused(build, shapes, says):
    module = build()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(AttnError, match=says):
        load_official(module, random_state(shapes))
    after = module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
