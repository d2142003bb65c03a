"""Augmentation of training batches: waveforms from local folders, features."""

import os
from concurrent.futures import ThreadPoolExecutor

import torch
from speechbrain.augment.freq_domain import SpectrogramDrop
from speechbrain.augment.time_domain import DropChunk, DropFreq, SpeedPerturb
from torch import nn

from speechbrain_attn.dataio.audio import SAMPLE_RATE, read_waveform
from speechbrain_attn.dataio.crops import (
    checked_speeds,
    fit_length,
    read_crop,
)
from speechbrain_attn.dataio.headers import map_files, read_header
from speechbrain_attn.dataio.tree import AUDIO_EXTENSIONS
from speechbrain_attn.errors import AttnError, AudioError

_READING_THREADS = 8


def find_audio(folder, key):
    """Sorted paths of the audio files anywhere under ``folder``.

    ``key`` is the option that named the folder, for the message.

    Raises
    ------
    AttnError
        There is no such folder, or no audio file in it.
    """
    if not os.path.isdir(folder):
        raise AttnError(
            f"{key}: no such folder: {folder}. Name a local folder of audio "
            f"files, or leave {key} null; nothing is downloaded."
        )
    paths = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(AUDIO_EXTENSIONS)
        and not name.startswith(".")  # macOS leaves such beside each file
    )
    if not paths:
        raise AttnError(
            f"{key}: no audio files ({', '.join(AUDIO_EXTENSIONS)}) under "
            f"{folder}."
        )
    return paths


class WaveformAugmenter(nn.Module):
    """Speed, noise, reverberation and drops for a batch of crops.

    Usable as the host's ``wav_augment``. Each crop gets one of ``speeds``, and
    with probability ``augment_prob`` one of the corruptions that are switched
    on. With nothing switched on it is the identity. Files are only read;
    several channels are averaged.

    Arguments
    ---------
    noise_folder, rir_folder : str
        Folders, searched with all below them, of noises and of room impulse
        responses; None switches the corruption off.
    speeds : list of int
        Percent of the original speed, e.g. [90, 100, 110]; empty: off.
    drop_freq, drop_chunk : bool
        The host's ``DropFreq`` and ``DropChunk``.
    snr_low, snr_high : float
        Range of the signal-to-noise ratio in dB, the lower end first.
    augment_prob : float
        In [0, 1].
    keep_original : bool
        Return the crops before and after corruption, a batch twice as large,
        as the host's recipes do.

    Raises
    ------
    AttnError
        A folder is missing or holds no audio files; a speed is none;
        ``augment_prob`` lies outside; no ratio is between ``snr_low`` and
        ``snr_high``.
    AudioError
        A noise or impulse response cannot be read; the message names it.

    Example
    -------
    >>> augment = WaveformAugmenter(drop_chunk=True, keep_original=True)
    >>> wavs, lengths = augment(torch.rand(3, 16000), torch.ones(3))
    >>> wavs.shape, augment.replicate_labels(torch.arange(3))
    (torch.Size([6, 16000]), tensor([0, 1, 2, 0, 1, 2]))
    """

    def __init__(
        self,
        noise_folder=None,
        rir_folder=None,
        speeds=(),
        drop_freq=False,
        drop_chunk=False,
        snr_low=0,
        snr_high=15,
        augment_prob=1.0,
        keep_original=False,
    ):
        super().__init__()
        number = isinstance(augment_prob, int | float)
        # True would count as 1.
        if augment_prob is True or not number or not 0 <= augment_prob <= 1:
            raise AttnError(
                f"augment_prob={augment_prob}: want a number from 0 to 1, the "
                "share of the crops; 0.5 changes every other one."
            )
        if not snr_low <= snr_high:
            raise AttnError(
                f"snr_low={snr_low}, snr_high={snr_high}: want decibels, the "
                "second no less than the first."
            )
        self.snr_low = snr_low
        self.snr_high = snr_high
        self.augment_prob = augment_prob
        self.speeds = nn.ModuleList(
            SpeedPerturb(SAMPLE_RATE, [speed])
            for speed in checked_speeds(speeds, "speeds")
        )
        self.corruptions = []
        if noise_folder is not None:
            self.noises = _with_lengths(noise_folder, "noise_folder")
            self.corruptions.append(self._add_noise)
        if rir_folder is not None:
            self.rirs, _ = zip(
                *_with_lengths(rir_folder, "rir_folder"), strict=True
            )
            self.corruptions.append(self._add_reverb)
        if drop_freq:
            self.drop_freq = DropFreq()
            self.corruptions.append(lambda wavs, _: self.drop_freq(wavs))
        if drop_chunk:
            # Lengths in samples and counts of the host's VoxCeleb recipes.
            self.drop_chunk = DropChunk(1000, 2000, 1, 5)
            self.corruptions.append(self.drop_chunk)
        self.doubles = keep_original and bool(self.corruptions)

    @torch.no_grad()
    def forward(self, wavs, lengths):
        """Augment crops [batch, samples]; returns them and their lengths."""
        # A convolution in bfloat16 would add noise of its own to the waveform.
        with torch.autocast(wavs.device.type, enabled=False):
            wavs = self._change_speed(wavs)
            corrupted = self._corrupt(wavs, lengths)
        if self.doubles:
            return torch.cat([wavs, corrupted]), torch.cat([lengths, lengths])
        return corrupted, lengths

    def replicate_labels(self, labels):
        """Labels [batch, ...] of the batch that ``forward`` returns."""
        return torch.cat([labels, labels]) if self.doubles else labels

    def _change_speed(self, wavs):
        if not self.speeds:
            return wavs
        choice = torch.randint(len(self.speeds), (len(wavs),))
        changed = torch.empty_like(wavs)
        for index, speed in enumerate(self.speeds):
            chosen = (choice == index).nonzero().flatten().to(wavs.device)
            if len(chosen):
                speed.device = wavs.device  # the host's would go to the CPU
                # One length again, so that batches hold no padding.
                changed[chosen] = fit_length(speed(wavs[chosen]), wavs.shape[1])
        return changed

    def _corrupt(self, wavs, lengths):
        if not self.corruptions:
            return wavs
        choice = torch.randint(len(self.corruptions), (len(wavs),))
        choice[torch.rand(len(wavs)) >= self.augment_prob] = -1
        corrupted = wavs.clone()
        for index, corruption in enumerate(self.corruptions):
            chosen = (choice == index).nonzero().flatten().to(wavs.device)
            if len(chosen):
                corrupted[chosen] = corruption(wavs[chosen], lengths[chosen])
        return corrupted

    def _add_noise(self, wavs, lengths):
        count, num_samples = wavs.shape
        files = torch.randint(len(self.noises), (count,)).tolist()
        positions = torch.rand(count).tolist()
        snr = torch.empty(count, 1).uniform_(self.snr_low, self.snr_high)

        def read(file, position):
            return read_crop(
                self.noises[file][0],
                num_samples,
                self.noises[file][1],
                position,
            )

        # Decoding leaves the interpreter lock, so threads read in parallel.
        with ThreadPoolExecutor(_READING_THREADS) as pool:
            noise = torch.stack(list(pool.map(read, files, positions)))
        noise = noise.to(wavs.device)
        gain = 10 ** (-snr.to(wavs.device) / 20)
        # A noise of digital silence has no level to scale.
        return wavs + noise * gain * _rms(wavs) / _rms(noise).clamp(min=1e-6)

    def _add_reverb(self, wavs, lengths):
        count, num_samples = wavs.shape
        files = torch.randint(len(self.rirs), (count,)).tolist()
        with ThreadPoolExecutor(_READING_THREADS) as pool:
            rirs = list(pool.map(lambda i: read_waveform(self.rirs[i]), files))
        fft_size = num_samples + max(len(rir) for rir in rirs)
        spectra = torch.stack([torch.fft.rfft(rir, fft_size) for rir in rirs])
        spectra = spectra.to(wavs.device) * torch.fft.rfft(wavs, fft_size)
        reverberated = torch.fft.irfft(spectra, fft_size)
        # Start at the direct sound, so that speech stays where it was.
        result = torch.stack(
            [
                row[direct : direct + num_samples]
                for row, direct in zip(
                    reverberated,
                    (int(rir.abs().argmax()) for rir in rirs),
                    strict=True,
                )
            ]
        )
        return result * _rms(wavs) / _rms(result).clamp(min=1e-6)


class SpecAugment(nn.Module):
    """Masks bands of mels and stretches of frames with zeros.

    Meant for features with their mean taken off, where zero is the mean. Made
    of the host's ``SpectrogramDrop``.

    Arguments
    ---------
    num_time_masks, num_mel_masks : int
        Masks per utterance along each axis.
    time_width, mel_width : int
        Greatest width of a mask in frames and in mels; the least is 0.

    Raises
    ------
    AttnError
        A number of masks is negative or not whole.

    Example
    -------
    >>> SpecAugment()(torch.rand(3, 200, 80), torch.ones(3)).shape
    torch.Size([3, 200, 80])
    """

    def __init__(
        self, num_time_masks=2, num_mel_masks=2, time_width=10, mel_width=8
    ):
        super().__init__()
        for name, count in (
            ("num_time_masks", num_time_masks),
            ("num_mel_masks", num_mel_masks),
        ):
            if not isinstance(count, int) or count < 0:
                raise AttnError(
                    f"{name}={count}: want a whole number, 0 for none. The "
                    "YAML files call it spec_masks."
                )
        self.drops = nn.Sequential(
            *(
                # Counts and widths from low to high; the host leaves the
                # highest width out.
                SpectrogramDrop(0, width + 1, count, count, "zeros", dim)
                for dim, count, width in (
                    (1, num_time_masks, time_width),
                    (2, num_mel_masks, mel_width),
                )
                if count
            )
        )

    def forward(self, feats, lengths):
        """Features [batch, frames, mels] with masks; lengths are not read."""
        if not len(self.drops):
            return feats
        return self.drops(feats.clone())  # the host's part writes in place


def _with_lengths(folder, key):
    """(path, samples at 16 kHz) of the audio of a folder, all of it usable."""
    paths = find_audio(folder, key)
    found = list(zip(paths, map_files(read_header, paths, key), strict=True))
    for path, header in found:
        if isinstance(header, AudioError):
            raise AudioError(
                f"{key}: {path}: {header}. Mend the file, or remove it."
            )
    return [(path, header.samples) for path, header in found]


def _rms(wavs):
    return wavs.square().mean(dim=-1, keepdim=True).sqrt()
