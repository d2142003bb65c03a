"""A loaded model: waveforms or files to embeddings, scores and decisions."""

import functools

import torch
from speechbrain.inference.speaker import SpeakerRecognition

from speechbrain_attn.dataio.audio import SAMPLE_RATE, read_waveform
from speechbrain_attn.dataio.batching import padded_features
from speechbrain_attn.errors import AttnError, TooShortError
from speechbrain_attn.hub.fingerprint import network_sha256
from speechbrain_attn.hub.folder import NETWORK_PARTS
from speechbrain_attn.lobes.features import batch_features


class SpeakerModel(SpeakerRecognition):
    """The host's SpeakerRecognition, strict with what it is given.

    An utterance has the embedding that it has alone, whatever it is batched
    with; audio comes from local files only; a decision needs a threshold that
    somebody chose. Made by ``hub.load``.

    Arguments
    ---------
    modules : dict
        compute_features, mean_var_norm and embedding_model, trained.
    hparams : dict
        What the model's YAML builds.
    calibration : speechbrain_attn.scoring.calibration.Calibration or None
        Of the model folder, if it has one.
    device : str or None
        For example "cpu" or "cuda:0"; None takes what is there.
    """

    def __init__(self, modules, hparams, calibration=None, device=None):
        options = None if device is None else {"device": str(device)}
        super().__init__(modules=modules, hparams=hparams, run_opts=options)
        self.calibration = calibration
        self.sample_rate = hparams.get("sample_rate", SAMPLE_RATE)

    @property
    def network(self):
        """Its compute_features, mean_var_norm and embedding_model, a tuple."""
        return tuple(self.mods[part] for part in NETWORK_PARTS)

    @functools.cached_property
    def sha256(self):
        """Hash of the network, by which stores and calibrations know it."""
        return network_sha256(self.network)

    def own_calibration(self):
        """The calibration, or None; AttnError for one of another model."""
        if self.calibration is not None:
            try:
                self.calibration.refuse_others("cosine", self.sha256)
            except AttnError as error:
                raise AttnError(
                    f"the model's calibration.json {error}"
                ) from None
        return self.calibration

    def encode_batch(self, wavs, wav_lens=None, normalize=False):
        """Embeddings [batch, 1, embedding_size] of waveforms.

        Arguments
        ---------
        wavs : torch.Tensor or array
            [batch, samples] or [samples], floats of about [-1, 1] at
            ``sample_rate``; what lies in the padding may be anything.
        wav_lens : torch.Tensor or array
            [batch], the part of ``samples`` that each fills, in (0, 1]; None
            means no padding.
        normalize : bool
            Whether the mean of training embeddings is subtracted.

        Raises
        ------
        AttnError
            No float waveforms, lengths that do not fit, a sample that is not
            finite.
        TooShortError
            An utterance has too few samples for the network; the message
            names the shortest length.
        """
        utterances = _utterances(wavs, wav_lens)
        shortest = min(len(utterance) for utterance in utterances)
        try:
            embeddings = self._embed(utterances)
        except RuntimeError:
            # Torch says it of a padding or a kernel, in words of its own.
            needed = self._shortest_samples()
            if shortest >= needed:
                raise
            raise TooShortError(
                f"wavs: an utterance of {shortest:,} samples is too short; "
                f"this model needs {needed:,} samples at "
                f"{self.sample_rate:,} Hz or more."
            ) from None
        if normalize:
            ones = torch.ones(len(embeddings), device=self.device)
            embeddings = self.hparams.mean_var_norm_emb(embeddings, ones)
        return embeddings

    def _embed(self, utterances):
        """Embeddings of a list of waveforms, each as if it were alone."""
        if not all(
            getattr(part, "exact_padding", False) for part in self.network
        ):
            # Padding would have a say.
            return torch.cat([self._embed_alone(wav) for wav in utterances])
        feats, lengths = padded_features(
            self.mods.compute_features, utterances, self.device
        )
        return self._embed_features(feats, lengths)

    def _embed_alone(self, wav):
        wavs, lengths = wav.unsqueeze(0), torch.ones(1)
        wavs, lengths = wavs.to(self.device), lengths.to(self.device)
        feats = batch_features(self.mods.compute_features, wavs, lengths)
        return self._embed_features(feats, lengths)

    def _embed_features(self, feats, lengths):
        feats = self.mods.mean_var_norm(feats, lengths)
        embeddings = self.mods.embedding_model(feats, lengths)
        return embeddings.reshape(len(feats), 1, -1)  # ResNet's lack the 1

    def _shortest_samples(self):
        """Fewest samples that the network takes; halves what may be."""
        too_short, enough = 0, self.sample_rate
        while enough - too_short > 1:
            middle = (too_short + enough) // 2
            try:
                self._embed([torch.zeros(middle)])
                enough = middle
            except RuntimeError:
                too_short = middle
        return enough

    def load_audio(self, path):
        """Waveform [samples] of a local file, mono, at ``sample_rate``.

        Raises AudioError where there is no such file, or none to be used:
        nothing is fetched, and no copy of another file is ever taken for it.
        """
        waveform = read_waveform(path, sample_rate=self.sample_rate)
        return waveform.to(self.device)

    def verify_batch(
        self, wavs1, wavs2, wav1_lens=None, wav2_lens=None, threshold=None
    ):
        """Cosines [batch, 1] and decisions, True for the same speaker.

        ``threshold`` is of the cosine; None takes the one at the equal error
        rate of the model's calibration, and raises AttnError where it has
        none or that of another model. The other arguments are as in
        ``encode_batch``.
        """
        calibration = self.own_calibration() if threshold is None else None
        if threshold is None and calibration is None:
            raise AttnError(
                "threshold: this model has no calibration.json to take one "
                "from; give a threshold that was chosen on trials like yours."
            )
        if threshold is None:
            threshold = calibration.thresholds["eer"].score
        return super().verify_batch(
            wavs1, wavs2, wav1_lens, wav2_lens, threshold
        )

    def verify_files(self, path_x, path_y, threshold=None):
        """Cosine [1] and decision of two audio files; as ``verify_batch``."""
        waves = (self.load_audio(path) for path in (path_x, path_y))
        scores, decisions = self.verify_batch(*waves, threshold=threshold)
        return scores[0], decisions[0]


def _utterances(wavs, wav_lens):
    """Checked waveforms without their padding, a list of [samples]."""
    wavs = torch.as_tensor(wavs)
    if not wavs.is_floating_point():
        raise AttnError(
            f"wavs: {wavs.dtype}; want floats of about [-1, 1]. Divide 16-bit "
            "samples by 32768."
        )
    wavs = wavs.unsqueeze(0) if wavs.dim() == 1 else wavs
    if wavs.dim() != 2 or len(wavs) == 0:
        raise AttnError(
            f"wavs: want [batch, samples], got {tuple(wavs.shape)}. Average "
            "channels first."
        )
    wavs = wavs.float()
    parts = torch.ones(len(wavs))
    if wav_lens is not None:
        parts = torch.as_tensor(wav_lens).float().cpu()
    if parts.shape != (len(wavs),) or not ((parts > 0) & (parts <= 1)).all():
        raise AttnError(
            f"wav_lens: got {parts.tolist()} for a batch of {len(wavs)}; want "
            "the part of the longest that each fills, in (0, 1]."
        )
    counts = torch.round(parts * wavs.shape[1]).long().tolist()
    rows = [wav[:count] for wav, count in zip(wavs, counts, strict=True)]
    for index, row in enumerate(rows):
        if len(row) == 0:
            raise TooShortError(f"wavs: utterance {index} has no samples.")
        if not torch.isfinite(row).all():
            raise AttnError(
                f"wavs: utterance {index} holds NaN or infinite samples."
            )
    return rows
