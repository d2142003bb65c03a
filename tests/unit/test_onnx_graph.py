"""What the ONNX graphs are made of, before they are exported."""

import pytest
import torch
from long_audio_lobes import MELS, TDNN, recording, trained

from speechbrain_attn.dataio.batching import padded_features
from speechbrain_attn.hub.onnx_graph import (
    FbankGraph,
    FramesProduct,
    KaldiFbankGraph,
    TDNNGraph,
    WaveformGraph,
    graph_of_network,
)
from speechbrain_attn.lobes.features import (
    Fbank,
    KaldiFbank,
    SentenceNormalization,
)
from speechbrain_attn.lobes.models.pooled_encoder import PooledEncoder
from speechbrain_attn.nnet.encoders import TDNNEncoder
from speechbrain_attn.nnet.pooling import SelfAttentivePooling

FBANKS = {
    "default": {},
    "eight_kilohertz": {"sample_rate": 8000, "n_fft": 200},
    "longer_transform": {"n_fft": 512},
    "longer_window": {"win_length_ms": 40, "n_fft": 640, "n_mels": 23},
    "low_floor": {"top_db": 100.0},
}
SAMPLES = (1, 159, 160, 161, 4_801)


def assert_features(graph, features, samples):
    wav = recording(30_000)[:samples].unsqueeze(0)
    found, frames = graph(wav, torch.tensor([samples]))
    expected = features(wav)
    assert found.shape == expected.shape and frames.item() == found.shape[1]
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)


@pytest.mark.parametrize("options", FBANKS.values(), ids=FBANKS)
@pytest.mark.parametrize("samples", SAMPLES)
def test_fbank_as_a_product(options, samples):
    features = Fbank(**options)
    assert_features(FbankGraph(features), features, samples)


def test_the_floor_hangs_on_the_last_samples_too():
    """They are the loudest here, in a window behind the last frame."""
    features = Fbank(n_mels=MELS)
    wav = 1e-5 * torch.randn(1, 1_760)
    wav[:, -5:] = 1.0
    found, _ = FbankGraph(features)(wav, torch.tensor([1_760]))
    torch.testing.assert_close(found, features(wav), atol=3e-4, rtol=0)


@pytest.mark.parametrize("options", [{}, {"sample_rate": 8000, "f_max": 3600}])
@pytest.mark.parametrize("samples", (160, 239, 240, 241, 4_801))
def test_kaldi_fbank_as_a_product(options, samples):
    features = KaldiFbank(**options)
    assert_features(KaldiFbankGraph(features), features, samples)


def test_kaldi_fbank_of_less_than_a_hop():
    features, wav = KaldiFbank(n_mels=MELS), torch.randn(1, 40)
    found, frames = KaldiFbankGraph(features)(wav, torch.tensor([40]))
    expected, _ = padded_features(features, list(wav))
    assert frames.item() == 1
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)


def test_kaldi_fbank_ends_where_an_utterance_ends():
    features = KaldiFbank(n_mels=MELS)
    wavs, counts = torch.randn(3, 4_801), torch.tensor([4_801, 163, 2_399])
    found, frames = KaldiFbankGraph(features)(wavs, counts)
    assert frames.tolist() == [30, 1, 15]
    for row, count in enumerate(counts.tolist()):
        alone = features(wavs[row : row + 1, :count])[0]
        torch.testing.assert_close(
            found[row, : len(alone)], alone, atol=3e-4, rtol=0
        )


@pytest.mark.parametrize("kernel_size, dilation", [(1, 1), (5, 1), (3, 7)])
def test_a_convolution_as_a_product(kernel_size, dilation):
    conv = torch.nn.Conv1d(
        7,
        11,
        kernel_size,
        dilation=dilation,
        padding=dilation * (kernel_size // 2),
    )
    for frames in (1, 5, 23):
        x = torch.randn(3, frames, 7)
        expected = conv(x.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(FramesProduct(conv)(x), expected)


@pytest.mark.parametrize(
    "options", [{}, {"bn_affine": False}, {"project_size": 5}]
)
def test_the_encoder_as_products(options):
    encoder = trained(TDNNEncoder(MELS, **TDNN, **options))
    x, lengths = torch.randn(3, 23, MELS), torch.tensor([1.0, 11 / 23, 2 / 23])
    x[1, 11:] = float("nan")
    graph = TDNNGraph(encoder)
    torch.testing.assert_close(graph(x, lengths), encoder(x, lengths))
    torch.testing.assert_close(graph(x[::2]), encoder(x[::2]))


def test_an_encoder_within_another_module_is_found():
    """And the network that was given stays as it was."""

    class Within(torch.nn.Module):
        exact_padding = True

        def __init__(self):
            super().__init__()
            self.trunk = TDNNEncoder(MELS, **TDNN)
            self.input_size = MELS
            self.output_size = self.trunk.output_size
            self.output_lengths = self.trunk.output_lengths

        def forward(self, x, lengths=None):
            return self.trunk(x, lengths)

    network = trained(PooledEncoder(Within(), SelfAttentivePooling(16)))
    graph = graph_of_network(network)
    assert isinstance(graph.encoder.trunk, TDNNGraph)
    assert isinstance(network.encoder.trunk, TDNNEncoder)
    assert all(parameter.requires_grad for parameter in network.parameters())
    x, lengths = torch.randn(2, 23, MELS), torch.tensor([1.0, 0.5])
    torch.testing.assert_close(graph(x, lengths), network(x, lengths))


def test_garbage_in_the_padding_of_waveforms_has_no_say():
    network = trained(
        PooledEncoder(TDNNEncoder(MELS, **TDNN), SelfAttentivePooling(16))
    )
    graph = WaveformGraph(Fbank(n_mels=MELS), SentenceNormalization(), network)
    wavs, lengths = torch.randn(2, 4_000), torch.tensor([1.0, 0.4])
    wavs[1, 1_600:] = 0.0
    expected = graph(wavs, lengths)
    wavs[1, 1_600:] = float("inf")
    assert torch.equal(graph(wavs, lengths), expected)
