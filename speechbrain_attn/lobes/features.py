"""Features whose frames are the same alone, in a batch and under padding.

The host's features make one frame more than a waveform has hops, and its
sentence normalisation counts frames by another rule; so a padded batch gives
other features than its utterances alone. Here a waveform of whole hops
(``dataio.batching.pad_waveforms``) gives exactly samples / hop frames, the same
however much zero padding follows. The host's scripts do not pad to whole hops:
under them a length can be off by one frame.
"""

import torch
from speechbrain.processing.features import STFT, Filterbank
from torch import nn

from speechbrain_attn.errors import TooShortError
from speechbrain_attn.nnet.masking import (
    clean,
    frame_mask,
    frames_of_lengths,
    full_precision,
)
from speechbrain_attn.nnet.streaming import InPasses

LOG_FLOOR = 1e-10  # of an energy; keeps digital silence finite


class Fbank(InPasses):
    """Log-mel energies, one frame a hop, natural logarithm.

    Window t is centred on sample t * hop; what lies beyond the waveform is
    zero, as padding is. Usable as the host's ``compute_features``.

    What is very quiet tells of the channel and the codec rather than of the
    voice, so energies far below an utterance's largest are raised to a floor.

    Arguments
    ---------
    sample_rate : int
        Samples per second.
    n_mels : int
        Features per frame.
    f_min, f_max : float
        Edges of the filterbank in Hz; ``f_max=None`` is half the sample rate.
    win_length_ms, hop_length_ms : float
        Length of a window, and of the step to the next, in milliseconds.
    n_fft : int
        Points of the Fourier transform.
    top_db : float
        The floor lies so many dB below the largest energy.

    Example
    -------
    >>> Fbank()(torch.rand(2, 16000)).shape
    torch.Size([2, 100, 80])
    """

    exact_padding = True  # of waveforms padded to whole hops
    first_centre = 0  # of the first window, in hops

    def __init__(
        self,
        sample_rate=16000,
        n_mels=80,
        f_min=0.0,
        f_max=None,
        win_length_ms=25,
        hop_length_ms=10,
        n_fft=400,
        top_db=60.0,
    ):
        super().__init__()
        self.output_size = n_mels
        self.floor = 10 ** (-top_db / 10)
        self.hop_samples = round(sample_rate * hop_length_ms / 1000)
        self.context_hops = -(-n_fft // (2 * self.hop_samples))
        self.late_windows = self.context_hops - 1
        self.stft = STFT(
            sample_rate=sample_rate,
            win_length=win_length_ms,
            hop_length=hop_length_ms,
            n_fft=n_fft,
            pad_mode="constant",
        )
        self.filterbank = Filterbank(
            n_mels=n_mels,
            log_mel=False,
            f_min=f_min,
            f_max=f_max or sample_rate / 2,
            sample_rate=sample_rate,
            n_fft=n_fft,
        )

    def forward(self, wavs):
        """Features [batch, frames, n_mels] of waveforms [batch, samples].

        ``frames`` is samples / hop, rounded up. Always float32. Raises
        TooShortError where there are no samples.
        """
        if wavs.shape[1] == 0:
            raise TooShortError("wavs: no samples; want 1 or more for a frame.")
        energies = self.block(wavs)
        largest = energies.amax(dim=(1, 2), keepdim=True)
        frames = -(-wavs.shape[1] // self.hop_samples)
        return self._log(energies[:, :frames], largest)

    def block(self, wavs):
        """Energies, with those of the last windows that look back into it.

        They count for the largest energy, so that it is the same however much
        padding follows. What of the features needs no more of the waveform
        than ``context_hops`` around it.
        """
        frames = -(-wavs.shape[1] // self.hop_samples)
        samples = (frames + self.late_windows) * self.hop_samples
        wavs = nn.functional.pad(wavs.float(), (0, samples - wavs.shape[1]))
        with full_precision(wavs):
            parts = self.stft(wavs).unbind(-1)  # real and imaginary
            return self.filterbank(parts[0].square() + parts[1].square())

    def _log(self, energies, largest):
        energies = torch.maximum(energies, self.floor * largest)
        return energies.clamp(min=LOG_FLOOR).log()

    def start(self):
        """The largest energy so far (``streaming.InPasses``)."""
        return {"largest": torch.zeros(())}

    def update(self, state, number, x):
        """Add a block of energies, late windows too."""
        state["largest"] = torch.maximum(state["largest"].to(x), x.amax())

    def advance(self, state, number, x):
        """Features of a block of energies."""
        return self._log(x, state["largest"])


class KaldiFbank(InPasses):
    """Log-mel energies as Kaldi and the runtimes built on it compute them.

    Frames as with ``snip_edges=False`` (edges mirrored), no dither, DC
    removed, pre-emphasis 0.97, Povey window, power spectrum of 512 points; the
    defaults of range are those of sherpa-onnx. Equal to kaldi-native-fbank.

    Arguments
    ---------
    sample_rate : int
        Samples per second.
    n_mels : int
        Features per frame.
    f_min, f_max : float
        Edges of the filterbank in Hz.

    Example
    -------
    >>> KaldiFbank()(torch.rand(2, 16000)).shape
    torch.Size([2, 100, 80])
    """

    exact_padding = True
    first_centre = 0.5  # of the first window, in hops
    num_passes = 0  # nothing of a whole utterance (``streaming.InPasses``)
    # Its last windows look ahead, so it must know where an utterance ends.
    takes_lengths = True

    def __init__(self, sample_rate=16000, n_mels=80, f_min=20.0, f_max=7600.0):
        super().__init__()
        self.output_size = n_mels
        self.hop_samples = sample_rate // 100
        self.window_samples = sample_rate // 40
        # A window lies around its hop.
        excess = (self.window_samples - self.hop_samples + 1) // 2
        self.context_hops = -(-excess // self.hop_samples)
        self.n_fft = 1 << (self.window_samples - 1).bit_length()
        window = torch.hann_window(
            self.window_samples, periodic=False, dtype=torch.float64
        )
        self.register_buffer("window", window.pow(0.85).float(), False)
        self.register_buffer(
            "filters",
            _kaldi_mel_filters(sample_rate, self.n_fft, n_mels, f_min, f_max),
            False,
        )

    def forward(self, wavs, lengths=None):
        """Features [batch, frames, n_mels] of waveforms [batch, samples].

        ``frames`` is samples / hop, rounded to the nearest. ``lengths``
        [batch] are parts of ``samples`` in (0, 1]; None means no padding.
        Raises TooShortError on less than half a hop.
        """
        wavs = wavs.float()
        if wavs.shape[1] < self.hop_samples // 2:
            raise TooShortError(
                f"wavs: {wavs.shape[1]} samples give no frame; want "
                f"{self.hop_samples // 2} (half a hop) or more."
            )
        if lengths is None:
            lengths = torch.ones(wavs.shape[0], device=wavs.device)
        samples = frames_of_lengths(lengths, wavs.shape[1]).unsqueeze(1)
        frames = self.num_frames(wavs.shape[1])
        starts = torch.arange(frames, device=wavs.device) * self.hop_samples
        starts = starts + (self.hop_samples - self.window_samples) // 2
        inside = torch.arange(self.window_samples, device=wavs.device)
        index = (starts.unsqueeze(1) + inside).flatten().unsqueeze(0)
        # Mirror at both ends; folding first lets an utterance shorter than a
        # window be mirrored more than once.
        index = torch.remainder(index, 2 * samples)
        index = torch.minimum(index, 2 * samples - 1 - index)
        windows = wavs.gather(1, index).unflatten(1, (-1, self.window_samples))
        windows = windows - windows.mean(dim=2, keepdim=True)
        before = torch.cat([windows[:, :, :1], windows[:, :, :-1]], dim=2)
        windows = (windows - 0.97 * before) * self.window
        with full_precision(wavs):
            power = torch.fft.rfft(windows, n=self.n_fft).abs().square()
            energies = power @ self.filters
        return energies.clamp(min=torch.finfo(torch.float32).eps).log()

    def num_frames(self, samples):
        """Frames of so many samples, an integer or an integer tensor."""
        return (samples + self.hop_samples // 2) // self.hop_samples

    def block(self, wavs):
        """Features; they need ``context_hops`` of the waveform around them."""
        return self(wavs)


def _kaldi_mel_filters(sample_rate, n_fft, n_mels, f_min, f_max):
    """Triangles on the mel scale 1127 ln(1 + f / 700), [bins, n_mels]."""

    def mel(hertz):
        return 1127.0 * torch.log1p(hertz / 700.0)

    edges = mel(torch.tensor([f_min, f_max], dtype=torch.float64))
    points = torch.linspace(edges[0], edges[1], n_mels + 2, dtype=torch.float64)
    left, centre, right = points[:-2], points[1:-1], points[2:]
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
    bins = mel(bins * (sample_rate / n_fft)).unsqueeze(1)
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0.0).float()


def batch_features(compute_features, wavs, lengths):
    """Features of a padded batch, from a module that may want its lengths.

    ``compute_features`` as in the YAML, ``wavs`` [batch, samples], ``lengths``
    [batch] in (0, 1].
    """
    if getattr(compute_features, "takes_lengths", False):
        return compute_features(wavs, lengths)
    return compute_features(wavs)


class SentenceNormalization(InPasses):
    """Features less their mean over the utterance's own frames.

    Usable as the host's ``mean_var_norm``. Keeps no statistics.

    Example
    -------
    >>> feats = SentenceNormalization()(torch.rand(2, 100, 80))
    >>> feats.mean(dim=1).abs().max().item() < 1e-5
    True
    """

    exact_padding = True

    def forward(self, x, lengths=None):
        """Normalise [batch, frames, features]; padding comes out as zero.

        ``lengths`` [batch] are parts of the padded length in (0, 1], larger
        ones count as 1; None means no padding.
        """
        mask = frame_mask(lengths, x.shape[1])
        x = clean(x, mask)
        count = x.shape[1] if mask is None else mask.sum(1)[:, None, None]
        return clean(x - x.sum(dim=1, keepdim=True) / count, mask)

    def update(self, state, number, x):
        """Add a block of features (``streaming.InPasses``)."""
        state[0].update(x)

    def advance(self, state, number, x):
        """Normalise a block of features."""
        return x - state[0].mean()
