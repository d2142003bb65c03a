"""A speaker network in a form that runs fast in onnxruntime.

The same numbers as the modules it is made of, up to rounding: products of
matrices take the place of convolutions over time and of Fourier transforms, so
that frames stay where they lie, nothing is transposed, and onnxruntime can
quantise every layer.
"""

import copy

import torch
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.features import LOG_FLOOR, Fbank, KaldiFbank
from speechbrain_attn.lobes.models.ge2e_lstm import GE2ELSTM
from speechbrain_attn.nnet.encoders import TDNNEncoder
from speechbrain_attn.nnet.masking import clean, frame_mask, frames_of_lengths

# The runtime's LSTM has its gates in the order input, output, forget, cell;
# torch has input, forget, cell, output.
_GATES = [0, 3, 1, 2]


class WaveformGraph(nn.Module):
    """Waveforms to embeddings.

    Arguments
    ---------
    compute_features : Fbank or KaldiFbank
    mean_var_norm : torch.nn.Module
    embedding_model : torch.nn.Module
        Of this package; copied, and changed by ``graph_of_network``.

    Raises
    ------
    AttnError
        Features that have no graph.
    """

    def __init__(self, compute_features, mean_var_norm, embedding_model):
        super().__init__()
        graphs = {Fbank: FbankGraph, KaldiFbank: KaldiFbankGraph}
        graph = graphs.get(type(compute_features))
        if graph is None:
            raise AttnError(
                f"compute_features: {type(compute_features).__name__} has no "
                "ONNX graph; want Fbank or KaldiFbank of "
                "speechbrain_attn.lobes.features."
            )
        self.features = graph(copy.deepcopy(compute_features).cpu())
        self.network = FeatureGraph(mean_var_norm, embedding_model)

    def forward(self, waveforms, lengths):
        """Embed [batch, samples] and [batch]: [batch, embedding_size]."""
        counts = frames_of_lengths(lengths, waveforms.shape[1])
        index = torch.arange(waveforms.shape[1], device=waveforms.device)
        waveforms = clean(waveforms, index < counts.unsqueeze(1))
        feats, frames = self.features(waveforms, counts)
        return self.network(feats, frames / feats.shape[1])


class FeatureGraph(nn.Module):
    """Features to embeddings.

    Arguments as for ``WaveformGraph``.
    """

    def __init__(self, mean_var_norm, embedding_model):
        super().__init__()
        self.mean_var_norm = copy.deepcopy(mean_var_norm).cpu()
        self.embedding_model = graph_of_network(embedding_model)

    def forward(self, feats, lengths=None):
        """Embed [batch, frames, features]: [batch, embedding_size].

        ``lengths`` [batch] are parts of ``frames``; None means no padding.
        """
        feats = self.mean_var_norm(feats, lengths)
        return self.embedding_model(feats, lengths).squeeze(1)


def graph_of_network(network):
    """A copy of a network, with graphs in place of modules that have one."""
    network = copy.deepcopy(network).cpu().float().eval()
    if isinstance(network, GE2ELSTM):
        return GE2EGraph(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, TDNNEncoder):
            network.set_submodule(name, TDNNGraph(module))
    return network.requires_grad_(False)


class FbankGraph(nn.Module):
    """Features of ``Fbank``, its Fourier transform as a product.

    Arguments
    ---------
    fbank : Fbank
    """

    def __init__(self, fbank):
        super().__init__()
        self.hop = fbank.hop_samples
        self.floor = fbank.floor
        self.late_windows = fbank.late_windows
        stft = fbank.stft
        self.size = stft.n_fft
        window = torch.zeros(self.size, dtype=torch.float64)
        start = (self.size - stft.win_length) // 2
        window[start : start + stft.win_length] = stft.window
        bins = self.size // 2 + 1
        filters = fbank.filterbank(torch.eye(bins).unsqueeze(0))[0]
        self.register_buffer("basis", _fourier(torch.diag(window), self.size))
        self.register_buffer("filters", filters.detach().clone())

    def forward(self, wavs, counts):
        """Features of [batch, samples] and [batch], and how many frames."""
        half = self.size // 2
        frames = (wavs.shape[1] + self.hop - 1) // self.hop
        hops = frames + self.late_windows
        missing = hops * self.hop - wavs.shape[1]
        wavs = nn.functional.pad(wavs, (half, missing + half))
        energies = _energies(
            _windows(wavs, hops + 1, self.hop, self.size),
            self.basis,
            self.filters,
        )
        floor = self.floor * energies.amax(dim=(1, 2), keepdim=True)
        energies = torch.maximum(energies[:, :frames], floor)
        feats = energies.clamp(min=LOG_FLOOR).log()
        return feats, (counts + self.hop - 1) // self.hop


class KaldiFbankGraph(nn.Module):
    """Features of ``KaldiFbank``; all that it does to a window as a product.

    Arguments
    ---------
    fbank : KaldiFbank
    """

    def __init__(self, fbank):
        super().__init__()
        self.hop = fbank.hop_samples
        self.size = fbank.window_samples
        self.num_frames = fbank.num_frames
        identity = torch.eye(self.size, dtype=torch.float64)
        centred = identity - identity.mean(dim=1, keepdim=True)
        # Rows are samples that go in, columns those of the window.
        before = torch.cat([centred[:, :1], centred[:, :-1]], dim=1)
        shaped = (centred - 0.97 * before) * fbank.window.double()
        self.register_buffer("basis", _fourier(shaped, fbank.n_fft))
        self.register_buffer("filters", fbank.filters.clone())

    def forward(self, wavs, counts):
        """Features of [batch, samples] and [batch], and how many frames."""
        # At least a hop, as our own batches have (``padded_features``).
        wavs = nn.functional.pad(wavs, (0, self.hop))
        counts = counts.clamp(min=self.hop)
        longest = torch.sym_max(wavs.shape[1] - self.hop, self.hop)
        frames = self.num_frames(longest)
        edge = -((self.hop - self.size) // 2)
        samples = (frames - 1) * self.hop + self.size
        index = torch.arange(samples, device=wavs.device) - edge
        period = 2 * counts.unsqueeze(1)
        index = torch.remainder(index.unsqueeze(0), period)
        index = torch.minimum(index, period - 1 - index)
        windows = _windows(wavs.gather(1, index), frames, self.hop, self.size)
        energies = _energies(windows, self.basis, self.filters)
        feats = energies.clamp(min=torch.finfo(torch.float32).eps).log()
        return feats, self.num_frames(counts)


def _fourier(shape, n_fft):
    """Product that shapes windows and transforms them: [size, 2 * bins].

    ``shape`` [size, size] is what is done to a window before, as a product
    from its left. First come the real parts, then the imaginary ones.
    """
    rows = torch.fft.rfft(shape, n=n_fft)
    return torch.cat([rows.real, rows.imag], dim=1).float()


def _windows(wavs, count, hop, size):
    """Windows [batch, count, size], a hop apart, of [batch, samples]."""
    hops = -(-size // hop)
    # Each window lies in so many hops, one after the other.
    wavs = nn.functional.pad(wavs, (0, hops * hop - size))
    wavs = wavs[:, : (count + hops - 1) * hop].reshape(wavs.shape[0], -1, hop)
    return _side_by_side(wavs, count, range(hops))[:, :, :size]


def _side_by_side(x, count, offsets):
    """Rows of [batch, rows, size] beside each other, one gathering.

    Row t of the result [batch, count, offsets * size] holds the rows t plus
    each of ``offsets``.
    """
    index = torch.arange(count).unsqueeze(1) + torch.tensor(list(offsets))
    rows = x.index_select(1, index.flatten())
    return rows.reshape(x.shape[0], count, len(offsets) * x.shape[2])


def _energies(windows, basis, filters):
    """Mel energies [batch, frames, mels] of windows [batch, frames, size]."""
    real, imaginary = (windows @ basis).square().chunk(2, dim=2)
    return (real + imaginary) @ filters


class TDNNGraph(nn.Module):
    """``TDNNEncoder`` with products in place of convolutions.

    Arguments
    ---------
    encoder : TDNNEncoder
    """

    def __init__(self, encoder):
        super().__init__()
        self.exact_padding = encoder.exact_padding
        self.output_lengths = encoder.output_lengths
        self.layers = nn.ModuleList(map(FramesProduct, encoder.convs))
        self.scales, self.shifts = nn.ParameterList(), nn.ParameterList()
        for norm in encoder.norms:
            scale = (norm.running_var + norm.eps).rsqrt()
            shift = -norm.running_mean * scale
            if norm.affine:
                scale, shift = scale * norm.weight, shift * norm.weight
                shift = shift + norm.bias
            self.scales.append(nn.Parameter(scale.detach()))
            self.shifts.append(nn.Parameter(shift.detach()))
        self.projection = None
        if encoder.projection is not None:
            self.projection = FramesProduct(encoder.projection)

    def forward(self, x, lengths=None):
        """As ``TDNNEncoder.forward``."""
        mask = frame_mask(lengths, x.shape[1])
        x = clean(x, mask)
        own = None if mask is None else mask.to(x.dtype).unsqueeze(2)
        for layer, scale, shift in zip(
            self.layers, self.scales, self.shifts, strict=True
        ):
            x = torch.relu(layer(x)) * scale + shift
            # What the network computed itself is finite, so a product does.
            x = x if own is None else x * own
        return x if self.projection is None else self.projection(x)


class FramesProduct(nn.Module):
    """A ``Conv1d`` of as many frames as go in, [batch, frames, channels].

    One product with each frame and its neighbours side by side.

    Arguments
    ---------
    conv : torch.nn.Conv1d
    """

    def __init__(self, conv):
        super().__init__()
        (self.kernel_size,), (self.dilation,) = conv.kernel_size, conv.dilation
        (self.padding,) = conv.padding
        weight = conv.weight.detach().transpose(1, 2).flatten(1)
        self.weight = nn.Parameter(weight.contiguous())
        self.bias = conv.bias

    def forward(self, x):
        """Frames [batch, frames, channels'] of [batch, frames, channels]."""
        if self.kernel_size > 1:
            frames = x.shape[1]
            x = nn.functional.pad(x, (0, 0, self.padding, self.padding))
            offsets = range(0, self.kernel_size * self.dilation, self.dilation)
            x = _side_by_side(x, frames, offsets)
        return nn.functional.linear(x, self.weight, self.bias)


class GE2EGraph(nn.Module):
    """``GE2ELSTM`` in eval mode, on the LSTM of ONNX.

    That one has no projection. The projected output only enters sums, so the
    next step may as well take what was projected, times one matrix more.

    Arguments
    ---------
    network : GE2ELSTM
    """

    def __init__(self, network):
        super().__init__()
        self.window = network.window_frames
        self.inputs, self.recurrences = nn.ParameterList(), nn.ParameterList()
        self.biases, self.projections = nn.ParameterList(), nn.ParameterList()
        for weights in network.lstm.all_weights:
            inner, recurrent, *biases, projection = (
                weight.detach().double() for weight in weights
            )
            values = {
                "inputs": _gates(inner).unsqueeze(0),
                "recurrences": _gates(recurrent @ projection).unsqueeze(0),
                "biases": torch.cat(list(map(_gates, biases))).unsqueeze(0),
                "projections": projection.T.contiguous(),
            }
            for name, value in values.items():
                parameter = nn.Parameter(value.float(), requires_grad=False)
                getattr(self, name).append(parameter)

    def forward(self, x, lengths=None):
        """Embed [batch, frames, features]: [batch, 1, embedding_size]."""
        batch, frames = x.shape[:2]
        if lengths is None:
            lengths = x.new_ones(batch)
        counts = frames_of_lengths(lengths, frames)
        x = clean(x, frame_mask(lengths, frames))
        if self.window is None:
            return self._embed(x, counts).unsqueeze(1)
        return self._mean_of_windows(x, counts).unsqueeze(1)

    def _mean_of_windows(self, x, counts):
        """As ``GE2ELSTM`` has it, with all windows of the longest for all."""
        window, hop = self.window, self.window // 2
        longest = torch.sym_max(x.shape[1] - window, 0)
        starts = torch.arange((longest + hop - 1) // hop + 1) * hop
        last_starts = (counts - window).clamp(min=0).unsqueeze(1)
        own = starts < last_starts + hop
        starts = torch.minimum(starts, last_starts)
        index = starts.unsqueeze(2) + torch.arange(window)
        # An utterance may be shorter than its only window.
        x = nn.functional.pad(x, (0, 0, 0, window))
        rows = torch.arange(x.shape[0])[:, None, None]
        windows = x[rows, index].flatten(0, 1)
        counts = counts.clamp(max=window).unsqueeze(1).expand_as(own)
        found = self._embed(windows, counts.flatten())
        found = found.reshape(own.shape[0], own.shape[1], -1)
        total = (found * own.unsqueeze(2)).sum(dim=1)
        return nn.functional.normalize(total, dim=1)

    def _embed(self, x, counts):
        """Unit vectors at the last of ``counts`` frames, [batch, size]."""
        x = x.transpose(0, 1)
        layers = zip(
            self.inputs,
            self.recurrences,
            self.biases,
            self.projections,
            strict=True,
        )
        for inner, recurrent, bias, projection in layers:
            hidden = recurrent.shape[2]
            outputs = torch.onnx.ops.symbolic(
                "LSTM",
                (x, inner, recurrent, bias),
                {"hidden_size": hidden},
                dtype=torch.float32,
                shape=(x.shape[0], 1, x.shape[1], hidden),
            )
            x = outputs.squeeze(1) @ projection
        last = x[counts - 1, torch.arange(x.shape[1])]
        return nn.functional.normalize(last, dim=1)


def _gates(weight):
    """Rows of the four gates in the order of ONNX."""
    return weight.unflatten(0, (4, -1))[_GATES].flatten(0, 1)
