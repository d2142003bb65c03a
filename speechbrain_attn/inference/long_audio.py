"""The embedding of one recording, however long, as of one pass over it."""

import copy

import numpy as np
import torch

from speechbrain_attn.dataio.audio_blocks import waveform_blocks
from speechbrain_attn.dataio.headers import SAMPLE_RATE
from speechbrain_attn.errors import AttnError, AudioError, TooShortError
from speechbrain_attn.inference.scratch import Scratch
from speechbrain_attn.nnet.streaming import (
    BLOCK_FRAMES,
    InPasses,
    encoded_blocks,
    pool_in_passes,
    pool_so_far,
)

# Seconds from which on a recording had better be embedded in blocks: the same
# result, and the time is that of one pass.
LONG_S = 300
_FEW_HOPS = 100  # less than a second waits for more before features are made


def embed_long_audio(path, compute_features, mean_var_norm, embedding_model):
    """Embed a whole audio file in memory that does not grow with its length.

    The result is that of one pass over the whole file, up to rounding.

    Arguments
    ---------
    path : str or Path
        Any file that ``audio.read_waveform`` takes.
    compute_features, mean_var_norm, embedding_model
        As for ``LongAudio``.

    Returns
    -------
    numpy.ndarray
        [embedding_size] float32.

    Raises
    ------
    AudioError
        The file is missing or cannot be used; names it.
    AttnError
        As ``LongAudio``.
    """
    audio = LongAudio(compute_features, mean_var_norm, embedding_model)
    for wav in waveform_blocks(path):
        audio.feed(wav)
    return audio.finish()


def can_embed_in_blocks(compute_features, mean_var_norm, embedding_model):
    """Whether ``LongAudio`` takes these parts."""
    try:
        _check_parts(compute_features, mean_var_norm, embedding_model)
    except AttnError:
        return False
    return True


class LongAudio:
    """One recording that comes in pieces, and its embedding.

    ``feed`` takes pieces of any size. ``finish`` gives the embedding that the
    whole recording has in one pass. ``embedding`` may be asked for at any time
    before; it costs the network's time for what came since it was last asked,
    and differs from one pass over the audio so far in this:

    - An encoded block keeps the features' mean and floor of its time; later
      audio does not change what earlier audio gave.
    - A pooling with several passes (serialized attention) takes what a pass
      needs of those before from the audio so far.
    - The last few hundredths of a second, which a window of the features looks
      beyond, wait for what comes next.

    Features are kept in a scratch file (``scratch.Scratch``; 320 bytes for each
    10 ms at 80 features), since the floor and the mean of the whole recording
    are known at its end only. ``finish`` keeps the encoder's frames in another
    one if the pooling has several passes: to encode them anew for each would
    take an encoder's time twelve times for six serialized layers.

    Arguments
    ---------
    compute_features, mean_var_norm, embedding_model : torch.nn.Module
        Of this package, in eval mode, on one device. The network is a
        ``PooledEncoder`` on ``TDNNEncoder`` or ``VGGEncoder``; an LSTM or an
        encoder that sums up the whole utterance on its way cannot be taken.

    Raises
    ------
    AttnError
        A part cannot work in blocks, or is in training mode.

    Example
    -------
    >>> from speechbrain_attn.lobes.features import Fbank, SentenceNormalization
    >>> from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
    >>> network = SerializedMHA(input_size=80, channels=(64, 64, 64)).eval()
    >>> features, norm = Fbank().eval(), SentenceNormalization().eval()
    >>> audio = LongAudio(features, norm, network)
    >>> for _ in range(3):
    ...     audio.feed(torch.rand(16000))
    >>> audio.embedding().shape, audio.finish().shape
    ((256,), (256,))
    """

    def __init__(self, compute_features, mean_var_norm, embedding_model):
        _check_parts(compute_features, mean_var_norm, embedding_model)
        self._features = compute_features
        self._norm = mean_var_norm
        self._network = embedding_model
        self._device = next(embedding_model.parameters()).device
        self._num_samples = 0
        self._finished = False
        # Samples whose frames are to come, after hops whose frames are known.
        self._waiting = torch.zeros(0)
        self._known_hops = 0
        self._raw = Scratch(compute_features.output_size)
        self._features_state = compute_features.start()
        # Of the running embedding: statistics, and the frames they hold.
        self._norm_state = mean_var_norm.start()
        self._num_normalised = 0
        self._pooling_state = embedding_model.pooling.start()
        self._num_pooled = 0

    @torch.inference_mode()
    def feed(self, wav):
        """Take the next piece of the recording.

        Arguments
        ---------
        wav : torch.Tensor or numpy.ndarray
            [samples], mono, 16 kHz, any number of samples; floats of about
            [-1, 1].

        Raises
        ------
        AudioError
            NaN or infinite samples.
        AttnError
            No floats, not one axis, or ``finish`` was called before.
        """
        if self._finished:
            raise AttnError(
                "feed: the recording is finished; make a new LongAudio for "
                "the next one."
            )
        wav = torch.as_tensor(wav)
        if not wav.is_floating_point():
            raise AttnError(
                f"wav: {wav.dtype}; want floats of about [-1, 1]. Divide "
                "16-bit samples by 32768."
            )
        wav = wav.float().cpu()
        if wav.dim() != 1:
            raise AttnError(
                f"wav: want [samples] of one channel, got {tuple(wav.shape)}."
            )
        if not wav.isfinite().all():
            raise AudioError(
                "wav: holds NaN or infinite samples, in the piece that begins "
                f"at {self._num_samples / SAMPLE_RATE:.2f} s."
            )
        self._num_samples += len(wav)
        self._waiting = torch.cat([self._waiting, wav])
        self._make_frames(at_least=_FEW_HOPS)

    @torch.inference_mode()
    def embedding(self):
        """The embedding of the audio so far, [embedding_size] float32.

        Close to what one pass over it would give, but not equal; see above.

        Raises
        ------
        TooShortError
            Too little audio came to make a frame.
        """
        self._make_frames(at_least=1)
        frames = self._num_frames()
        for left, right in _spans(self._num_normalised, frames):
            self._norm.update(self._norm_state, 0, self._floored(left, right))
        self._num_normalised = frames
        encoder, pooling = self._network.encoder, self._network.pooling
        # Frames near the end change when more audio comes: they count, as if
        # the recording ended here, in a copy of the statistics.
        settled = (frames - encoder.context) // encoder.stride * encoder.stride
        settled = max(settled, self._num_pooled)
        for x in self._encoded(self._norm_state, self._num_pooled, settled):
            pool_so_far(pooling, self._pooling_state, x)
        self._num_pooled = settled
        state = copy.deepcopy(self._pooling_state)
        for x in self._encoded(self._norm_state, settled, frames):
            pool_so_far(pooling, state, x)
        return self._embedding(pooling.finish(state))

    @torch.inference_mode()
    def finish(self):
        """The embedding of the whole recording, [embedding_size] float32.

        Equal to one pass over it. Nothing can be fed after it.

        Raises
        ------
        TooShortError
            No audio came.
        AttnError
            The embedding is not finite; no room for the scratch file.
        """
        if not self._finished:
            self._finished = True
            self._make_frames(at_least=1)
            self._make_last_frames()
        frames = self._num_frames()
        norm_state = self._norm.start()
        for left, right in _spans(0, frames):
            self._norm.update(norm_state, 0, self._floored(left, right))
        network = self._network
        pooled = pool_in_passes(
            network.pooling,
            self._encoded(norm_state, 0, frames),
            Scratch(network.encoder.output_size),
        )
        return self._embedding(pooled)

    def _make_frames(self, at_least):
        """Raw features of all hops whose context is there."""
        features = self._features
        hop, context = features.hop_samples, features.context_hops
        while True:
            whole = len(self._waiting) // hop
            count = min(whole - self._known_hops - context, BLOCK_FRAMES)
            if count < at_least:
                return
            used = self._known_hops + count
            self._add_raw(self._waiting[: (used + context) * hop], count, count)
            self._known_hops = min(used, context)
            self._waiting = self._waiting[(used - self._known_hops) * hop :]

    def _make_last_frames(self):
        """Raw features of what waits, which is where the recording ends."""
        hop = self._features.hop_samples
        hops = -(-len(self._waiting) // hop)
        count = hops - self._known_hops
        if count > 0:
            whole = hops * hop
            if getattr(self._features, "takes_lengths", False):
                whole = hop  # they want to know where the recording ends
            missing = max(0, whole - len(self._waiting))
            wav = torch.nn.functional.pad(self._waiting, (0, missing))
            self._add_raw(wav, count, None)
        self._waiting = torch.zeros(0)

    def _add_raw(self, wav, count, num_exact):
        """Keep ``count`` frames; the first ``num_exact`` enter statistics."""
        raw = self._features.block(wav.to(self._device).unsqueeze(0))
        raw = raw[:, self._known_hops :][:, :num_exact]
        if self._features.num_passes:
            self._features.update(self._features_state, 0, raw)
        self._raw.append(raw[0, :count])

    def _num_frames(self):
        if len(self._raw) == 0:
            raise TooShortError(
                f"{self._num_samples} samples came, too few for a frame; feed "
                "more audio."
            )
        return len(self._raw)

    def _floored(self, left, right):
        """Features of frames, with the floor so far, without their mean."""
        raw = self._raw.read(left, right).unsqueeze(0).to(self._device)
        return self._features.advance(self._features_state, 0, raw)

    def _encoded(self, norm_state, start, stop):
        """Blocks of the encoder's frames, of features ``start`` to ``stop``."""

        def read(left, right):
            floored = self._floored(left, right)
            return self._norm.advance(norm_state, 0, floored)

        return encoded_blocks(
            self._network.encoder, read, start, stop, len(self._raw)
        )

    def _embedding(self, pooled):
        embedding = self._network.embedding(pooled)[0].float().cpu().numpy()
        if not np.isfinite(embedding).all():
            raise AttnError(
                "the embedding is not finite; are the weights of the network?"
            )
        return embedding


def _spans(start, stop):
    for left in range(start, stop, BLOCK_FRAMES):
        yield left, min(left + BLOCK_FRAMES, stop)


def _check_parts(compute_features, mean_var_norm, embedding_model):
    """Refuse what cannot work in blocks; names it."""
    parts = {
        "compute_features": compute_features,
        "mean_var_norm": mean_var_norm,
        "the pooling": getattr(embedding_model, "pooling", None),
    }
    able = {name: isinstance(part, InPasses) for name, part in parts.items()}
    parts["the encoder"] = getattr(embedding_model, "encoder", None)
    able["the encoder"] = hasattr(parts["the encoder"], "context")
    for name, part in parts.items():
        if part is None:
            raise AttnError(
                f"embedding_model: {type(embedding_model).__name__} cannot be "
                "computed in blocks, since it has no encoder and pooling of "
                "its own; embed the recording in one pass, or take a network "
                "of lobes.models.pooled_encoder."
            )
        if not able[name]:
            raise AttnError(
                f"{name}: {type(part).__name__} cannot be computed in blocks; "
                "embed the recording in one pass."
            )
    for part in (compute_features, mean_var_norm, embedding_model):
        if part.training:
            raise AttnError(
                f"{type(part).__name__} is in training mode; call its eval() "
                "first."
            )
