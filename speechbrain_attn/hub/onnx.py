"""A speaker model as one ONNX file, which runs without torch.

Two kinds: from the waveform, with the features in the graph, and from the
features that sherpa-onnx computes itself. Needs the extra ``onnx``.
"""

import contextlib
import logging
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from torch.export import Dim

from speechbrain_attn import __version__
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.fingerprint import network_sha256
from speechbrain_attn.hub.folder import NETWORK_PARTS
from speechbrain_attn.hub.onnx_graph import FeatureGraph, WaveformGraph
from speechbrain_attn.hub.onnx_parity import Parity, parity_of
from speechbrain_attn.lobes.features import KaldiFbank

KINDS = ("waveform", "features")
TOLERANCE = 1e-4  # of the embedding's largest value, where that is above 1
# Of sherpa-onnx (its source, and measured): it asks for these, and ends the
# program if one is missing. The features' mean is taken off in the graph.
_SHERPA = {
    "framework": "wespeaker",
    "language": "unknown",
    "normalize_samples": "1",
    "url": "https://github.com/speechbrain/speechbrain",
}
# What is quantised, and to which integers: onnxruntime is fastest with signed
# weights in products, and slower than in float32 with them in convolutions.
_QUANTISED = {("MatMul", "LSTM"): "QInt8", ("Conv",): "QUInt8"}


class Exported(NamedTuple):
    """An ONNX file that was written.

    Arguments
    ---------
    path : Path
    parity : speechbrain_attn.hub.onnx_parity.Parity
        How it differs from the model in torch.
    """

    path: Path
    parity: Parity


def export_onnx(model, path, kind="waveform", int8=False, name=None):
    """Write a model as an ONNX file, and compare the two.

    Arguments
    ---------
    model : speechbrain_attn.hub.model.SpeakerModel
        Of this package's networks.
    path : str or Path
        Ends in ``.onnx``; a file that was there is replaced, at the end.
    kind : str
        ``"waveform"``: inputs ``waveforms`` [batch, samples] and ``lengths``
        [batch], the part of ``samples`` that each fills, in (0, 1]; any
        number of each. What lies in the padding has no say. ``"features"``:
        input ``feats`` [batch, frames, 80], features as sherpa-onnx computes
        them, and the metadata that it reads. The output is ``embeddings``
        [batch, embedding_size], those of ``model.encode_batch``.
    int8 : bool
        Whether products are of 8-bit integers: smaller and faster, and a
        little off.
    name : str or None
        Of the model, for the metadata.

    Returns
    -------
    Exported

    Raises
    ------
    AttnError
        An unknown kind; no file can be written there; features or a network
        that have no such graph; a package is missing; the graph's embeddings
        are not the model's.
    """
    path = Path(path)
    _check(model, path, kind)
    _import_packages()
    with _quiet():
        proto = _exported(model, kind)
        if int8:
            proto = _quantised(proto)
    _set_metadata(proto, _metadata(model, kind, int8, name))
    content = proto.SerializeToString()
    parity = parity_of(model, content, kind)
    # Integers have no such bound; but what is not a number is no embedding.
    bound = float("inf") if int8 else TOLERANCE * max(1.0, parity.largest)
    if not parity.difference < bound:
        raise AttnError(
            f"{path}: not written, since its embeddings differ from the "
            f"model's by {parity.difference:.1e}; {bound:.0e} was allowed. "
            "Are all weights of the model finite?"
        )
    _write(content, path)
    return Exported(path, parity)


def _check(model, path, kind):
    """Refuse what cannot be exported, before any work."""
    if kind not in KINDS:
        raise AttnError(f"kind={kind!r}; want one of {list(KINDS)}.")
    if path.suffix != ".onnx" or path.is_dir():
        raise AttnError(f"{path}: want the name of a file that ends in .onnx.")
    for part in ("mean_var_norm", "embedding_model"):
        module = model.mods[part]
        if not getattr(module, "exact_padding", False):
            raise AttnError(
                f"{part}: {type(module).__name__} has no ONNX graph here, "
                "since padding has an influence on what it gives; export a "
                "network on an encoder of speechbrain_attn.nnet.encoders, or "
                "a GE2ELSTM, with SentenceNormalization before it."
            )
    if kind == "features" and not _is_sherpas(model.mods.compute_features):
        raise AttnError(
            "compute_features: these are not the features that sherpa-onnx "
            "computes, and on others its embeddings would not be the model's. "
            "Train the network on those: hparams/serialized_mha.yaml, or any "
            "other, with --n_mels=80 --compute_features="
            "'!new:speechbrain_attn.lobes.features.KaldiFbank'. Or export it "
            "from the waveform, for onnxruntime."
        )


def _is_sherpas(features):
    """Whether features are those of the runtime: 16 kHz, 80 mel."""
    if not isinstance(features, KaldiFbank):
        return False
    theirs = KaldiFbank()
    return features.hop_samples == theirs.hop_samples and torch.equal(
        features.filters.cpu(), theirs.filters
    )


def _import_packages():
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise AttnError(
            f"{error.name}: is not installed, which an ONNX export needs: "
            "pip install 'speechbrain_attn[onnx]'"
        ) from None


@contextlib.contextmanager
def _quiet():
    """Without the exporter's words on packages that it could use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _exported(model, kind):
    """The ONNX model, its numbers in float32."""
    features, norm, network = (model.mods[part] for part in NETWORK_PARTS)
    sizes = {0: "batch", 1: "samples" if kind == "waveform" else "frames"}
    # Sizes of 1 would be taken for constants.
    lengths = torch.tensor([1.0, 0.5])
    if kind == "waveform":
        graph = WaveformGraph(features, norm, network)
        inputs = {"waveforms": torch.zeros(2, 3 * model.sample_rate)}
        inputs["lengths"] = lengths
        # Of the same size as the waveforms, which name it.
        shapes = {"waveforms": sizes, "lengths": {0: Dim.DYNAMIC}}
    else:
        graph = FeatureGraph(norm, network)
        inputs = {"feats": torch.zeros(2, 300, features.output_size)}
        shapes = {"feats": sizes}
    program = torch.onnx.export(
        graph.eval(),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=["embeddings"],
        dynamic_shapes=shapes,
        dynamo=True,
        verbose=False,
    )
    return program.model_proto


def _quantised(proto):
    """The same with products of integers, but for those of the features.

    Layers have the range of their input measured as it comes, so that no
    recordings are needed here. Weights have 7 bits and a scale for each row:
    with 8, the products of a processor without instructions for them (before
    AVX-512 VNNI) overflow.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    features = [
        node.name
        for node in proto.graph.node
        if any(name.startswith("features.") for name in node.input)
    ]
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "int8.onnx")
        for kinds, weights in _QUANTISED.items():
            # Else it asks for optimisations that the exporter has done.
            _set_metadata(
                proto, {"onnx.quant.pre_process": "onnxruntime.quant"}
            )
            try:
                quantize_dynamic(
                    proto,
                    target,
                    op_types_to_quantize=list(kinds),
                    nodes_to_exclude=features,
                    per_channel=True,
                    reduce_range=True,
                    weight_type=QuantType[weights],
                )
            except onnx.shape_inference.InferenceError as error:
                raise AttnError(
                    "8 bits: onnxruntime cannot follow the graph that torch "
                    f"{torch.__version__} has exported "
                    f"({str(error).splitlines()[0]}). Take a newer torch (2.11 "
                    "fails, 2.14 does not), or export in float32."
                ) from None
            proto = onnx.load(target)
    return proto


def _metadata(model, kind, int8, name):
    """What the file says of itself, text by name."""
    network = [model.mods[part] for part in NETWORK_PARTS]
    size = str(model.mods.embedding_model.embedding_size)
    found = {
        "model": name or type(model.mods.embedding_model).__name__,
        "input": kind,
        "sample_rate": str(model.sample_rate),
        "embedding_size": size,
        "precision": "int8" if int8 else "float32",
        "fingerprint": network_sha256(network),
        "comment": f"Made by speechbrain_attn {__version__}",
    }
    if kind == "features":
        found |= {**_SHERPA, "output_dim": size}
    return found


def _set_metadata(proto, values):
    from onnx import helper

    # Its function adds to what is there.
    del proto.metadata_props[:]
    helper.set_model_props(proto, values)


def _write(content, path):
    """Write a file that is there whole, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".onnx-", dir=path.parent
        ) as scratch:
            new = Path(scratch, path.name)
            new.write_bytes(content)
            new.replace(path)
    except OSError as error:
        raise AttnError(f"{path}: cannot be written ({error}).") from None
