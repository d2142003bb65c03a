"""The module that each golden file tests, built from the file's arguments."""

from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from torch import nn

from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.encoders import TDNNEncoder, VGGEncoder
from speechbrain_attn.nnet.pooling import (
    AttentiveStatisticsPooling,
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

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


# Poolings


def attention(golden, **options):
    size = golden.args["embedding_size"]
    return MultiHeadAttentionPooling(size, 1, scale="none", **options)


def multi_head(golden, cls=MultiHeadAttentionPooling, **options):
    args = golden.args
    scale = args.get("scale_by", "heads")  # what the authors' program does
    return cls(args["encoder_size"], args["heads_number"], scale, **options)


def double(golden, **options):
    return multi_head(golden, DoubleMultiHeadAttentionPooling, **options)


def statistics(golden, eps=1e-10):
    return StatisticsPooling(golden.x.shape[2], eps=eps)


# The older program had deviations as well, and floored variances at 1e-5.


def old_statistics(golden):
    return statistics(golden, eps=1e-5)


def old_attention(golden):
    return attention(golden, with_std=True, eps=1e-5)


def old_multi_head(golden):
    return multi_head(golden, with_std=True, eps=1e-5)


def old_double(golden):
    return double(golden, with_std=True, eps=1e-5)


# The serialized paper's baselines


def zhu_multi_head(golden):
    return MultiHeadAttentionPooling(
        golden.args["input_dim"],
        golden.args["num_head"],
        scale="none",
        with_std=True,
        eps=1e-10,
    )


def zhu_attentive(golden):
    args = golden.args
    return AttentiveStatisticsPooling(
        args["input_dim"], args["hidden_size"], nn.ReLU
    )


# From equations


def attentive_statistics(golden):
    return AttentiveStatisticsPooling(
        golden.args["d"],
        golden.args["d_a"],
        ACTIVATIONS[golden.args["activation"]],
        eps=golden.meta["variance_floor"],
    )


def self_attentive(golden):
    args = golden.args
    return SelfAttentivePooling(
        args["d"],
        args["d_a"],
        args["hops"],
        with_std=args["statistics"] == "meanstd",
        activation=ACTIVATIONS[args["activation"]],
        bias=args["bias"],
        eps=golden.meta["variance_floor"],
    )


# Double multi-head attention: front end, network, loss


def vgg_channels(args, num_blocks):
    return [args["kernel_size"] >> n for n in reversed(range(num_blocks))]


def vgg3(golden):
    return VGGEncoder(golden.x.shape[2], vgg_channels(golden.args, 3))


def vgg4(golden):
    return VGGEncoder(golden.x.shape[2], vgg_channels(golden.args, 4))


def double_mha(golden):
    args = golden.args
    systems = {
        "Attention": "attention",
        "MHA": "multi_head",
        "DoubleMHA": "double",
    }
    return DoubleMHA(
        args["feature_size"],
        vgg_channels(args, {"VGG3L": 3, "VGG4L": 4}[args["front_end"]]),
        args["heads_number"],
        pooling=systems[args["pooling_method"]],
        scale="heads",
        embedding_size=args["embedding_size"],
    )


def classifier(golden):
    args = golden.args
    return Classifier(args["in_feats"], out_neurons=args["n_classes"])


# Serialized attention: modules, stack, trunk, network


def serial_attention(golden):
    return SerialAttention(golden.args["input_dim"], golden.args["d_k"])


def feed_forward(golden):
    return FeedForward(golden.args["d_in"], golden.args["d_hid"])


def stack(golden, prune_last=False):
    args = golden.args
    return SerializedAttentionPooling(
        args["input_dim"],
        args["affine_layers"],
        args["d_k"],
        args["d_ff"],
        prune_last=prune_last,
    )


def tdnn(golden):
    context = golden.args["context"]
    return TDNNEncoder(
        golden.args["input_dim"],
        channels=[golden.args["output_dim"]],
        kernel_sizes=[len(context)],
        dilations=[context[1] - context[0]],
        bn_affine=False,
    )


def serialized_mha(golden):
    args = golden.args
    return SerializedMHA(
        args["inputs_dim"],
        [args["channels"]] * 3,
        embedding_size=args["attn_dim"],
        num_layers=args["affine_layers"],
        ffn_size=2 * args["attn_dim"],
        prune_last=False,
    )
