"""Audio files read, and grouped by their length."""

from concurrent.futures import ThreadPoolExecutor

from speechbrain_attn.dataio.audio import SAMPLE_RATE, read_waveform
from speechbrain_attn.dataio.batching import HOP_SAMPLES, roomy
from speechbrain_attn.dataio.headers import read_header
from speechbrain_attn.errors import AttnError, AudioError, TooShortError

# Threads that read: more than cores, since a slow disk lets them wait.
NUM_READERS = 4


def header_lengths(files):
    """Length of each utterance in samples at 16 kHz; 0 where unreadable.

    ``files`` as for ``extract_embeddings``; AttnError if there are none.
    """
    if not files:
        raise AttnError("no utterances to embed; the mapping of files is empty")
    with ThreadPoolExecutor(NUM_READERS) as readers:
        found = readers.map(_length, files.keys(), files.values())
        return dict(zip(files, found, strict=True))


def refuse_unreadable(lengths, files):
    """Raise the error of the first file without a length, before any work."""
    for utterance, samples in lengths.items():
        if samples == 0:
            read_utterance(utterance, files[utterance])


def length_buckets(lengths, batch_frames):
    """Lists of utterances, longest first, each list within the bound.

    ``lengths`` are in samples, ``batch_frames`` counts padding to
    ``batching.roomy`` sizes, too. An utterance whose length is 0, not known,
    is alone: it may be long by the time that it is read.
    """
    buckets = []
    for utterance in sorted(lengths, key=lengths.get, reverse=True):
        fits = buckets and lengths[utterance] > 0
        if fits:
            frames = roomy(-(-lengths[buckets[-1][0]] // HOP_SAMPLES))
            fits = (len(buckets[-1]) + 1) * frames <= batch_frames
        if not fits:
            buckets.append([])
        buckets[-1].append(utterance)
    return buckets


def read_bucket(bucket, files):
    """{utterance: waveform} of a bucket, and {utterance: error}."""
    wavs, refused = {}, {}
    for utterance in bucket:
        try:
            wavs[utterance] = read_utterance(utterance, files[utterance])
        except (AudioError, TooShortError) as error:
            refused[utterance] = error
    return wavs, refused


def read_utterance(utterance, path):
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


def _length(utterance, path):
    """Length in samples at 16 kHz, 0 for a file that cannot be read."""
    try:
        return read_header(str(path)).samples
    except AudioError:
        # Where no header tells it, decoding must.
        return _decoded_length(utterance, path)


def _decoded_length(utterance, path):
    try:
        return len(read_utterance(utterance, path))
    except (AudioError, TooShortError):
        return 0  # reading it in its turn says why
