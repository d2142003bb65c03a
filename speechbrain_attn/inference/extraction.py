"""Embeddings of many audio files, in batches of similar length."""

import contextlib
import functools
import logging
import re
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.dataio.batching import padded_features
from speechbrain_attn.dataio.headers import read_header
from speechbrain_attn.errors import AttnError, AudioError, TooShortError
from speechbrain_attn.inference.buckets import (
    NUM_READERS,
    header_lengths,
    length_buckets,
    read_bucket,
    refuse_unreadable,
)
from speechbrain_attn.inference.long_audio import (
    LONG_S,
    can_embed_in_blocks,
    embed_long_audio,
)
from speechbrain_attn.lobes.features import batch_features
from speechbrain_attn.precision import PRECISIONS, warn_if_slow

logger = logging.getLogger(__name__)

# Smaller batches spend more of a CPU's time on getting ready, larger ones leave
# its caches; an accelerator likes to be filled.
_BATCH_FRAMES = {"cpu": 6000}
_BATCH_FRAMES_ELSEWHERE = 12000
# What torch says of a convolution or reflect padding wider than its input.
_TOO_SHORT = re.compile(
    r"Padding size should be less|Kernel size can't be greater"
)


class Job(NamedTuple):
    """What all batches of an extraction share; as ``extract_embeddings``."""

    files: dict
    network: tuple  # compute_features, mean_var_norm, embedding_model
    device: object
    precision: str


class Part(NamedTuple):
    """What came of the utterances of one bucket."""

    utterances: list  # those that have an embedding
    embeddings: np.ndarray  # [utterances, embedding_size] float32
    samples: list  # length of each at 16 kHz
    refused: dict  # utterance -> AttnError that says why it has none


def extract_embeddings(
    files,
    compute_features,
    mean_var_norm,
    embedding_model,
    device="cpu",
    batch_frames=None,
    progress=True,
    precision="fp32",
):
    """Embed audio files, each once, and keep the result in memory.

    Utterances of similar length share a batch. A network whose parts all have
    the attribute ``exact_padding = True`` (features, normalisation and lobes
    of this package) takes padded batches; any other gets batches of one
    length, so that each utterance has the embedding that it has alone. On a
    CPU as many batches are at work as torch has threads, each on one of them.
    A recording beyond ``long_audio.LONG_S`` is embedded in blocks where the
    network allows it, in fp32, so that memory does not grow with its length.

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
        longer utterance is a batch of its own. None: as suits the device.
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
    network = (compute_features, mean_var_norm, embedding_model)
    job = Job(files, network, device, precision)
    settings = batch_settings(device, precision, batch_frames)
    lengths = header_lengths(files)
    refuse_unreadable(lengths, files)
    buckets = length_buckets(lengths, settings["batch_frames"])
    rows = {utterance: row for row, utterance in enumerate(files)}
    embeddings = None
    parts = embedded_parts(buckets, job)
    with progress_bar(len(files), progress) as bar, contextlib.closing(parts):
        for part in parts:
            for error in part.refused.values():
                raise error
            if embeddings is None:
                shape = len(files), part.embeddings.shape[1]
                embeddings = np.empty(shape, dtype=np.float32)
            embeddings[[rows[utt] for utt in part.utterances]] = part.embeddings
            bar.update(len(part.utterances))
    return embeddings, list(files)


def batch_settings(device, precision, batch_frames=None):
    """What, beside network and files, an embedding's last bits depend on."""
    if precision not in PRECISIONS:
        raise AttnError(
            f"precision {precision!r} is not known; want one of "
            f"{', '.join(PRECISIONS)}."
        )
    kind = torch.device(device).type
    if batch_frames is None:
        batch_frames = _BATCH_FRAMES.get(kind, _BATCH_FRAMES_ELSEWHERE)
    return {
        "device": kind,
        "precision": precision,
        "batch_frames": batch_frames,
    }


def progress_bar(total, progress, done=0):
    """A bar of utterances; none where stderr is no terminal."""
    return tqdm(
        total=total,
        initial=done,
        unit="utt",
        disable=None if progress else True,
    )


def embedded_parts(buckets, job):
    """Yield the ``Part`` of each bucket, in order; close the generator.

    A file that cannot be read or embedded is among the part's refused ones,
    and does not hinder the others.
    """
    warn_if_slow(job.precision, job.device)
    exact = _exact_padding(job.network)
    # Only of our own modules is it known that a forward pass changes nothing
    # in them, so that one may begin before another ends.
    turn = contextlib.nullcontext() if exact else threading.Lock()
    num_threads, start_thread = NUM_READERS, None
    if exact and torch.device(job.device).type == "cpu":
        # Batches side by side on a core each do not wait for one another, as
        # the cores of one batch do after every layer.
        num_threads = torch.get_num_threads()
        start_thread = functools.partial(torch.set_num_threads, 1)

    def work(bucket):
        if len(bucket) == 1 and _goes_in_blocks(bucket[0], job):
            return _embed_in_blocks(bucket[0], job)
        wavs, refused = read_bucket(bucket, job.files)
        with turn, torch.inference_mode():
            return _embed_bucket(wavs, refused, job, exact)

    with (
        _inference_state(job.network, job.device),
        ThreadPoolExecutor(num_threads, initializer=start_thread) as pool,
    ):
        pending = deque()
        try:
            for bucket in buckets:
                pending.append(pool.submit(work, bucket))
                if len(pending) > 2 * num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


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


@contextlib.contextmanager
def _inference_state(network, device):
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
    num_threads = torch.get_num_threads()
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = tuning
        torch.set_num_threads(num_threads)
        # One by one: a module may hold frozen parts that stay in eval mode.
        for part, training in before.items():
            part.training = training


def _goes_in_blocks(utterance, job):
    """Whether an utterance is long, and the network takes it in blocks."""
    try:
        header = read_header(str(job.files[utterance]))
    except AudioError:
        return False  # reading it says why
    return (
        header.duration > LONG_S
        and PRECISIONS[job.precision] is None
        and can_embed_in_blocks(*job.network)
    )


def _embed_in_blocks(utterance, job):
    """``Part`` of one long utterance."""
    path = str(job.files[utterance])
    try:
        row = embed_long_audio(path, *job.network)
    except AttnError as error:
        refused = {utterance: type(error)(f"utterance {utterance!r}: {error}")}
        return Part([], np.zeros((0, 0), np.float32), [], refused)
    return Part([utterance], row[None], [read_header(path).samples], {})


def _embed_bucket(wavs, refused, job, exact):
    """``Part`` of {utterance: waveform} and of those refused before."""
    rows = {}
    batches = list(_batches(wavs, exact))
    while batches:
        batch = batches.pop(0)
        try:
            found = _embed(batch, job, exact)
        except TooShortError as error:
            refused[_shortest(batch)] = error
            rest = {utt: batch[utt] for utt in batch if utt not in refused}
            batches += [rest] if rest else []
            continue
        for utterance, row in zip(batch, found, strict=True):
            if np.isfinite(row).all():
                rows[utterance] = row
                continue
            refused[utterance] = AttnError(
                f"utterance {utterance!r}: its embedding is not finite "
                f"({job.files[utterance]}); are the weights finite, and is "
                f"the precision ({job.precision}) wide enough?"
            )
    embeddings = np.array(list(rows.values()), dtype=np.float32)
    samples = [len(wavs[utterance]) for utterance in rows]
    return Part(list(rows), embeddings, samples, refused)


def _batches(wavs, exact):
    """Batches of a bucket; only of one length where padding has a say."""
    if exact:
        return [wavs] if wavs else []
    by_length = {}
    for utterance, wav in wavs.items():
        by_length.setdefault(len(wav), {})[utterance] = wav
    return by_length.values()


def _shortest(batch):
    return min(batch, key=lambda utterance: len(batch[utterance]))


def _embed(batch, job, exact):
    """Embeddings [batch, embedding_size] of {utterance: waveform}."""
    compute_features, mean_var_norm, embedding_model = job.network
    if exact:
        feats, lengths = padded_features(
            compute_features, list(batch.values()), job.device, few_sizes=True
        )
    else:
        # No padding to whole hops either: as the network has it alone.
        wavs = torch.stack(list(batch.values())).to(job.device)
        lengths = torch.ones(len(batch), device=job.device)
        feats = batch_features(compute_features, wavs, lengths)
    feats = mean_var_norm(feats, lengths)
    dtype = PRECISIONS[job.precision]
    try:
        with torch.autocast(
            feats.device.type, dtype=dtype, enabled=dtype is not None
        ):
            embeddings = embedding_model(feats, lengths)
    except RuntimeError as error:
        if not _TOO_SHORT.search(str(error)):
            raise
        utterance = _shortest(batch)
        raise TooShortError(
            f"utterance {utterance!r}: {job.files[utterance]} lasts "
            f"{len(batch[utterance]) / SAMPLE_RATE:.4f} s, and its "
            f"{feats.shape[1]} frames are too few for the layers of "
            f"{type(embedding_model).__name__}. Remove it from the list."
        ) from None
    return embeddings.flatten(1).float().cpu().numpy()
