"""Equal to other programs that compute the same, and of the papers' sizes."""

import numpy as np
import pytest
import torch
from speechbrain.lobes.models.ECAPA_TDNN import (
    AttentiveStatisticsPooling as HostPooling,
)
from torch import nn
from torch.nn import functional as F

from speechbrain_attn.lobes.features import KaldiFbank
from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.heads import DoubleMHAHead
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.encoders import TDNNEncoder, VGGEncoder
from speechbrain_attn.nnet.losses import AdditiveMarginSoftmax
from speechbrain_attn.nnet.pooling import ChannelAttentiveStatisticsPooling


def with_random_norms(module):
    """In eval mode, with batch norm that is not an identity."""
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            if norm.affine:
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
    return module.eval()


# SpeechBrain's ECAPA pooling


@pytest.mark.parametrize("global_context", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_channel_attentive_statistics_equal_the_hosts(global_context, padded):
    host = with_random_norms(HostPooling(7, 5, global_context))
    pool = ChannelAttentiveStatisticsPooling(7, 5, global_context).eval()
    dense = host.tdnn.conv.conv
    with torch.no_grad():
        pool.frame_layer.weight.copy_(dense.weight[:, :7, 0])
        pool.frame_layer.bias.copy_(dense.bias)
        if global_context:
            pool.context_layer.weight.copy_(dense.weight[:, 7:, 0])
        pool.score_layer.weight.copy_(host.conv.conv.weight[:, :, 0])
    pool.norm.load_state_dict(host.tdnn.norm.norm.state_dict())
    x = torch.randn(3, 16, 7)
    # Sixteenths are exact in float32, where the host's mask does not err.
    lengths = torch.tensor([16, 11, 3]) / 16 if padded else None
    expected = host(x.transpose(1, 2), lengths).squeeze(2)
    torch.testing.assert_close(pool(x, lengths), expected, atol=1e-5, rtol=1e-5)


# Encoders, utterance by utterance, without any padding


def test_tdnn_equals_plain_convolutions():
    encoder = with_random_norms(
        TDNNEncoder(5, (7, 11, 13), (5, 3, 1), (1, 3, 2), project_size=3)
    )
    num_frames = [17, 9, 1]
    x = torch.full((3, 17, 5), float("nan"))
    expected = torch.zeros(3, 17, 3)
    for utterance, n in enumerate(num_frames):
        x[utterance, :n] = torch.randn(n, 5)
        y = x[utterance, :n].T
        for conv, norm in zip(encoder.convs, encoder.norms, strict=True):
            reach = conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
            y = F.conv1d(
                F.pad(y, (reach, reach)),
                conv.weight,
                conv.bias,
                dilation=conv.dilation,
            )
            y = (y.relu() - norm.running_mean[:, None]) / torch.sqrt(
                norm.running_var[:, None] + norm.eps
            )
            y = y * norm.weight[:, None] + norm.bias[:, None]
        expected[utterance, :n] = y.T @ encoder.projection.weight.flatten(1).T
    found = encoder(x, torch.tensor(num_frames) / 17)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_vgg_equals_plain_convolutions_with_ceil_mode():
    encoder = VGGEncoder(21, (2, 3, 5)).eval()
    num_frames = [37, 18, 1]
    x = torch.full((3, 37, 21), float("nan"))
    expected = torch.zeros(3, 5, 15)
    for utterance, n in enumerate(num_frames):
        x[utterance, :n] = torch.randn(n, 21)
        y = x[utterance, :n][None, None]
        for layer, conv in enumerate(encoder.convs):
            y = F.conv2d(y, conv.weight, conv.bias, padding=1).relu()
            if layer % 2:
                y = F.max_pool2d(y, 2, ceil_mode=True)
        # Channel first: index = channel * features + feature.
        frames = torch.stack([frame.flatten() for frame in y[0].unbind(1)])
        expected[utterance, : len(frames)] = frames
        assert encoder.output_frames(n) == len(frames)
    found = encoder(x, torch.tensor(num_frames) / 37)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


# The margin loss, one utterance after another


@pytest.mark.parametrize("annealing", [True, False])
def test_margin_loss_equals_the_loop_step_by_step(annealing):
    loss = AdditiveMarginSoftmax(15.0, 0.3, annealing)
    loss.step.fill_(30_000)
    cosines = (torch.rand(5, 7, dtype=torch.float64) * 2 - 1).requires_grad_()
    labels = torch.randint(7, (5,))
    for step in range(30_000, 30_003):
        a = 1000 / (1 + step / 10_000) ** 2 if annealing else 0.0
        total = 0.0
        for row, label in zip(cosines.detach().numpy(), labels, strict=True):
            row = row.copy()
            row[label] = (row[label] - 0.3 + a * row[label]) / (1 + a)
            total += np.log(np.exp(15 * row).sum()) - 15 * row[label]
        found = loss(cosines.unsqueeze(1), labels.unsqueeze(1))
        assert found.item() == pytest.approx(total / 5, rel=1e-12)


# Kaldi's features


# Both compute in float32, whose rounding the logarithm shows at low energies:
# 1e-4 was seen.
KALDI_ATOL = 5e-4


def kaldi_native_features(samples, f_min, f_max):
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = 16000
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = 80
    options.mel_opts.low_freq = f_min
    options.mel_opts.high_freq = f_max
    options.energy_floor = 0.0
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(16000, samples.tolist())
    fbank.input_finished()
    frames = [fbank.get_frame(n) for n in range(fbank.num_frames_ready)]
    return torch.from_numpy(np.stack(frames))


def voice_like(num_samples):
    """A gliding harmonic tone in noise, with an offset, in [-1, 1]."""
    time = torch.arange(num_samples) / 16000
    phase = 2 * torch.pi * (120 * time + 30 * time**2)
    tone = sum(torch.sin(k * phase) / k for k in range(1, 20))
    return 0.1 * tone + 0.01 * torch.randn(num_samples) + 0.05


# Samples: whole hops, not so, a last window that looks far ahead, one frame.
@pytest.mark.parametrize("num_samples", [16000, 8037, 4079, 400, 161, 97])
@pytest.mark.parametrize("f_max", [7600.0, 8000.0])
def test_kaldi_features_equal_kaldi_native_fbank(num_samples, f_max):
    samples = voice_like(num_samples)
    expected = kaldi_native_features(samples, 20.0, f_max)
    found = KaldiFbank(f_max=f_max)(samples.unsqueeze(0)).squeeze(0)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=KALDI_ATOL, rtol=0)


def test_kaldi_features_of_a_padded_batch_equal_kaldi_native_fbank():
    num_samples = [8000, 6400, 1120, 160]
    wavs = torch.full((4, 8000), float("nan"))
    for row, n in zip(wavs, num_samples, strict=True):
        row[:n] = voice_like(n)
    found = KaldiFbank()(wavs, torch.tensor(num_samples) / 8000)
    for row, wav, n in zip(found, wavs, num_samples, strict=True):
        expected = kaldi_native_features(wav[:n], 20.0, 7600.0)
        assert len(expected) == n // 160
        torch.testing.assert_close(
            row[: n // 160], expected, atol=KALDI_ATOL, rtol=0
        )


# Sizes of the papers' networks


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


# Of the authors' program, with 5,994 speakers; two batch norms of 400 are among
# them that it never calls.
@pytest.mark.parametrize(
    "pooling, num_heads, in_program",
    [
        ("double", 8, 21_714_864),
        ("double", 16, 21_586_544),
        ("double", 32, 21_522_384),
        ("multi_head", 32, 23_506_224),
        ("attention", 1, 23_506_224),
    ],
)
def test_size_of_double_mha(pooling, num_heads, in_program):
    with torch.device("meta"):
        lobe = DoubleMHA(num_heads=num_heads, pooling=pooling)
    head = DoubleMHAHead(400, out_neurons=5994)
    found = num_parameters(lobe) + num_parameters(head)
    assert found == in_program - 2 * 2 * 400
    if (pooling, num_heads) == ("double", 32):
        assert num_parameters(lobe) == 18_962_784


def test_size_of_serialized_mha():
    with torch.device("meta"):
        lobe = SerializedMHA(prune_last=False)
        fewer = SerializedMHA(num_layers=5, prune_last=False)
        pruned = SerializedMHA()
    assert num_parameters(lobe) == 5_126_656
    assert num_parameters(lobe) - num_parameters(fewer) == 559_104
    # Left out at the end: W_r and the feed-forward module with its norm.
    needless = 256 * 256 + (2 * 256 * 512 + 512 + 256) + 2 * 256
    assert num_parameters(lobe) - num_parameters(pruned) == needless


def test_size_of_self_attentive_tdnn():
    """Less one: the last bias of the scorer, which the softmax cancels."""
    with torch.device("meta"):
        lobe = SelfAttentiveTDNN()
    assert num_parameters(lobe) == 2_271_745 - 1
    # A little under half of the LSTM of the GE2E paper: 3 x 768, projected to
    # 256, on 40 features.
    with torch.device("meta"):
        lstm = nn.LSTM(40, 768, num_layers=3, proj_size=256)
    assert 0.45 < num_parameters(lobe) / num_parameters(lstm) < 0.5
