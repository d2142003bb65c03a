"""Audio files as blocks of a mono waveform, in memory that does not grow."""

import os

import numpy as np
import soundfile
import soxr
import torch

from speechbrain_attn.dataio.audio import av_blocks
from speechbrain_attn.dataio.headers import DECODED_BY_AV, SAMPLE_RATE
from speechbrain_attn.dataio.shards import open_audio, stored_in
from speechbrain_attn.errors import AudioError

_BLOCK_SECONDS = 20


def waveform_blocks(path, sample_rate=SAMPLE_RATE):
    """Yield an audio file in blocks, float32 tensors [samples].

    Joined they equal ``audio.read_waveform(path)``, bit by bit (of an mp3 file
    but for rounding): a soxr stream gives what soxr gives of the whole.

    Arguments
    ---------
    path : str or Path
        wav, flac, ogg, opus or mp3 file; m4a with the extra ``m4a`` installed.
    sample_rate : int
        Of the result, in samples per second.

    Raises
    ------
    AudioError
        The file is missing, cannot be decoded, holds no samples, or holds
        NaN or infinite samples. The message names the file.

    Example
    -------
    >>> import soundfile, tempfile
    >>> path = tempfile.mkdtemp() + "/a.wav"
    >>> soundfile.write(path, [0.0] * 30 * 8000, 8000)
    >>> sum(len(block) for block in waveform_blocks(path))
    480000
    """
    path = str(path)
    if not os.path.isfile(stored_in(path)):
        raise AudioError(f"{path}: no such audio file.")
    by_av = path.lower().endswith(DECODED_BY_AV)
    blocks = av_blocks(path) if by_av else _soundfile_blocks(path)
    num_samples = 0
    for samples in _resampled(blocks, sample_rate):
        if not np.isfinite(samples).all():
            raise AudioError(
                f"{path}: holds NaN or infinite samples near "
                f"{num_samples / sample_rate:.0f} s; write it again from its "
                "source, or leave it out."
            )
        num_samples += len(samples)
        if len(samples):
            yield torch.from_numpy(samples)
    if num_samples == 0:
        raise AudioError(
            f"{path}: holds no samples; is the file empty or cut short?"
        )


def _soundfile_blocks(path):
    """Yield ([samples, channels], rate), the last time an empty block."""
    try:
        with open_audio(path) as source, soundfile.SoundFile(source) as file:
            samples = None
            while samples is None or len(samples):
                samples = file.read(
                    _BLOCK_SECONDS * file.samplerate,
                    dtype="float32",
                    always_2d=True,
                )
                yield samples, file.samplerate
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(
            f"{path}: cannot be decoded ({error}); is it cut short, empty or "
            "not an audio file?"
        ) from None


def _resampled(blocks, sample_rate):
    """Blocks [samples] float32, channels averaged, at ``sample_rate``."""
    stream = None
    for samples, rate in blocks:
        if samples.shape[1] > 1:
            samples = samples.mean(axis=1, keepdims=True)
        samples = np.ascontiguousarray(samples[:, 0], dtype=np.float32)
        if rate != sample_rate:
            if stream is None:
                stream = soxr.ResampleStream(
                    rate, sample_rate, num_channels=1, dtype="float32"
                )
            samples = stream.resample_chunk(samples)
        yield samples
    if stream is not None:
        nothing = np.zeros(0, dtype=np.float32)
        yield stream.resample_chunk(nothing, last=True)
