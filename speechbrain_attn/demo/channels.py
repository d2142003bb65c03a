"""Recording channels: filter, room, noise and level of a session."""

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve, firwin2

_FILTER_TAPS = 129


@dataclass(frozen=True)
class Channel:
    """What happens to speech between the mouth and the file.

    Attributes
    ----------
    response : numpy.ndarray
        [taps] microphone filter and room in one, at 16 kHz.
    noise_filter : numpy.ndarray
        [taps] that colours the noise.
    snr_db : float
        Speech above noise, in dB.
    level_db : float
        Root mean square of the speech, in dB of full scale.
    """

    response: np.ndarray
    noise_filter: np.ndarray
    snr_db: float
    level_db: float


def draw_channel(rng, sample_rate=16000):
    """Draw a gentle channel; ``rng`` is a numpy.random.Generator."""
    microphone = _draw_filter(rng, sample_rate, spread_db=3.0)
    room = _draw_room(rng, sample_rate)
    return Channel(
        response=np.convolve(microphone, room),
        noise_filter=_draw_filter(rng, sample_rate, spread_db=10.0),
        snr_db=rng.uniform(20.0, 35.0),
        level_db=rng.uniform(-32.0, -20.0),
    )


def apply_channel(channel, speech, rng):
    """Speech [samples] as recorded through a channel, float32 [samples]."""
    wet = fftconvolve(speech, channel.response)[: len(speech)]
    wet *= 10 ** (channel.level_db / 20) / _rms(wet)
    noise = rng.standard_normal(len(wet) + len(channel.noise_filter) - 1)
    noise = fftconvolve(noise, channel.noise_filter, mode="valid")
    noise *= 10 ** ((channel.level_db - channel.snr_db) / 20) / _rms(noise)
    return np.clip(wet + noise, -1.0, 1.0).astype(np.float32)


def _rms(samples):
    return np.sqrt(np.mean(samples**2))


def _draw_filter(rng, sample_rate, spread_db):
    """Linear-phase filter through random gains at seven frequencies."""
    corners = np.array([0, 150, 400, 1000, 2200, 4500, sample_rate / 2])
    gains_db = rng.normal(0.0, spread_db, len(corners))
    frequencies = np.linspace(0, sample_rate / 2, 65)
    smooth_db = np.interp(frequencies, corners, gains_db)
    return firwin2(
        _FILTER_TAPS, frequencies, 10 ** (smooth_db / 20), fs=sample_rate
    )


def _draw_room(rng, sample_rate):
    """Direct sound and a weak tail of decaying noise."""
    decay_s = rng.uniform(0.1, 0.25)  # until the tail is 60 dB down
    direct_to_tail_db = rng.uniform(8.0, 18.0)
    time_s = np.arange(int(decay_s * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / decay_s)
    tail[: sample_rate // 500] = 0.0  # the first reflection comes after 2 ms
    tail *= 10 ** (-direct_to_tail_db / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail
