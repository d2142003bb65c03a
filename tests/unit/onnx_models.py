"""Small models for the tests of the ONNX files."""

import numpy as np
import onnxruntime
import torch
from long_audio_lobes import MELS, parts, recording

from speechbrain_attn.hub.folder import NETWORK_PARTS
from speechbrain_attn.hub.model import SpeakerModel
from speechbrain_attn.lobes.features import (
    Fbank,
    KaldiFbank,
    SentenceNormalization,
)
from speechbrain_attn.lobes.models.ge2e_lstm import GE2ELSTM
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN

LENGTHS = (40, 161, 3_999, 16_000, 40_017)  # samples


def ge2e_lstm():
    torch.manual_seed(3)
    network = GE2ELSTM(MELS, 17, 2, 11, window_frames=40).eval()
    return Fbank(n_mels=MELS).eval(), SentenceNormalization().eval(), network


MODELS = {
    "self_attentive_kaldi": lambda: parts("self_attentive", KaldiFbank),
    "serialized": lambda: parts("serialized"),
    "double": lambda: parts("double"),
    "ge2e_lstm": ge2e_lstm,
}


def as_model(network):
    """SpeakerModel of features, normalisation and network."""
    modules = dict(zip(NETWORK_PARTS, network, strict=True))
    return SpeakerModel(modules, {}, device="cpu")


def sherpa_model():
    """On the features that sherpa-onnx computes."""
    torch.manual_seed(5)
    network = SelfAttentiveTDNN(
        80, channels=(32, 32), kernel_sizes=(5, 3), dilations=(1, 2)
    )
    return as_model(
        (KaldiFbank().eval(), SentenceNormalization().eval(), network.eval())
    )


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )


def embed(session, waveforms, lengths=None):
    """[batch, embedding_size] of waveforms [batch, samples]."""
    if lengths is None:
        lengths = np.ones(len(waveforms), np.float32)
    given = {"waveforms": np.asarray(waveforms), "lengths": np.asarray(lengths)}
    return session.run(None, given)[0]


def expected(model, waveforms, lengths=None):
    with torch.inference_mode():
        return model.encode_batch(waveforms, lengths).squeeze(1).numpy()


def recordings(*lengths):
    """Padded batch, what is padded NaN, and the relative lengths."""
    waveforms = torch.full((len(lengths), max(lengths)), float("nan"))
    for row, (samples, waveform) in enumerate(
        zip(lengths, waveforms, strict=True)
    ):
        # Each another part, so that each has another level.
        start = 5_000 * row
        waveform[:samples] = recording(start + samples)[start:]
    return waveforms, torch.tensor(lengths) / max(lengths)
