"""Recordings as commands are given them: names, checked audio, embeddings."""

import atexit
import glob
import os
import sys
import tempfile

from speechbrain_attn.cli.common import progress, say, say_once
from speechbrain_attn.errors import AttnError, AudioError

# Of the files of a folder, these are taken; a file that is named may have any
# name. All but those of the last line are libsndfile's.
AUDIO_EXTENSIONS = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aif", ".aiff", ".au", ".caf", ".rf64", ".sph", ".w64"),
    *(".m4a", ".mp4", ".aac"),
)
# Every kind of audio has a zero among its first bytes, and no name has one.
_HEAD = 4096
_copies = {}  # path as it is shown -> file, of a recording that came on stdin


def audio_paths(arguments):
    """Paths of audio files, as a command was given them.

    Arguments
    ---------
    arguments : list of str
        Files, which need not be there (reading them says so); folders, for
        the audio files below them; patterns such as ``**/*.wav``; ``-`` for
        names on stdin, one a line, or for one recording there.

    Returns
    -------
    list of str
        In the order given, each once; those of a folder sorted; ``-`` for
        the recording on stdin. ``file_of`` tells where each is read.

    Raises
    ------
    AttnError
        A folder holds no audio, a pattern fits no file, nothing is on stdin,
        or there is no room for a recording that is.
    """
    paths = []
    for argument in map(str, arguments):
        names = _from_stdin() if argument == "-" else [argument]
        for name in names:
            paths += [name] if name in _copies else _expanded(name)
    return list(dict.fromkeys(paths))


def file_of(path):
    """The file of a path of ``audio_paths``: of ``-``, a copy of stdin."""
    return _copies.get(path, path)


def _expanded(name):
    if os.path.isdir(name):
        return _files_below(name)
    if os.path.exists(name) or not glob.has_magic(name):
        return [name]
    found = sorted(glob.glob(name, recursive=True))
    files = [path for path in found if not os.path.isdir(path)]
    if files:
        return files
    if not found:
        raise AttnError(f"{name}: no file fits this pattern.")
    # Folders alone: as the shell would have named them.
    return [path for folder in found for path in _files_below(folder)]


def _files_below(folder):
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        # A link to a folder above would show all of it once more.
        place = os.path.realpath(parent)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        # Hidden ones are no speech: macOS leaves ._00001.wav in archives.
        # Links come last: what lies here goes by its own name.
        folders[:] = sorted(
            (one for one in folders if one[0] != "."),
            key=lambda one: (os.path.islink(os.path.join(parent, one)), one),
        )
        found += [
            os.path.join(parent, name)
            for name in sorted(names)
            if name[0] != "." and name.lower().endswith(AUDIO_EXTENSIONS)
        ]
    if not found:
        raise AttnError(
            f"{folder}: no audio files there; want names that end in "
            f"{', '.join(AUDIO_EXTENSIONS)}."
        )
    return found


def _from_stdin():
    """Names on stdin, or ``-`` where there is a recording, which is copied."""
    content = sys.stdin.buffer.read()
    if b"\0" in content[:_HEAD]:
        try:
            folder = tempfile.TemporaryDirectory()
            atexit.register(folder.cleanup)
            path = os.path.join(folder.name, "stdin")
            with open(path, "wb") as file:
                file.write(content)
        except OSError as error:
            raise AttnError(
                f"-: cannot be kept in {tempfile.gettempdir()} "
                f"({error.strerror}). Set TMPDIR to a folder with more room."
            ) from None
        _copies["-"] = path
        return ["-"]
    lines = os.fsdecode(content).splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise AttnError(
            "-: want names of audio files on standard input, one a line, or "
            "one recording; nothing is there."
        )
    return names


def read_speech(path, model, anyway=False):
    """Waveform [samples] of a file, mono, at the model's sample rate.

    Arguments
    ---------
    path : str
    model : hub.model.SpeakerModel
    anyway : bool
        Of ``AnywayOption``: True only says what would be refused.

    Raises
    ------
    AudioError
        The file cannot be read, is shorter than one hop, or it is silent,
        clipped or holds too little speech (``dataio.speech_checks``).
    """
    try:
        waveform = model.load_audio(file_of(path))
    except AudioError as error:
        raise AudioError(str(error).replace(file_of(path), path)) from None
    _say_what_is_done(path, _header(path), model.sample_rate)
    _check_speech(path, [waveform], model.sample_rate, anyway)
    return waveform


def embed_files(paths, model, anyway=False, quiet=False):
    """Embeddings of audio files, however long, without those of no use.

    Arguments
    ---------
    paths : list of str
        Of ``audio_paths``.
    model : hub.model.SpeakerModel
    anyway : bool
        As for ``read_speech``.
    quiet : bool
        As for ``progress``.

    Returns
    -------
    embeddings : dict
        Path -> [embedding_size] float32.
    refused : dict
        Path -> why it has none; each was said on stderr.
    """
    embeddings, refused = {}, {}
    for path in progress(paths, "embedding", quiet=quiet):
        try:
            embeddings[path] = _embed_file(path, model, anyway)
        except AttnError as error:
            refused[path] = _refusal(path, error)
    return embeddings, refused


def refused_files(paths, model, anyway=False, quiet=False):
    """Files that ``embed_files`` would refuse to read, path -> why."""
    from speechbrain_attn.dataio.audio_blocks import waveform_blocks

    refused = {}
    for path in progress(list(paths), "checking", quiet=quiet):
        header = _header(path)
        blocks = waveform_blocks(file_of(path), model.sample_rate)
        try:
            _check_speech(path, blocks, model.sample_rate, anyway)
            _say_what_is_done(path, header, model.sample_rate)
        except AudioError as error:
            refused[path] = _refusal(path, error)
    return refused


def _refusal(path, error):
    """Why a file is refused, which is said on stderr."""
    reason = str(error).replace(file_of(path), path).removeprefix(f"{path}: ")
    say(f"{path}: {reason}")
    return reason


def _embed_file(path, model, anyway):
    """Embedding [embedding_size] of a file, checked as by ``read_speech``."""
    import numpy as np
    import torch

    from speechbrain_attn.dataio.audio_blocks import waveform_blocks
    from speechbrain_attn.dataio.headers import SAMPLE_RATE
    from speechbrain_attn.inference.long_audio import (
        LONG_S,
        can_embed_in_blocks,
        embed_long_audio,
    )

    header, network = _header(path), model.network
    is_long = header is not None and header.duration > LONG_S
    at_16_khz = model.sample_rate == SAMPLE_RATE  # as blocks are read
    if is_long and at_16_khz and can_embed_in_blocks(*network):
        _say_what_is_done(path, header, model.sample_rate)
        blocks = waveform_blocks(file_of(path), model.sample_rate)
        _check_speech(path, blocks, model.sample_rate, anyway)
        return embed_long_audio(file_of(path), *network)
    waveform = read_speech(path, model, anyway)
    with torch.inference_mode():
        embedding = model.encode_batch(waveform).flatten().float()
    embedding = embedding.cpu().numpy()
    if not np.isfinite(embedding).all():
        raise AttnError(
            "its embedding is not finite; are the weights of the model?"
        )
    return embedding


def _header(path):
    """Header of an audio file; None where it tells no length."""
    from speechbrain_attn.dataio.headers import read_header

    try:
        return read_header(file_of(path))
    except AudioError:
        return None  # decoding the file says what is wrong with it, if anything


def seconds_of(path, model):
    """Duration of an audio file that can be read."""
    header = _header(path)
    if header is not None:
        return header.duration
    return len(model.load_audio(file_of(path))) / model.sample_rate


def _say_what_is_done(path, header, sample_rate):
    """Say that a file lacks its end and, the first time, what is converted."""
    if header is not None and header.cut_short:
        say(f"{path}: is cut short: {header.cut_short}; used as it is.")
    if header is None or header[1:3] == (sample_rate, 1):
        return
    channels = "1 channel"
    if header.channels > 1:
        channels = f"{header.channels} channels"
    say_once(
        "conversion",
        f"{path}: {header.rate:,} Hz, {channels}; such files are converted to "
        f"{sample_rate:,} Hz, mono (said once)",
    )


def _check_speech(path, blocks, sample_rate, anyway):
    """Refuse, or only say, what is of no use; blocks are torch tensors."""
    from speechbrain_attn.dataio.batching import HOP_SAMPLES
    from speechbrain_attn.dataio.speech_checks import speech_fault

    lengths = []

    def counted():
        for block in blocks:
            lengths.append(len(block))
            yield block.cpu().numpy()

    fault = speech_fault(counted(), sample_rate)
    if sum(lengths) < HOP_SAMPLES:
        raise AudioError(
            f"{path}: lasts {sum(lengths) / sample_rate:.4f} s; the shortest "
            f"that can be embedded is {HOP_SAMPLES / sample_rate} s."
        )
    if fault and not anyway:
        raise AudioError(f"{path}: {fault}. --anyway uses it all the same.")
    if fault:
        say(f"{path}: {fault}; used all the same.")
