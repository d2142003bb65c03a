"""Bad input and bad arguments are refused with what is wrong and how to fix.

One good batch; each row breaks one thing.
"""

import pytest
import torch
from subjects import (
    CHANNELS,
    LOBE_SUBJECTS,
    POOLED_SUBJECTS,
    POOLING_SUBJECTS,
    ids,
)
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.pooled_encoder import PooledEncoder
from speechbrain_attn.nnet.encoders import TDNNEncoder
from speechbrain_attn.nnet.pooling import (
    POOLINGS,
    DoubleMultiHeadAttentionPooling,
    MultiHeadAttentionPooling,
    SelfAttentivePooling,
    SerializedAttentionPooling,
    StatisticsPooling,
    register_pooling,
)

FRAMES = 19
LOBES = LOBE_SUBJECTS + POOLED_SUBJECTS
ONES = torch.ones(3)
NAN = float("nan")


def good(subject):
    """The good batch: prime sizes, so that no axis can pose as another."""
    return torch.rand(3, FRAMES, subject.input_size)


# fmt: off
SHAPES = [  # id, x of the good batch, lengths, what the message must say
    ("no_batch_axis", lambda x: x[0], ONES,
     r"x: want \[batch, frames, channels\], got \(19, \d+\)\. Add the batch axis: x\.unsqueeze\(0\)"),  # noqa: E501
    ("four_axes", lambda x: x[None], ONES,
     r"x: want \[batch, frames, channels\], got \(1, 3, 19, \d+\)\.$"),
    ("channels_first", lambda x: x.mT, ONES,
     r"19 channels.*built for \d+\..*transpose\(1, 2\)"),
    ("other_channels", lambda x: x[:, :, 1:], ONES,
     r"\d+ channels.*built for \d+\.$"),
    ("no_frames", lambda x: x[:, :0], ONES, r"no frames; drop empty"),
    ("lengths_too_few", lambda x: x, ONES[:2],
     r"lengths: shape \(2,\) for a batch of 3"),
    ("lengths_two_axes", lambda x: x, ONES[:, None],
     r"lengths: shape \(3, 1\) for a batch of 3"),
    ("lengths_zero", lambda x: x, torch.tensor([1.0, 0.0, 1.0]),
     r"utterance 1 has 0; want .*\(0, 1\]"),
    ("lengths_negative", lambda x: x, torch.tensor([1.0, 1.0, -0.5]),
     r"utterance 2 has -0\.5; want .*\(0, 1\]"),
    ("lengths_nan", lambda x: x, torch.tensor([NAN, 1.0, 1.0]),
     r"utterance 0 has nan; want .*\(0, 1\]"),
]
LENGTHS = [  # which poolings refuse, and lobes take as 1
    ("lengths_in_frames", torch.tensor([19.0, 7.0, 11.0]),
     r"utterance 0 has 19; .*divide by 19"),
    ("lengths_above_one", torch.tensor([1.0, 1.01, 1.0]),
     r"utterance 1 has 1\.01; want .*\(0, 1\]"),
]
WEIGHTS = [  # id, what is done to good weights, what the message must say
    ("too_few_frames", lambda w: w[:, 1:],
     r"weights: shape \(3, 18\) for frames \(3, 19\)"),
    ("heads_axis", lambda w: w[:, None],
     r"weights: shape \(3, 1, 19\) for frames \(3, 19\)"),
    ("above_one", lambda w: w.index_fill(1, torch.tensor([7]), 1.5),
     r"utterance 0 has 1\.5 at frame 7; want values in \[0, 1\]"),
    ("negative", lambda w: w.index_fill(1, torch.tensor([5]), -0.5),
     r"utterance 0 has -0\.5 at frame 5; want values in \[0, 1\]"),
    ("nan", lambda w: w.index_fill(1, torch.tensor([3]), NAN),
     r"utterance 0 has nan at frame 3; want values in \[0, 1\]"),
]
ARGUMENTS = [  # id, what is built, what the message must say
    ("heads_do_not_divide", lambda: MultiHeadAttentionPooling(192, 5),
     r"num_heads=5 does not divide input_size=192; nearest that do: 4, 6\."),
    ("more_heads_than_channels", lambda: MultiHeadAttentionPooling(7, 8),
     r"num_heads=8 does not divide input_size=7; nearest that do: 7\."),
    ("no_heads", lambda: MultiHeadAttentionPooling(15, 0),
     r"num_heads=0 does not divide input_size=15; nearest that do: 1\."),
    ("double_heads", lambda: DoubleMultiHeadAttentionPooling(15, 4),
     r"num_heads=4 does not divide input_size=15; nearest that do: 3, 5\."),
    ("scale", lambda: MultiHeadAttentionPooling(15, 3, scale="head"),
     r"scale='head'; want one of \['head_dim', 'heads', 'none'\]"),
    ("head_drop_one", lambda: DoubleMultiHeadAttentionPooling(15, 3, head_drop=1.0),  # noqa: E501
     r"head_drop=1\.0; want a value in \[0, 1\)"),
    ("head_drop_negative", lambda: DoubleMultiHeadAttentionPooling(15, 3, head_drop=-0.1),  # noqa: E501
     r"head_drop=-0\.1; want a value in \[0, 1\)"),
    ("head_drop_nan", lambda: DoubleMultiHeadAttentionPooling(15, 3, head_drop=NAN),  # noqa: E501
     r"head_drop=nan; want a value in \[0, 1\)"),
    ("no_hops", lambda: SelfAttentivePooling(7, num_hops=0),
     r"num_hops=0; want 1 or more"),
    ("no_layers", lambda: SerializedAttentionPooling(7, num_layers=0),
     r"num_layers=0; want 1 or more"),
    ("norm_position", lambda: SerializedAttentionPooling(7, norm_position="pre"),  # noqa: E501
     r"norm_position='pre'; want 'input' or 'output'"),
    ("tdnn_entries", lambda: TDNNEncoder(7, (11, 13), (5,), (1, 2)),
     r"have 2, 1 and 2 entries; want one a layer"),
    ("tdnn_no_layers", lambda: TDNNEncoder(7, (), (), ()),
     r"have 0, 0 and 0 entries; want one a layer"),
    ("tdnn_even_kernel", lambda: TDNNEncoder(7, (11, 13), (5, 4), (1, 2)),
     r"kernel_sizes: 4 is even; want odd sizes"),
    ("double_mha_pooling", lambda: DoubleMHA(7, (5, 6), 3, pooling="triple"),
     r"pooling='triple'; want 'double', 'multi_head' or 'attention'"),
    ("double_mha_order", lambda: DoubleMHA(7, (5, 6), 3, norm_order="bn"),
     r"norm_order='bn'; want 'relu_bn' or 'bn_relu'"),
    ("double_mha_heads", lambda: DoubleMHA(7, (5, 6), 5),
     r"num_heads=5 does not divide input_size=12; nearest that do: 4, 6\."),
    ("pooling_size", lambda: PooledEncoder(TDNNEncoder(7, (11,), (3,), (1,)), StatisticsPooling(13)),  # noqa: E501
     r"built for 13 channels, but the encoder gives 11\. Set its input_size"),
    ("name_taken", lambda: register_pooling("statistics")(nn.Identity),
     r"'statistics' is registered by StatisticsPooling; choose another name for Identity"),  # noqa: E501
]
# fmt: on


def rows(table):
    """The table for ``pytest.mark.parametrize``, first column as id."""
    return [pytest.param(*row[1:], id=row[0]) for row in table]


def every(subjects):
    """Parametrised over subjects."""
    return pytest.mark.parametrize("subject", subjects, ids=ids(subjects))


@every(POOLING_SUBJECTS + LOBES)
@pytest.mark.parametrize("broken, lengths, says", rows(SHAPES))
def test_what_does_not_fit_is_refused(subject, broken, lengths, says):
    with pytest.raises(AttnError, match=says):
        subject.make()(broken(good(subject)), lengths)


@every(POOLING_SUBJECTS)
@pytest.mark.parametrize("lengths, says", rows(LENGTHS))
def test_lengths_above_one_are_refused_by_poolings(subject, lengths, says):
    module = subject.make()
    with pytest.raises(AttnError, match=says):
        module(good(subject), lengths)
    with pytest.raises(AttnError, match=says):
        module.attention(good(subject), lengths)


@every(POOLING_SUBJECTS)
@pytest.mark.parametrize("broken, says", rows(WEIGHTS))
def test_bad_weights_are_refused(subject, broken, says):
    with pytest.raises(AttnError, match=says):
        subject.make()(good(subject), ONES, broken(torch.ones(3, FRAMES)))


@every(POOLING_SUBJECTS)
def test_the_good_batch_is_accepted(subject):
    """Control: a gate that refuses everything would pass the tables above."""
    module = subject.make()
    weights = torch.ones(3, FRAMES)
    shape = 3, module.output_size
    assert module(good(subject), ONES, weights).shape == shape
    assert module(good(subject), ONES / FRAMES, 0 * weights).shape == shape


@every(LOBES)
def test_lobes_accept_the_good_batch(subject):
    module = subject.make()
    shape = 3, 1, module.embedding_size
    assert module(good(subject), ONES).shape == shape
    for _, lengths, _ in LENGTHS:
        assert module(good(subject), lengths).shape == shape


@pytest.mark.parametrize("build, says", rows(ARGUMENTS))
def test_bad_arguments_are_refused(build, says):
    known = dict(POOLINGS)
    with pytest.raises(AttnError, match=says):
        build()
    assert known == POOLINGS


def test_good_arguments_are_accepted():
    """Control for the table above: its good neighbours."""
    built = [
        MultiHeadAttentionPooling(192, 6, scale="heads"),
        DoubleMultiHeadAttentionPooling(192, 6, head_drop=0.0),
        SelfAttentivePooling(7, num_hops=1),
        SerializedAttentionPooling(7, num_layers=1, norm_position="output"),
        PooledEncoder(TDNNEncoder(7, (11,), (3,), (1,)), StatisticsPooling(11)),
        DoubleMHA(7, (5, 6), 3, pooling="attention", norm_order="bn_relu"),
    ]
    sizes = [one.output_size for one in built[:4]]
    assert sizes == [192, 32, 14, 7]
    assert [one.embedding_size for one in built[4:]] == [22, 400]


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_a_typo_in_an_argument_is_refused(name):
    with pytest.raises(TypeError, match="unexpected keyword argument 'hedas'"):
        POOLINGS[name](CHANNELS, hedas=3)
