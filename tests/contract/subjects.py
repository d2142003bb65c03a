"""What the contract is tested on: one table each, read by every test here.

A new pooling needs one row in ``POOLING_ROWS``; ``test_subjects.py`` fails
without it. All sizes are small, and prime where nothing must divide them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.ge2e_lstm import GE2ELSTM
from speechbrain_attn.lobes.models.pooled_encoder import (
    ECAPATrunk,
    PooledEncoder,
    ResNetTrunk,
    XvectorTrunk,
)
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.encoders import TDNNEncoder, VGGEncoder
from speechbrain_attn.nnet.masking import frames_of_lengths
from speechbrain_attn.nnet.pooling import POOLINGS

FEATURES = 7  # per frame, into encoders and lobes
CHANNELS = 15  # per frame, into poolings; three heads of five
COUNTS = (23, 1, 11, 5)  # frames of each utterance of the batch
VGG_BLOCKS = 2
# With ceil-mode halving one frame stays one frame, so eager mode has no
# minimum; an exported graph is traced for two or more frames everywhere, and
# so needs as many as leave two after the last block.
EXPORTED_VGG_FRAMES = 2**VGG_BLOCKS + 1

# Registered name -> constructor arguments beside input_size, one dict for each
# variant worth a test.
POOLING_ROWS = {
    "attentive_statistics": [{"attention_size": 5}],
    "channel_attentive_statistics": [
        {"attention_size": 5},
        {"attention_size": 5, "global_context": False},
    ],
    "double_multi_head": [
        {"num_heads": 3, "head_drop": 0.3},
        {"num_heads": 3, "with_std": True},
    ],
    "multi_head": [
        {"num_heads": 3},
        {"num_heads": 1, "with_std": True, "scale": "none"},
    ],
    "self_attentive": [
        {"attention_size": 5, "num_hops": 2},
        {"attention_size": 5, "with_std": False, "bias": False},
    ],
    "serialized": [
        {"num_layers": 3, "key_size": 5, "ffn_size": 11},
        {
            "num_layers": 2,
            "key_size": 5,
            "ffn_size": 11,
            "norm_position": "output",
        },
    ],
    "statistics": [{}],
}

TDNN = {"channels": (13, CHANNELS), "kernel_sizes": (5, 3), "dilations": (1, 2)}

ENCODER_ROWS = {
    "tdnn": lambda: TDNNEncoder(FEATURES, **TDNN),
    "tdnn_projected": lambda: TDNNEncoder(
        FEATURES, **TDNN, bn_affine=False, project_size=11
    ),
    "vgg": lambda: VGGEncoder(FEATURES, channels=(5, 6)),
    "vgg_batch_norm": lambda: VGGEncoder(
        FEATURES, channels=(5, 6), batch_norm=True
    ),
}


def double_mha(**options):
    """DoubleMHA of the contract's size."""
    return DoubleMHA(
        FEATURES, channels=(5, 6), num_heads=3, embedding_size=11, **options
    )


def self_attentive_tdnn(**options):
    """SelfAttentiveTDNN of the contract's size."""
    return SelfAttentiveTDNN(
        FEATURES,
        channels=(13, 11),
        kernel_sizes=(5, 3),
        dilations=(1, 2),
        attention_size=5,
        embedding_size=17,
        **options,
    )


def ge2e_lstm(window_frames):
    """GE2ELSTM of the contract's size."""
    return GE2ELSTM(FEATURES, 13, 2, 11, window_frames)


ATTENTIVE_ROWS = {
    "self_attentive_tdnn": self_attentive_tdnn,
    "self_attentive_tdnn_hops": lambda: self_attentive_tdnn(num_hops=5),
    "double_mha": double_mha,
    "double_mha_multi_head": lambda: double_mha(pooling="multi_head"),
    "double_mha_attention": lambda: double_mha(pooling="attention"),
    "double_mha_with_norms": lambda: double_mha(
        norm_order="bn_relu", batch_norm=True, head_drop=0.3
    ),
    "serialized_mha": lambda: SerializedMHA(
        FEATURES,
        channels=(13, 11),
        kernel_sizes=(5, 3),
        dilations=(1, 2),
        embedding_size=17,
        num_layers=2,
        key_size=5,
        ffn_size=11,
    ),
}

# An LSTM has no attention to show, and no graph for any number of frames;
# ``test_export.py`` measures that it is still so.
RECURRENT_ROWS = {
    "ge2e_lstm": lambda: ge2e_lstm(window_frames=None),
    "ge2e_lstm_windows": lambda: ge2e_lstm(window_frames=7),
}
LOBE_ROWS = ATTENTIVE_ROWS | RECURRENT_ROWS

# The host's convolutions mirror the edges and see the padding; nothing around
# them can mend that. ``test_host_trunks.py`` measures that it is still so.
INEXACT_TRUNK_ROWS = {
    "ecapa": lambda: ECAPATrunk(
        FEATURES,
        channels=[8, 8, 8, 8, CHANNELS],
        res2net_scale=2,
        se_channels=3,
    ),
    "resnet": lambda: ResNetTrunk(
        FEATURES, channels=[2, 2, 2, 5], block_sizes=[1, 1, 1, 1]
    ),
    "xvector": lambda: XvectorTrunk(
        FEATURES, tdnn_channels=[8, 8, 8, 8, CHANNELS]
    ),
}


@dataclass(frozen=True)
class Subject:
    """One module under contract.

    Arguments
    ---------
    name : str
        Shown by pytest.
    kind : str
        "pooling", "encoder" or "lobe".
    input_size : int
        Channels or features per frame that go in.
    build : callable
        Makes the module, from torch's random numbers.
    """

    name: str
    kind: str
    input_size: int
    build: Callable

    def make(self, seed=1):
        """The module in eval mode, the same for the same seed."""
        torch.manual_seed(seed)
        module = self.build()
        for part in module.modules():
            # As a trained network, not as a fresh one: torch's own weights
            # let the signal fade until only biases come out, and fresh batch
            # norm maps zero to zero, so that mistakes would stay too small.
            if isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d)):
                nn.init.kaiming_normal_(part.weight)
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 2.0)
                if part.affine:
                    nn.init.uniform_(part.bias, -0.5, 0.5)
        return module.eval()

    def min_exported_frames(self, module):
        """Frames that a graph of the module needs at least."""
        encoder = getattr(module, "encoder", module)
        return EXPORTED_VGG_FRAMES if isinstance(encoder, VGGEncoder) else 1

    def inputs(self, counts=COUNTS, frames=None):
        """Random x [batch, frames, channels] and lengths of ``counts``."""
        frames = frames or max(counts)
        x = torch.randn(len(counts), frames, self.input_size)
        return x, torch.tensor(counts) / frames

    def by_utterance(self, module, x, lengths=None):
        """What comes out for each utterance, without its padded frames."""
        out = module(x, lengths)
        if self.kind != "encoder" or lengths is None:
            return list(out)
        lengths = module.output_lengths(lengths, x.shape[1])
        counts = frames_of_lengths(lengths, out.shape[1])
        return [row[:count] for row, count in zip(out, counts, strict=True)]


def _pooling(name, options, input_size=CHANNELS):
    return POOLINGS[name](input_size, **options)


def _pooled(encoder, name, options):
    return PooledEncoder(
        encoder,
        _pooling(name, options, encoder.output_size),
        embedding_size=11,
        hidden_sizes=(13,),
    )


def _pooling_subjects():
    return [
        Subject(
            f"{name}_{number}" if number else name,
            "pooling",
            CHANNELS,
            lambda name=name, options=options: _pooling(name, options),
        )
        for name, variants in POOLING_ROWS.items()
        for number, options in enumerate(variants)
    ]


def _lobe_subjects(rows):
    return [
        Subject(name, "lobe", FEATURES, build) for name, build in rows.items()
    ]


def _pooled_subjects(encoders):
    """Every registered pooling on each of the encoders."""
    return [
        Subject(
            f"{encoder}+{name}",
            "lobe",
            FEATURES,
            lambda build=build, name=name, options=variants[0]: _pooled(
                build(), name, options
            ),
        )
        for encoder, build in encoders.items()
        for name, variants in POOLING_ROWS.items()
    ]


POOLING_SUBJECTS = _pooling_subjects()
ENCODER_SUBJECTS = [
    Subject(name, "encoder", FEATURES, build)
    for name, build in ENCODER_ROWS.items()
]
ATTENTIVE_SUBJECTS = _lobe_subjects(ATTENTIVE_ROWS)
RECURRENT_SUBJECTS = _lobe_subjects(RECURRENT_ROWS)
LOBE_SUBJECTS = ATTENTIVE_SUBJECTS + RECURRENT_SUBJECTS
POOLED_SUBJECTS = _pooled_subjects(
    {name: ENCODER_ROWS[name] for name in ("tdnn", "vgg")}
)
INEXACT_SUBJECTS = _lobe_subjects(
    {
        name: lambda build=build: _pooled(
            build(), "statistics", POOLING_ROWS["statistics"][0]
        )
        for name, build in INEXACT_TRUNK_ROWS.items()
    }
)
# Without the pooled ones: what they are made of is exported, and an export is
# slow.
EXPORTED_SUBJECTS = POOLING_SUBJECTS + ENCODER_SUBJECTS + ATTENTIVE_SUBJECTS
SUBJECTS = EXPORTED_SUBJECTS + RECURRENT_SUBJECTS + POOLED_SUBJECTS


def ids(subjects):
    """Names for ``pytest.mark.parametrize``."""
    return [subject.name for subject in subjects]


def assert_near(actual, expected, tolerance=1e-5):
    """Equal within an absolute and relative tolerance, utterance by utterance.

    Also fails on NaN, and when there is nothing to compare.
    """
    assert len(actual) == len(expected) > 0
    for one, other in zip(actual, expected, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
