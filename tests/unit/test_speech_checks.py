"""Recordings of no use are told from speech, made up and real."""

import io
import re
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_attn.dataio.speech_checks import speech_fault
from speechbrain_attn.errors import AttnError

RATE = 16000
REAL = Path(__file__).parents[3] / "shared" / "speech" / "test.zip"


def syllables(seconds, rate=RATE, level=0.1):
    """Noise that swells and fades four times a second."""
    num_samples = int(seconds * rate)
    noise = np.random.normal(0, level, num_samples)
    return noise * np.sin(np.arange(num_samples) * 4 * np.pi / rate) ** 2


def with_pauses(speech, seconds):
    return np.r_[speech, np.random.normal(0, 1e-5, int(seconds * RATE))]


@pytest.mark.parametrize(
    ("waveform", "fault"),
    [
        (lambda: np.zeros(RATE), "is silent"),
        (lambda: np.random.normal(0, 1e-4, 5 * RATE), "is silent"),
        # A click is no sound to embed.
        (lambda: np.r_[np.zeros(RATE), 1.0, np.zeros(RATE)], "is silent"),
        (lambda: syllables(0.4), r"holds 0\.\d+ s of speech; want 0\.5 s"),
        (lambda: with_pauses(syllables(0.4), 60), "holds 0.* s of speech"),
        (lambda: np.random.normal(0, 0.1, 2 * RATE), "steady noise or tone"),
        (
            lambda: 0.5 * np.sin(np.arange(2 * RATE) * 0.1),
            r"steady .* by no more than \d\.\d dB",
        ),
        (
            lambda: np.clip(syllables(3, level=1.0), -1, 1),
            r"clipped: \d+\.\d % .* want 1 % at most",
        ),
        # Too loud for 16 bits, but never cut.
        (
            lambda: 100 * syllables(3),
            r"exceeds full scale: its peak is \d\d\.?\d*, want 1 .* divide",
        ),
        # Clipped, and beyond full scale by a codec.
        (
            lambda: (
                np.clip(syllables(3, level=1.0), -1, 1)
                + np.random.normal(0, 0.1, 3 * RATE)
            ),
            "is clipped",
        ),
        # Clipped first and turned down after.
        (
            lambda: 0.2 * np.clip(syllables(3, level=1.0), -1, 1),
            "is clipped",
        ),
    ],
)
@pytest.mark.parametrize("size", [7001, 10**9])
def test_recordings_of_no_use_are_told(waveform, fault, size):
    assert re.search(fault, speech_fault(blocks(waveform(), size), RATE))


def blocks(waveform, size):
    return [waveform[at : at + size] for at in range(0, len(waveform), size)]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("level", [0.01, 0.1, 0.2])
@pytest.mark.parametrize("size", [7001, 10**9])
def test_speech_passes_at_any_rate_and_level(rate, level, size):
    speech = syllables(3, rate, level)
    assert speech_fault(blocks(speech, size), rate) is None


def test_speech_passes_among_much_silence():
    assert speech_fault([with_pauses(syllables(2), 60)], RATE) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([], "hold no samples"),
        ([np.zeros(0)], "hold no samples"),
        ([np.zeros((2, 7))], r"one channel, got \(2, 7\)"),
    ],
)
def test_what_is_no_recording_is_refused(wrong, says):
    with pytest.raises(AttnError, match=says):
        speech_fault(wrong, RATE)


@pytest.mark.skipif(not REAL.exists(), reason=f"no recordings at {REAL}")
def test_real_speech_passes_and_what_was_done_to_it_does_not():
    with zipfile.ZipFile(REAL) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".opus"))
        names = names[:: len(names) // 30]
        assert len(names) >= 30
        found = []
        for name in names:
            speech, rate = soundfile.read(io.BytesIO(archive.read(name)))
            assert speech_fault([speech], rate) is None, name
            # A microphone that is turned up far too high, or off.
            loud = np.clip(speech * 8 / np.abs(speech).max(), -1, 1)
            found.append(speech_fault([loud], rate))
            found.append(speech_fault([speech * 1e-4], rate))
            found.append(speech_fault([speech[: int(0.4 * rate)]], rate))
    assert None not in found
    told = Counter(fault.split()[1] for fault in found)
    assert told["clipped:"] >= 0.9 * len(names)
    assert told["silent:"] >= len(names)
