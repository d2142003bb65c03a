"""What ``benchmarks/training.py`` times, and its measurements by process.

    cd benchmarks; python -m jobs.training memory serialized

prints what it found as a line of JSON. Arguments are the measurement, memory or
compiled, and one of ``SYSTEMS``.
"""

import json
import statistics
import sys
import time

import torch
from jobs.scoring import peak_megabytes
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.Xvector import Xvector

from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.heads import CosineHead
from speechbrain_attn.lobes.models.pooled_encoder import PooledEncoder
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.angular_margin import AdditiveAngularMarginSoftmax
from speechbrain_attn.nnet.encoders import TDNNEncoder
from speechbrain_attn.nnet.pooling import DoubleMultiHeadAttentionPooling
from speechbrain_attn.training.allocator import keep_freed_memory

N_MELS, SPEAKERS, SEED = 80, 1211, 23
BATCH, BATCH_FRAMES = 32, 201  # of a training step: 2 s
FRAMES = 301  # of an embedding: 3 s


def _double_on_tdnn():
    encoder = TDNNEncoder(N_MELS, (512,) * 3, (5, 3, 3), (1, 2, 3))
    pooling = DoubleMultiHeadAttentionPooling(encoder.output_size, 8)
    return PooledEncoder(encoder, pooling, embedding_size=256)


def _self_attentive():
    return SelfAttentiveTDNN(
        N_MELS,
        channels=(512,) * 4,
        kernel_sizes=(5, 3, 3, 1),
        dilations=(1, 2, 3, 1),
    )


REFERENCE = "ecapa"
# Name -> title, how to make it, size of its embedding.
SYSTEMS = {
    REFERENCE: (
        "SpeechBrain ECAPA_TDNN, 512 channels",
        lambda: ECAPA_TDNN(
            N_MELS, lin_neurons=192, channels=[512, 512, 512, 512, 1536]
        ),
        192,
    ),
    "xvector": (
        "SpeechBrain Xvector",
        lambda: Xvector(in_channels=N_MELS),
        512,
    ),
    "self_attentive": (
        "SelfAttentiveTDNN, shallow, 512 channels",
        _self_attentive,
        256,
    ),
    "serialized": (
        "SerializedMHA, 6 layers",
        lambda: SerializedMHA(N_MELS),
        256,
    ),
    "double_tdnn": (
        "double attention on a TDNN of 3 x 512",
        _double_on_tdnn,
        256,
    ),
    "double_vgg": (
        "DoubleMHA, the paper's VGG",
        lambda: DoubleMHA(N_MELS),
        400,
    ),
}


class Trained:
    """A network with a classifier and its optimiser.

    Arguments
    ---------
    name : str
        One of ``SYSTEMS``.
    device : str
    """

    def __init__(self, name, device="cpu"):
        torch.manual_seed(SEED)
        _, make, size = SYSTEMS[name]
        self.network = make().to(device)
        self.head = CosineHead(size, SPEAKERS).to(device)
        self.loss = AdditiveAngularMarginSoftmax()
        self.optimiser = torch.optim.AdamW(
            [*self.network.parameters(), *self.head.parameters()]
        )
        self.device = device

    def step(self, x, speakers, bf16):
        """A training step on features [batch, frames, features]."""
        self.network.train()
        self.optimiser.zero_grad()
        with self._autocast(bf16):
            loss = self.loss(self.head(self.network(x)), speakers)
        loss.backward()
        self.optimiser.step()

    def embed(self, x, bf16):
        """Embeddings [batch, size] of features."""
        self.network.eval()
        # Not inference mode, in which linear layers go uncounted.
        with torch.no_grad(), self._autocast(bf16):
            return self.network(x).flatten(1)

    def _autocast(self, bf16):
        return torch.autocast(self.device, torch.bfloat16, enabled=bf16)

    def tasks(self, bf16):
        """Name -> what is timed, without arguments."""
        torch.manual_seed(SEED)
        one = torch.randn(1, FRAMES, N_MELS, device=self.device)
        many = torch.randn(16, FRAMES, N_MELS, device=self.device)
        batch = torch.randn(BATCH, BATCH_FRAMES, N_MELS, device=self.device)
        speakers = torch.arange(BATCH, device=self.device).unsqueeze(1)
        return {
            "step": lambda: self.step(batch, speakers, bf16),
            "one": lambda: self.embed(one, bf16),
            "many": lambda: self.embed(many, bf16),
        }


def seconds_of(task, device="cpu"):
    """Time of the processor for a call; on a GPU, until it is done."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    task()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - began


def memory(name):
    """Print what a step in bfloat16 takes at most, beyond the libraries."""
    before = peak_megabytes()
    task = Trained(name).tasks(bf16=True)["step"]
    for _ in range(2):  # the second has the optimiser's moments
        task()
    print(json.dumps({"megabytes": peak_megabytes() - before}))


def compiled(name):
    """Print times with torch.compile over those without, bfloat16."""
    system = Trained(name)
    tasks = system.tasks(bf16=True)
    eager = {task: _median_seconds(tasks[task]) for task in ("many", "step")}
    system.network.compile(dynamic=False)
    for task, seconds in eager.items():
        ratio = _median_seconds(tasks[task]) / seconds
        print(json.dumps({task: ratio}), flush=True)


def _median_seconds(task):
    task()
    return statistics.median(seconds_of(task) for _ in range(3))


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()
    {"memory": memory, "compiled": compiled}[sys.argv[1]](sys.argv[2])
