"""Noises and rooms for ``benchmarks/what_helps.py``, made without downloads."""

import numpy as np
import soundfile

from speechbrain_attn.dataio.audio import SAMPLE_RATE, read_waveform

SEED = 7
NUM_FILES = 60  # of each kind
NOISE_S = 10  # seconds of a noise
TALKERS = 5  # at once in babble
SLOPES = (0.0, 1.0)  # powers of 1 / f that a noise's amplitude falls with
REVERBERATION_S = (0.2, 0.8)  # until echoes have fallen by 60 dB
DIRECT_DB = (0.0, 12.0)  # direct sound over all echoes together
GAP_S = 0.002  # from the direct sound to the first echo


def make_noises(folder, files):
    """Babble of speech files, and noise of several colours."""
    draw = np.random.default_rng(SEED)
    for number in range(NUM_FILES):
        babble = sum(_talker(draw, files) for _ in range(TALKERS))
        _write(folder / f"babble{number:02d}.wav", babble)
        _write(folder / f"colour{number:02d}.wav", _coloured(draw))


def make_rooms(folder, _):
    """Impulse responses: the direct sound, and noise that dies away."""
    draw = np.random.default_rng(SEED)
    for number in range(NUM_FILES):
        seconds = draw.uniform(*REVERBERATION_S)
        when = np.arange(round(SAMPLE_RATE * seconds)) / SAMPLE_RATE
        response = draw.standard_normal(len(when)) * 10 ** (-3 * when / seconds)
        response[when < GAP_S] = 0
        response /= np.sqrt((response**2).sum())
        response *= 10 ** (-draw.uniform(*DIRECT_DB) / 20)
        response[0] = 1
        _write(folder / f"room{number:02d}.wav", response)


def _talker(draw, files):
    """Speech [samples] of one speaker's file, repeated to ``NOISE_S``."""
    speech = read_waveform(files[draw.integers(len(files))]).numpy()
    speech = speech / np.sqrt((speech**2).mean())
    return np.resize(speech, NOISE_S * SAMPLE_RATE)


def _coloured(draw):
    spectrum = np.fft.rfft(draw.standard_normal(NOISE_S * SAMPLE_RATE))
    falls = np.arange(len(spectrum)).clip(1) ** -draw.uniform(*SLOPES)
    return np.fft.irfft(spectrum * falls)


def _write(path, wav):
    """Whatever is there already is written again, the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.9 * wav / np.abs(wav).max(), SAMPLE_RATE)
