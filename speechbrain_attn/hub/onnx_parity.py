"""How the embeddings of an ONNX file differ from those of its model."""

from typing import NamedTuple

import numpy as np
import torch

from speechbrain_attn.hub.folder import NETWORK_PARTS

# Seconds of the utterances, which fill no whole hops; the last two are parts
# of one padded batch too.
_SECONDS = (0.31, 1.003, 2.037, 3.3333, 5.01)


class Parity(NamedTuple):
    """Differences of embeddings, over all that were compared.

    Arguments
    ---------
    difference : float
        Largest of a value.
    distance : float
        Largest of one minus the cosine.
    largest : float
        Largest of the model's values, for scale.
    """

    difference: float
    distance: float
    largest: float


def parity_of(model, content, kind):
    """Compare a model with its graph, alone and in a padded batch.

    Arguments
    ---------
    model : speechbrain_attn.hub.model.SpeakerModel
    content : bytes
        The ONNX file.
    kind : str
        As for ``export_onnx``; only waveforms come in padded batches.

    Returns
    -------
    Parity
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        content, options, providers=["CPUExecutionProvider"]
    )
    draw = np.random.default_rng(1)
    wavs = [_speechlike(draw, seconds, model) for seconds in _SECONDS]
    with torch.inference_mode():
        if kind == "waveform":
            pairs = _of_waveforms(model, session, wavs)
        else:
            pairs = _of_features(model, session, wavs)
        expected, found = map(np.concatenate, zip(*pairs, strict=True))
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosines = (expected * found).sum(axis=1) / lengths
    return Parity(
        float(np.abs(expected - found).max()),
        float(max(0.0, 1 - cosines.min())),
        float(np.abs(expected).max()),
    )


def _speechlike(draw, seconds, model):
    """Noise whose level and colour change, [samples]."""
    samples = round(seconds * model.sample_rate)
    time = np.arange(samples) / model.sample_rate
    wav = np.cumsum(draw.normal(0, 0.02, samples)) % 1.0 - 0.5
    wav = 0.3 * wav + draw.normal(0, 0.05, samples)
    wav *= 0.05 + np.sin(11.0 * time) ** 2
    return torch.tensor(wav, dtype=torch.float32)


def _of_waveforms(model, session, wavs):
    """Pairs of embeddings, float64: the model's and those of the session."""
    batches = [(wav.unsqueeze(0), torch.ones(1)) for wav in wavs]
    counts = torch.tensor([len(wav) for wav in wavs[-2:]])
    padded = torch.full((2, int(counts.max())), float("nan"))
    for row, wav in zip(padded, wavs[-2:], strict=True):
        row[: len(wav)] = wav
    batches.append((padded, counts / padded.shape[1]))
    for waveforms, lengths in batches:
        expected = model.encode_batch(waveforms, lengths)
        given = {"waveforms": waveforms.numpy(), "lengths": lengths.numpy()}
        (found,) = session.run(None, given)
        yield expected.squeeze(1).double().cpu().numpy(), found.astype("f8")


def _of_features(model, session, wavs):
    """The same from features, of whole utterances."""
    features, norm, network = (model.mods[part] for part in NETWORK_PARTS)
    for wav in wavs:
        feats = features(wav.unsqueeze(0).to(model.device))
        expected = network(norm(feats)).squeeze(1)
        (found,) = session.run(None, {"feats": feats.cpu().numpy()})
        yield expected.double().cpu().numpy(), found.astype("f8")
