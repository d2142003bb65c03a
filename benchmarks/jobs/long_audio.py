"""The measurements of ``benchmarks/long_audio.py``, one a process.

    python benchmarks/jobs/long_audio.py ours serialized_mha a.wav a.npy 8

writes the embedding of ``a.wav`` to ``a.npy`` and prints the seconds and the
peak memory in MB as JSON. Arguments are the way (``ours``, ``one_pass``,
``chunks``), the network (a system, or a model folder), audio, embedding, and
the memory in GB that the process may take.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from speechbrain_attn.dataio.audio import SAMPLE_RATE, read_waveform
from speechbrain_attn.dataio.audio_blocks import waveform_blocks
from speechbrain_attn.dataio.batching import pad_waveforms
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.folder import NETWORK_PARTS, load_network
from speechbrain_attn.inference.long_audio import embed_long_audio
from speechbrain_attn.lobes.features import batch_features

ROOT = Path(__file__).resolve().parents[2]
# double_mha.yaml's front end would take the time of all the others together.
YAMLS = {
    "self_attentive_tdnn": "self_attentive_tdnn.yaml",
    "serialized_mha": "serialized_mha.yaml",
    "double_mha": "demo/double_mha.yaml",
}
CHUNK_SECONDS = 10
SEED = 11


def network_parts(name):
    """compute_features, mean_var_norm and embedding_model, in eval mode."""
    if name not in YAMLS:
        hparams = load_network(name)
        return tuple(hparams[part] for part in NETWORK_PARTS)
    files = ("data_folder", "verification_file", "validation_file")
    with tempfile.TemporaryDirectory() as folder:
        given = {**dict.fromkeys(files, "unused"), "output_folder": folder}
        hparams = load_hparams(ROOT / "hparams" / YAMLS[name], given)
    torch.manual_seed(SEED)
    for part in hparams["embedding_model"].modules():
        # With torch's own weights the signal fades from layer to layer, and
        # all recordings have nearly one embedding.
        if isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(part.weight)
    return tuple(hparams[part].eval() for part in NETWORK_PARTS)


def ours(path, parts):
    """Exact, in blocks."""
    return embed_long_audio(path, *parts)


def one_pass(path, parts):
    """All at once."""
    return embed(read_waveform(path), *parts)


def chunks(path, parts):
    """Mean of the unit-length embeddings of chunks."""
    total = 0.0
    for block in waveform_blocks(path):
        for wav in block.split(CHUNK_SECONDS * SAMPLE_RATE):
            embedding = embed(wav, *parts)
            total = total + embedding / np.linalg.norm(embedding)
    return total


@torch.inference_mode()
def embed(wav, compute_features, mean_var_norm, embedding_model):
    """Embedding [embedding_size] of a waveform [samples], in one pass."""
    wavs, lengths = pad_waveforms([wav])
    feats = batch_features(compute_features, wavs, lengths)
    feats = mean_var_norm(feats, lengths)
    return embedding_model(feats, lengths).flatten().numpy()


def peak_megabytes():
    """Peak resident memory of this process, without that of its parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def main(way, network, audio, embedding, gigabytes):
    """Do one measurement and print what it took."""
    parts = network_parts(network)
    limit = int(float(gigabytes) * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    began = time.perf_counter()
    try:
        found = {"ours": ours, "one_pass": one_pass, "chunks": chunks}[way](
            audio, parts
        )
    except (RuntimeError, MemoryError) as error:
        if "allocate" not in str(error):
            raise
        print(json.dumps(None))
        return
    seconds = time.perf_counter() - began
    np.save(embedding, found)
    print(json.dumps({"seconds": seconds, "peak": peak_megabytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
