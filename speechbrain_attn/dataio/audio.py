"""Audio files as mono waveforms at one sample rate."""

import os

import numpy as np
import soundfile
import soxr
import torch

from speechbrain_attn.dataio.headers import DECODED_BY_AV, SAMPLE_RATE
from speechbrain_attn.dataio.shards import open_audio, stored_in
from speechbrain_attn.errors import AudioError


def read_waveform(path, start=0, stop=None, sample_rate=SAMPLE_RATE):
    """Read a stretch of an audio file as a float32 tensor, [samples].

    Only the stretch is decoded. Channels are averaged and another sample rate
    is converted (soxr).

    Arguments
    ---------
    path : str or Path
        wav, flac, ogg, opus or mp3 file, or a member of a shard; m4a with the
        extra ``m4a`` installed.
    start, stop : int
        First sample and the one after the last, counted at ``sample_rate``;
        ``stop=None`` reads to the end.
    sample_rate : int
        Of the result, in samples per second.

    Raises
    ------
    AudioError
        The file is missing, cannot be decoded, holds no samples in the
        stretch, or holds NaN or infinite samples. The message names the file.

    Example
    -------
    >>> import soundfile, tempfile
    >>> path = tempfile.mkdtemp() + "/a.wav"
    >>> soundfile.write(path, [0.0] * 8000, 16000)
    >>> read_waveform(path, start=1000, stop=5000).shape
    torch.Size([4000])
    """
    path = str(path)
    if not os.path.isfile(stored_in(path)):
        raise AudioError(f"{path}: no such audio file.")
    if path.lower().endswith(DECODED_BY_AV):
        samples, rate = _read_with_av(path)
        samples = samples[_at(start, rate, sample_rate) :]
        if stop is not None:
            samples = samples[: _at(stop - start, rate, sample_rate)]
    else:
        samples, rate = _read_with_soundfile(path, start, stop, sample_rate)
    if samples.shape[1] > 1:
        samples = samples.mean(axis=1, keepdims=True)
    samples = samples[:, 0]
    if rate != sample_rate:
        samples = soxr.resample(samples, rate, sample_rate)
    if len(samples) == 0:
        raise AudioError(
            f"{path}: no samples from {start} to {stop or 'the end'}; is the "
            "file empty or cut short? Remove it from the list, or replace it."
        )
    if not np.isfinite(samples).all():
        raise AudioError(
            f"{path}: holds NaN or infinite samples; write it again from its "
            "source, or remove it from the list."
        )
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))


def _at(index, file_rate, sample_rate):
    """A sample index at ``sample_rate`` as one at the file's own rate."""
    return index * file_rate // sample_rate


def _read_with_soundfile(path, start, stop, sample_rate):
    try:
        with open_audio(path) as source, soundfile.SoundFile(source) as file:
            rate = file.samplerate
            file.seek(min(_at(start, rate, sample_rate), file.frames))
            count = -1
            if stop is not None:
                count = _at(stop - start, rate, sample_rate)
            return file.read(count, dtype="float32", always_2d=True), rate
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(
            f"{path}: cannot be decoded ({error}); is it cut short, empty or "
            "not an audio file?"
        ) from None


def _read_with_av(path):
    blocks, rates = zip(*av_blocks(path), strict=True)
    return np.concatenate(blocks), rates[0]


def av_blocks(path):
    """Yield an m4a file as ([samples, 1] float32, its sample rate).

    Channels are averaged. The first block is empty, so that a file without
    sound has a rate, too.

    Raises
    ------
    AudioError
        PyAV is not installed, or the file cannot be decoded.
    """
    try:
        import av
    except ImportError:
        raise AudioError(
            f"{path}: m4a and aac need PyAV; pip install av, or convert the "
            "corpus to wav or flac."
        ) from None
    try:
        with open_audio(path) as source, av.open(source) as container:
            stream = container.streams.audio[0]
            planar = av.AudioResampler(format="fltp")
            yield np.zeros((0, 1), dtype=np.float32), stream.rate
            for frame in container.decode(stream):
                for block in planar.resample(frame):
                    mono = block.to_ndarray().mean(axis=0, keepdims=True)
                    yield mono.T, stream.rate
    except (av.error.FFmpegError, IndexError) as error:
        raise AudioError(f"{path}: cannot be decoded ({error}).") from None
