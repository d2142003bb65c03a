"""What makes a recording useless for speaker recognition, told by its level.

No recogniser is at work here: silence, a steady noise or tone, too little
sound and clipping show in the level alone. Music and a crowd pass for speech.
Levels are of frames of 20 ms, in dB below full scale (dBFS). Each constant is
set apart from what clean speech shows; ``tests/unit/test_speech_checks.py``
holds them against synthetic and real recordings.
"""

from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError

FRAME_S = 0.02
# The loud part of a recording: as long as a syllable, longer than a click.
LOUD_S = 0.2
# A loud part below this is silence. A voice is 20 to 40 dB louder, even one
# that was recorded at a low gain.
SILENT_DB = -60.0
# Frames as loud as this, measured from the loud part down, count as speech: the
# softest sounds of speech lie about 30 dB below its vowels.
SPEECH_DB = 30.0
# Speech of less than this is a syllable or two.
LEAST_SPEECH_S = 0.5
# From its loud to its quiet frames, the level of speech falls by 14 dB or more,
# and by 5 or more in most seconds; white noise as loud leaves 3 dB of it.
LEAST_CHANGE_DB = 3.0
QUIET_PERCENTILE = 5
# Samples as near as this to the peak, or to full scale, lie on a flat top. One
# sample in a thousand does at most in clean speech; where one in a hundred
# does, embeddings begin to be others than those of the same speech unclipped.
FLAT_TOP = 0.98
MOST_FLAT = 0.01
# Floats may exceed full scale without being cut. What was cut overshoots it
# after a codec, too: by more than this in 12 % of its flat tops at most, where
# speech that is three times too loud and whole does in 25 % or more.
OVERSHOOT = 1.3
MOST_OVER = 0.2


def speech_fault(blocks, sample_rate):
    """Why a recording is of no use for speaker recognition, or None.

    Arguments
    ---------
    blocks : iterable of numpy.ndarray
        The recording in blocks [samples] of any size, or all of it in one:
        floats of about [-1, 1], finite, one channel.
    sample_rate : int
        In samples per second.

    Returns
    -------
    str or None
        The first of these that it is, with what was measured: silent, of too
        little speech, a steady noise or tone, beyond full scale, clipped.

    Raises
    ------
    AttnError
        Not one axis, or no samples.

    Example
    -------
    >>> speech_fault([np.zeros(16000)], 16000)
    'is silent: its loudest 0.2 s are below -60 dBFS'
    """
    levels, tops, num_samples = _measured(blocks, sample_rate)
    loud = _loud_level(levels)
    if loud < SILENT_DB:
        return (
            f"is silent: its loudest {LOUD_S} s are below {SILENT_DB:.0f} dBFS"
        )
    is_speech = levels >= max(loud - SPEECH_DB, SILENT_DB)
    speech_s = FRAME_S * np.count_nonzero(is_speech)
    if speech_s < LEAST_SPEECH_S:
        return (
            f"holds {speech_s:.2f} s of speech; want {LEAST_SPEECH_S} s or more"
        )
    change = loud - np.percentile(levels, QUIET_PERCENTILE)
    if change < LEAST_CHANGE_DB:
        return (
            "is a steady noise or tone: its level changes by no more than "
            f"{change:.1f} dB"
        )
    flat = _num_flat(tops) / num_samples
    over = sum(top.over for top in tops) / num_samples
    if flat > MOST_FLAT and over > MOST_OVER * flat:
        highest = max(top.peak for top in tops)
        return (
            f"exceeds full scale: its peak is {highest:.4g}, want 1 at most; "
            "divide its samples by that"
        )
    if flat > MOST_FLAT:
        return (
            f"is clipped: {100 * flat:.1f} % of its samples are cut off, want "
            f"{100 * MOST_FLAT:.0f} % at most; record it at a lower gain"
        )
    return None


def _measured(blocks, sample_rate):
    """Levels [frames]; the ``_Top`` of each block; number of samples."""
    levels, tops, num_samples = [], [], 0
    for block in blocks:
        if block.ndim != 1:
            raise AttnError(
                f"blocks: want [samples] of one channel, got {block.shape}."
            )
        if len(block):
            levels.append(_frame_levels(block, sample_rate))
            tops.append(_top(block))
            num_samples += len(block)
    if num_samples == 0:
        raise AttnError("blocks: hold no samples.")
    return np.concatenate(levels), tops, num_samples


def _frame_levels(block, sample_rate):
    """Level of each frame of a block, [frames], in dBFS of its mean square.

    What does not fill the last frame is left out, unless it is the only one.
    """
    size = min(round(FRAME_S * sample_rate), len(block))
    frames = block[: len(block) // size * size].reshape(-1, size)
    power = np.einsum("ij,ij->i", frames, frames) / size
    return 10 * np.log10(np.maximum(power, 1e-12))


def _loud_level(levels):
    """The level that the loudest ``LOUD_S`` reach."""
    count = min(round(LOUD_S / FRAME_S), len(levels))
    return np.partition(levels, -count)[-count]


class _Top(NamedTuple):
    """The loudest samples of a block."""

    peak: float
    near: int  # samples near the peak, or near full scale and beyond
    over: int  # samples beyond ``OVERSHOOT``


def _top(block):
    peak = max(block.max(), -block.min())
    # What was clipped at full scale may overshoot it after a codec.
    near = FLAT_TOP * min(peak, 1.0)
    counts = [
        np.count_nonzero(block >= level) + np.count_nonzero(block <= -level)
        for level in (near, OVERSHOOT)
    ]
    return _Top(peak, *counts)


def _num_flat(tops):
    """Samples at the top of those blocks that come near the peak of all."""
    highest = min(max(top.peak for top in tops), 1.0)
    return sum(top.near for top in tops if top.peak >= FLAT_TOP * highest)
