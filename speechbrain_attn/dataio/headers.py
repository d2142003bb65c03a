"""Lengths, rates and channels of audio files, read without decoding them."""

import importlib.util
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import soundfile
from tqdm import tqdm

from speechbrain_attn.dataio.shards import open_audio, stored_in
from speechbrain_attn.errors import AudioError

DECODED_BY_AV = (".m4a", ".mp4", ".aac")
SAMPLE_RATE = 16000  # samples per second, everywhere in this package

# Headers of cached files are read faster by one thread than by several, but
# 0.1 ms each either way; on a cold disk or a network drive the waiting counts,
# and threads wait side by side.
_THREADS = 8
_BLOCK = 256  # files a task, so that a million files make few tasks

# libsndfile's note on a wav header that tells of more bytes than there are.
# Programs that write into a pipe put the largest number instead of the length.
_TOLD_BYTES = re.compile(r"data *: (\d+) \(should be (\d+)\)")
_ENDLESS_BYTES = 0x7FFF0000


class Header(NamedTuple):
    """Size of an audio file; ``cut_short`` says what is missing, if any."""

    frames: int  # samples of one channel at the file's own rate
    rate: int  # samples per second
    channels: int
    cut_short: str = ""

    @property
    def samples(self):
        """Samples at 16 kHz, as manifests count them."""
        return self.frames * SAMPLE_RATE // self.rate

    @property
    def duration(self):
        """Seconds."""
        return self.frames / self.rate


def can_decode_m4a():
    """Whether PyAV, which decodes m4a, is installed."""
    return importlib.util.find_spec("av") is not None


def read_header(path):
    """Read the ``Header`` of an audio file.

    Raises
    ------
    AudioError
        The file is missing, empty, cut short (flac, m4a) or no audio file;
        the message is the reason alone, without the path.

    Example
    -------
    >>> import soundfile, tempfile
    >>> path = tempfile.mkdtemp() + "/a.wav"
    >>> soundfile.write(path, [0.0] * 4000, 8000)
    >>> read_header(path).samples
    8000
    """
    try:
        if os.path.getsize(stored_in(path)) == 0:
            raise AudioError("the file is empty")
        with open_audio(path) as source:
            if path.lower().endswith(DECODED_BY_AV):
                header = _m4a_header(source)
            else:
                header = _soundfile_header(source)
    except OSError as error:
        raise AudioError(error.strerror) from None
    if header.frames <= 0:
        raise AudioError("the file holds no samples")
    return header


def _soundfile_header(source):
    try:
        file = soundfile.SoundFile(source)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise AudioError(reason or "this is no audio file") from None
    with file:
        header = Header(file.frames, file.samplerate, file.channels)
        if file.format == "FLAC" and file.frames:
            _reach_the_end(file)
        told = _TOLD_BYTES.search(file.extra_info)
        if told and int(told[2]) < int(told[1]) < _ENDLESS_BYTES:
            header = header._replace(
                cut_short=f"{header.duration:.2f} s are there, more were told"
            )
        return header


def _reach_the_end(file):
    # The header of a flac file that was cut short still tells the whole
    # length. Only going to the end shows that it is missing.
    try:
        file.seek(file.frames - 1)
        last = file.read(1)
    except soundfile.LibsndfileError:
        last = ()
    if len(last) == 0:
        raise AudioError("the file is cut short")


def _m4a_header(source):
    if not can_decode_m4a():
        raise AudioError("m4a needs PyAV: pip install av")
    import av

    try:
        with av.open(source) as container:
            if not container.streams.audio:
                raise AudioError("the file holds no sound")
            stream = container.streams.audio[0]
            if stream.duration is None:
                raise AudioError("the header does not tell the length")
            frames = int(stream.duration * stream.time_base * stream.rate)
            return Header(frames, stream.rate, stream.channels)
    except av.error.FFmpegError as error:
        raise AudioError(error.strerror) from None


def map_files(function, items, title):
    """Apply a function to every item in threads, behind a progress bar.

    Arguments
    ---------
    function : callable
        Of one item. An AudioError that it raises becomes its result.
    items : list
        Usually paths.
    title : str
        Text before the bar, which shows on a terminal only.

    Returns
    -------
    list
        One result an item, in their order.
    """

    def run(block):
        return [_result_or_error(function, item) for item in block]

    blocks = [items[at : at + _BLOCK] for at in range(0, len(items), _BLOCK)]
    results = []
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(total=len(items), desc=title, unit="file", disable=None) as bar,
    ):
        for block in pool.map(run, blocks):
            results += block
            bar.update(len(block))
    return results


def _result_or_error(function, item):
    try:
        return function(item)
    except AudioError as error:
        return error
