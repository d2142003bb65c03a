"""Where in a recording a model's pooling looks."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import entr

from speechbrain_attn.errors import AttnError


@dataclass(frozen=True)
class Attention:
    """Weights of a pooling's heads over the time of one recording.

    Arguments
    ---------
    weights : numpy.ndarray
        [heads, frames] float64; each head's sum to one.
    edges_s : numpy.ndarray
        [frames + 1], the seconds at which frames begin, and the end of the
        last: from 0 to the recording's duration.
    names : list of str
        Of the heads, such as "layer 1".
    head_weights : numpy.ndarray or None
        [heads], the weight of each head where a second attention weighs them
        (double multi-head attention); they sum to one.
    pooling : str
        Class of the pooling.
    """

    weights: np.ndarray
    edges_s: np.ndarray
    names: list
    head_weights: np.ndarray | None
    pooling: str

    @property
    def duration_s(self):
        """Length of the recording in seconds."""
        return float(self.edges_s[-1])

    @property
    def relative(self):
        """Weights by their mean, [heads, frames]: 1 where all are equal."""
        return self.weights * self.weights.shape[1]

    def entropies(self):
        """Entropy of each head over frames, [heads], in nats."""
        return entr(self.weights).sum(axis=1)

    def entropy_shares(self):
        """Entropies as parts of the largest, log frames, [heads] in [0, 1].

        1 is the same weight on every frame, 0 all of it on one.
        """
        frames = self.weights.shape[1]
        if frames == 1:
            return np.ones(len(self.weights))
        return self.entropies() / np.log(frames)

    def effective_frames(self):
        """How many equal frames have the entropy: its exponential, [heads]."""
        return np.exp(self.entropies())

    def most(self, head):
        """The fewest frames that hold half of a head's weight.

        ``head`` counts from 0. Returns a mask [frames], True on those.
        """
        weights = self.weights[head]
        order = np.argsort(-weights, kind="stable")
        # By a hair less: sums of equal weights are rounded.
        too_few = np.cumsum(weights[order]) < 0.5 - 1e-9
        chosen = np.zeros(len(weights), dtype=bool)
        chosen[order[: too_few.sum() + 1]] = True
        return chosen

    def stretches(self, head):
        """Frames of ``most`` that follow each other, as stretches of time.

        Returns
        -------
        list of (float, float, float)
            Start and end in seconds, and the weight in between, by time.
        """
        weights = self.weights[head]
        inside = np.r_[False, self.most(head), False]
        ends = np.flatnonzero(np.diff(inside))
        return [
            (
                float(self.edges_s[start]),
                float(self.edges_s[stop]),
                float(weights[start:stop].sum()),
            )
            for start, stop in ends.reshape(-1, 2)
        ]

    def to_dict(self):
        """All of it in words and lists of numbers, as for JSON."""
        heads = []
        for number, name in enumerate(self.names):
            head = {
                "name": name,
                "entropy_nats": _rounded(self.entropies()[number]),
                "entropy_share": _rounded(self.entropy_shares()[number]),
                "effective_frames": _rounded(self.effective_frames()[number]),
            }
            if self.head_weights is not None:
                head["head_weight"] = _rounded(self.head_weights[number])
            head["weights"] = [_rounded(w) for w in self.weights[number]]
            heads.append(head)
        return {
            "pooling": self.pooling,
            "duration_s": self.duration_s,
            "frames": self.weights.shape[1],
            "edges_s": [_rounded(edge) for edge in self.edges_s],
            "heads": heads,
        }


def attention_of(model, waveform):
    """The attention by which a model pools a recording.

    The weights are those of the very frames that its embedding is made of.
    Frames are taken to lie around the centre of what the encoder sees; its
    context blurs them by as much as it looks to either side.

    Arguments
    ---------
    model : hub.model.SpeakerModel
        Its network has a pooling of this package, or of the same form.
    waveform : torch.Tensor
        [samples], as of ``model.load_audio``. All of it goes through the
        network at once.

    Returns
    -------
    Attention

    Raises
    ------
    AttnError
        The network has no such pooling, its features or encoder do not say
        where their frames lie, or the waveform cannot be embedded.
    """
    network, features = model.mods.embedding_model, model.mods.compute_features
    pooling = getattr(network, "pooling", None)
    if not hasattr(pooling, "attention"):
        raise AttnError(
            f"{type(network).__name__} has no pooling whose attention can be "
            "shown; take a model of this package, such as SerializedMHA."
        )
    for part in (features, network.encoder):
        if not hasattr(part, "first_centre"):
            raise AttnError(
                f"{type(part).__name__} does not say where its frames lie in "
                "time; give it the attribute first_centre "
                "(speechbrain_attn.nnet.encoders)."
            )
    frames, lengths = _pooled_frames(model, pooling, waveform)
    with torch.inference_mode():
        weights = pooling.attention(frames, lengths)[0]
        head_weights = None
        if hasattr(pooling, "head_attention"):
            head_weights = pooling.head_attention(frames, lengths)[0]
            head_weights = head_weights.double().cpu().numpy()
    weights = weights.double().cpu().numpy()
    name = getattr(pooling, "head_name", "head")
    return Attention(
        weights=weights,
        edges_s=_edges_s(model, weights.shape[1], len(waveform)),
        names=[f"{name} {1 + number}" for number in range(len(weights))],
        head_weights=head_weights,
        pooling=type(pooling).__name__,
    )


def _pooled_frames(model, pooling, waveform):
    """What the pooling was given when the model embedded the waveform."""
    given = []
    handle = pooling.register_forward_pre_hook(
        lambda module, arguments: given.append(arguments)
    )
    try:
        with torch.inference_mode():
            model.encode_batch(waveform)
    finally:
        handle.remove()
    return given[-1]


def _edges_s(model, num_frames, num_samples):
    """Where frames begin and end, in seconds: midway between two centres."""
    features = model.mods.compute_features
    encoder = model.mods.embedding_model.encoder
    inner = encoder.first_centre + encoder.stride * (
        np.arange(num_frames - 1) + 0.5
    )
    samples = features.hop_samples * (features.first_centre + inner)
    return np.r_[0, samples, num_samples] / model.sample_rate


def _rounded(value):
    """Six significant digits, which are what float32 has."""
    return float(f"{value:.6g}")
