"""Embeddings of many audio files, in batches of similar length."""

import functools
import logging
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from speechbrain_attn.dataio.audio import SAMPLE_RATE, read_waveform
from speechbrain_attn.dataio.batching import HOP_SAMPLES, pad_waveforms
from speechbrain_attn.dataio.headers import read_header
from speechbrain_attn.errors import AttnError, AudioError, TooShortError
from speechbrain_attn.lobes.features import batch_features

logger = logging.getLogger(__name__)

PRECISIONS = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_BUCKETS_AHEAD = 3  # read while the network works on one

# What torch says of a convolution or reflect padding wider than its input.
_TOO_SHORT = re.compile(
    r"Padding size should be less|Kernel size can't be greater"
)


def extract_embeddings(
    files,
    compute_features,
    mean_var_norm,
    embedding_model,
    device="cpu",
    batch_frames=12000,
    num_workers=2,
    progress=True,
    precision="fp32",
):
    """Embed audio files, each once.

    Utterances of similar length share a batch, and files are read in threads
    while the network works. A network whose parts all have the attribute
    ``exact_padding = True`` (features, normalisation and lobes of this
    package) takes padded batches; any other gets batches of one length, so
    that each utterance has the embedding that it has alone.

    The modules are moved to ``device``, run in eval mode, and left in the
    mode they came in.

    Arguments
    ---------
    files : dict
        Utterance id -> path of its audio file.
    compute_features : callable
        [batch, samples] -> [batch, frames, mels].
    mean_var_norm : callable
        (features, lengths) -> features.
    embedding_model : torch.nn.Module
        (features, lengths) -> [batch, 1, embedding_size], or without the 1.
    device : str or torch.device
    batch_frames : int
        Bound on the frames of a batch (10 ms each), padding included; a
        longer utterance is a batch of its own.
    num_workers : int
        Threads that read files, 1 or more.
    progress : bool
        True shows a bar, if stderr is a terminal.
    precision : str
        "fp32", or "bf16" or "fp16" to run the network under autocast.

    Returns
    -------
    embeddings : numpy.ndarray
        [utterances, embedding_size] float32.
    ids : list of str
        The utterance of each row, in the order of ``files``.

    Raises
    ------
    AudioError
        A file is missing or cannot be used; names file and utterance.
    TooShortError
        A file is shorter than one hop (10 ms), or than the network takes.
    AttnError
        ``files`` is empty, the precision is not known, or an embedding is
        not finite.
    """
    if precision not in PRECISIONS:
        raise AttnError(
            f"precision {precision!r} is not known; want one of "
            f"{', '.join(PRECISIONS)}."
        )
    if not files:
        raise AttnError("no utterances to embed; the mapping of files is empty")
    network = (compute_features, mean_var_norm, embedding_model)
    exact = _exact_padding(network)
    rows = {utterance: row for row, utterance in enumerate(files)}
    embeddings = None
    with (
        ThreadPoolExecutor(num_workers) as readers,
        tqdm(
            total=len(files), unit="utt", disable=None if progress else True
        ) as bar,
        _eval_mode(network, device),
        torch.inference_mode(),
    ):
        found = readers.map(_length, files.keys(), files.values())
        lengths = dict(zip(files, found, strict=True))
        buckets = _buckets(lengths, batch_frames * HOP_SAMPLES)
        for bucket in _read_ahead(buckets, files, readers):
            for batch in _batches(bucket, exact):
                part = _embed(batch, files, network, device, precision, exact)
                if embeddings is None:
                    shape = len(files), part.shape[1]
                    embeddings = np.empty(shape, dtype=np.float32)
                embeddings[[rows[utterance] for utterance in batch]] = part
                bar.update(len(batch))
    return embeddings, list(files)


def _exact_padding(network):
    """True where padding has no say in any part of the network."""
    inexact = [
        type(part).__name__
        for part in network
        if not getattr(part, "exact_padding", False)
    ]
    if inexact:
        _note_inexact(", ".join(inexact))
    return not inexact


@functools.cache  # once, not after every epoch of a training run
def _note_inexact(names):
    logger.info(
        "Padding may change what %s gives (exact_padding is not True there): "
        "only utterances of equal length share a batch.",
        names,
    )


@contextmanager
def _eval_mode(network, device):
    """Modules on the device in eval mode; then all as it was before."""
    modules = [part for part in network if isinstance(part, nn.Module)]
    before = {
        part: part.training for root in modules for part in root.modules()
    }
    for module in modules:
        module.to(device).eval()
    # Nearly every batch has a size of its own here, and training lets cuDNN
    # try its kernels on each new size.
    tuning = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = tuning
        # One by one: a module may hold frozen parts that stay in eval mode.
        for part, training in before.items():
            part.training = training


def _length(utterance, path):
    """Length in samples at 16 kHz, from the header where it can be read."""
    try:
        return read_header(str(path)).samples
    except AudioError:
        # Decoding says it too, and if it fails, what is wrong with the file.
        return len(_read(utterance, path))


def _read(utterance, path):
    """Waveform of an utterance, at least one hop long."""
    try:
        wav = read_waveform(path)
    except AudioError as error:
        raise AudioError(f"utterance {utterance!r}: {error}") from None
    if len(wav) < HOP_SAMPLES:
        raise TooShortError(
            f"utterance {utterance!r}: {path} lasts "
            f"{len(wav) / SAMPLE_RATE:.4f} s; the shortest that can be "
            f"embedded is {HOP_SAMPLES / SAMPLE_RATE} s. Remove it from the "
            "list."
        )
    return wav


def _buckets(lengths, max_samples):
    """Lists of utterances, longest first, each list within ``max_samples``."""
    buckets = []
    for utterance in sorted(lengths, key=lengths.get, reverse=True):
        longest = lengths[buckets[-1][0]] if buckets else 0
        if not buckets or (len(buckets[-1]) + 1) * longest > max_samples:
            buckets.append([])
        buckets[-1].append(utterance)
    return buckets


def _read_ahead(buckets, files, readers):
    """Yield buckets as {utterance: waveform}, with some being read ahead."""
    pending = deque()
    for bucket in buckets:
        pending.append(
            {utt: readers.submit(_read, utt, files[utt]) for utt in bucket}
        )
        if len(pending) > _BUCKETS_AHEAD:
            yield {utt: job.result() for utt, job in pending.popleft().items()}
    for bucket in pending:
        yield {utt: job.result() for utt, job in bucket.items()}


def _batches(bucket, exact):
    """Batches of a bucket; only of one length where padding has a say."""
    if exact:
        return [bucket]
    by_length = {}
    for utterance, wav in bucket.items():
        by_length.setdefault(len(wav), {})[utterance] = wav
    return by_length.values()


def _embed(batch, files, network, device, precision, exact):
    """Embeddings [batch, embedding_size] of {utterance: waveform}."""
    compute_features, mean_var_norm, embedding_model = network
    if exact:
        wavs, lengths = pad_waveforms(list(batch.values()))
    else:
        # No padding to whole hops either: as the network has it alone.
        wavs, lengths = (
            torch.stack(list(batch.values())),
            torch.ones(len(batch)),
        )
    wavs, lengths = wavs.to(device), lengths.to(device)
    feats = batch_features(compute_features, wavs, lengths)
    feats = mean_var_norm(feats, lengths)
    dtype = PRECISIONS[precision]
    try:
        with torch.autocast(
            wavs.device.type, dtype=dtype, enabled=dtype is not None
        ):
            embeddings = embedding_model(feats, lengths)
    except RuntimeError as error:
        if not _TOO_SHORT.search(str(error)):
            raise
        utterance = min(batch, key=lambda utterance: len(batch[utterance]))
        raise TooShortError(
            f"utterance {utterance!r}: {files[utterance]} lasts "
            f"{len(batch[utterance]) / SAMPLE_RATE:.4f} s, and its "
            f"{feats.shape[1]} frames are too few for the layers of "
            f"{type(embedding_model).__name__}. Remove it from the list."
        ) from None
    embeddings = embeddings.flatten(1).float().cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        utterance = list(batch)[bad[0]]
        raise AttnError(
            f"utterance {utterance!r}: its embedding is not finite "
            f"({files[utterance]}); are the weights finite, and is the "
            f"precision ({precision}) wide enough?"
        )
    return embeddings
