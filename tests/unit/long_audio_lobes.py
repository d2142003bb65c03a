"""Networks and audio of ``test_long_audio.py``."""

import numpy as np
import torch
from torch import nn

from speechbrain_attn.dataio.batching import padded_features
from speechbrain_attn.lobes.features import (
    Fbank,
    SentenceNormalization,
)
from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.pooled_encoder import PooledEncoder
from speechbrain_attn.lobes.models.repooled import ProjectedTrunk
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.encoders import TDNNEncoder, VGGEncoder
from speechbrain_attn.nnet.pooling import POOLINGS

MELS = 13
TDNN = {
    "channels": (17, 16),
    "kernel_sizes": (5, 3),
    "dilations": (1, 3),
}
# Registered name -> constructor arguments beside input_size.
POOLING_OPTIONS = {
    "attentive_statistics": {"attention_size": 5},
    "channel_attentive_statistics": {"attention_size": 5},
    "double_multi_head": {"num_heads": 4},
    "multi_head": {"num_heads": 2, "with_std": True},
    "self_attentive": {"attention_size": 5, "num_hops": 3},
    "serialized": {"num_layers": 3, "key_size": 5, "ffn_size": 11},
    "statistics": {},
}


def encoders():
    return {
        "tdnn": TDNNEncoder(MELS, **TDNN, project_size=16),
        "projected": ProjectedTrunk(TDNNEncoder(MELS, **TDNN), 16),
        "vgg": VGGEncoder(MELS, channels=(5, 4), batch_norm=True),
        "vgg_deep": VGGEncoder(MELS, channels=(3, 3, 3, 16)),
    }


def self_attentive(**options):
    return SelfAttentiveTDNN(MELS, **dict(TDNN, **options), attention_size=5)


def serialized(**options):
    return SerializedMHA(
        MELS,
        **TDNN,
        embedding_size=16,
        num_layers=3,
        key_size=5,
        ffn_size=11,
        **options,
    )


def double(**options):
    return DoubleMHA(
        MELS, channels=(3, 4, 5, 8), num_heads=4, embedding_size=11, **options
    )


def pooled(encoder, name):
    def build():
        part = encoders()[encoder]
        pooling = POOLINGS[name](part.output_size, **POOLING_OPTIONS[name])
        return PooledEncoder(part, pooling, embedding_size=11)

    return build


LOBES = {
    "self_attentive": self_attentive,
    "self_attentive_hops": lambda: self_attentive(num_hops=5),
    "self_attentive_means": lambda: self_attentive(with_std=False),
    "double": double,
    "double_norms": lambda: double(norm_order="bn_relu", batch_norm=True),
    "multi_head": lambda: double(pooling="multi_head"),
    "attention": lambda: double(pooling="attention"),
    "serialized": serialized,
    "serialized_output": lambda: serialized(norm_position="output"),
    "serialized_whole": lambda: serialized(prune_last=False),
} | {
    f"{encoder}+{name}": pooled(encoder, name)
    for encoder in encoders()
    for name in POOLING_OPTIONS
}


def trained(network):
    """Weights and statistics as of training, so that mistakes show."""
    torch.manual_seed(3)
    for part in network.modules():
        if isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(part.weight)
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean.uniform_(-0.5, 0.5)
            part.running_var.uniform_(0.5, 2.0)
    return network.eval()


def parts(lobe, features=Fbank):
    return (
        features(n_mels=MELS).eval(),
        SentenceNormalization().eval(),
        trained(LOBES[lobe]()),
    )


def recording(samples):
    """Noise of changing level and colour, the loudest at the end."""
    draw = np.random.default_rng(5)
    wav = draw.normal(0, 1, samples)
    wav *= np.exp(4 * np.sin(np.arange(samples) / 5000.0) - 5)
    half = samples // 2
    wav[:half] += wav[half : 2 * half]
    wav[-200:] *= 3
    return torch.tensor(wav, dtype=torch.float32)


@torch.inference_mode()
def one_pass(wav, compute_features, mean_var_norm, network):
    feats, lengths = padded_features(compute_features, [wav])
    return network(mean_var_norm(feats, lengths), lengths)[0, 0].numpy()
