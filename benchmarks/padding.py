"""How far padding moves an embedding, for our lobes and the host's encoders.

    python benchmarks/padding.py            # prints a table
    python benchmarks/padding.py --write    # and writes it into docs

Networks of full size with random weights, in eval mode. An utterance of noise
is embedded alone, then in batches that are longer than it by a factor, with
its relative length given. Waveforms are padded with zeros.
"""

import argparse

import torch
from pages import conditions, write_page
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.lobes.models.ResNet import ResNet
from speechbrain.lobes.models.Xvector import Xvector

from speechbrain_attn.lobes.features import Fbank, SentenceNormalization
from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.pooled_encoder import (
    ECAPATrunk,
    PooledEncoder,
    ResNetTrunk,
)
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.pooling import SerializedAttentionPooling

FACTORS = (1.25, 2.0, 4.0)
SAMPLES = 24000  # 1.5 s
SEED = 7
INTRODUCTION = """# How far padding moves an embedding

One minus the cosine between the embedding of an utterance alone and of the
same utterance in a batch padded to a multiple of its length. "Another
utterance" is the same figure between two different utterances, for scale.
Lobes on our encoders do not move beyond rounding. SpeechBrain's encoders do:
their convolutions see the padding, and ResNet does not read lengths. They can
be used under our poolings (`PooledEncoder`), and the recipe's scripts then put
utterances of equal length only into a batch.

All of them get our features and normalisation here; a weight is drawn at
random, so the figures show the mechanism and not a trained model's error.
"""


def networks():
    """Name -> embedding network on 80 features."""
    ecapa = ECAPATrunk(80)
    resnet = ResNetTrunk(80)
    return {
        "SelfAttentiveTDNN": SelfAttentiveTDNN(80),
        "DoubleMHA": DoubleMHA(80),
        "SerializedMHA": SerializedMHA(80),
        "serialized pooling on ECAPA's trunk": PooledEncoder(
            ecapa, SerializedAttentionPooling(ecapa.output_size, 2)
        ),
        "serialized pooling on ResNet's trunk": PooledEncoder(
            resnet, SerializedAttentionPooling(resnet.output_size, 2)
        ),
        "SpeechBrain Xvector": Xvector(in_channels=80),
        "SpeechBrain ECAPA_TDNN": ECAPA_TDNN(80, lin_neurons=192),
        "SpeechBrain ResNet": ResNet(80),
    }


def distance(one, other):
    """One minus the cosine of two embeddings."""
    one, other = one.flatten().double(), other.flatten().double()
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
    return max(0.0, 1 - cosine.item())


def moved(network, wavs):
    """Distances for each factor, then to another utterance."""
    features, norm = Fbank(), SentenceNormalization()

    def embed(wav, padded_samples):
        padded = torch.zeros(1, padded_samples)
        padded[0, : len(wav)] = wav
        lengths = torch.tensor([len(wav) / padded_samples])
        return network(norm(features(padded), lengths), lengths)

    alone = embed(wavs[0], SAMPLES)
    distances = [
        distance(alone, embed(wavs[0], round(SAMPLES * factor)))
        for factor in FACTORS
    ]
    return [*distances, distance(alone, embed(wavs[1], SAMPLES))]


def main():
    """Measure, print and, if asked to, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    # Noise of two colours, since white noise alone would differ little.
    wavs = 0.1 * torch.randn(2, SAMPLES)
    wavs[1] = wavs[1].cumsum(0) * 0.05
    lines = [
        "| network | "
        + " | ".join(f"x {factor:g}" for factor in FACTORS)
        + " | another utterance |",
        "| --- |" + " ---: |" * (len(FACTORS) + 1),
    ]
    with torch.inference_mode():
        for name, network in networks().items():
            cells = " | ".join(f"{d:.1e}" for d in moved(network.eval(), wavs))
            lines.append(f"| {name} | {cells} |")
    lines += ["", f"Seed {SEED}. {conditions()}"]
    print("\n".join(lines))
    if options.write:
        write_page("padding", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
