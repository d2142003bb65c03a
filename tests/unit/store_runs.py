"""A small extraction that can be watched, and killed as a process.

    python store_runs.py STORE WAVS FORWARDS SECONDS

embeds every wav of a folder; each forward pass of the network adds a line to
the file FORWARDS and takes SECONDS.
"""

import sys
import time
from pathlib import Path

import torch
from torch import nn

from speechbrain_attn.errors import exit_on_error
from speechbrain_attn.inference import extraction
from speechbrain_attn.inference.store_extraction import extract_to_store
from speechbrain_attn.lobes.features import Fbank, SentenceNormalization
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA

# Several batches of a small corpus.
extraction._BATCH_FRAMES["cpu"] = 150


class WatchedLobe(nn.Module):
    """A small lobe that notes how many utterances each forward has."""

    exact_padding = True

    def __init__(self, note=None, seconds=0.0, seed=5):
        super().__init__()
        torch.manual_seed(seed)
        self.lobe = SerializedMHA(
            input_size=40, channels=(8, 8, 8), embedding_size=6, num_layers=2
        )
        # Not among the attributes that the model's hash is of.
        self._note, self._seconds = note, seconds

    def forward(self, x, lengths=None):
        if self._note:
            with open(self._note, "a") as file:
                file.write(f"{len(x)}\n")
        time.sleep(self._seconds)
        return self.lobe(x, lengths)


def network(**watch):
    """compute_features, mean_var_norm and embedding_model."""
    return Fbank(n_mels=40), SentenceNormalization(), WatchedLobe(**watch)


@exit_on_error
def main(store, wavs, note, seconds):
    torch.set_num_threads(1)
    files = {path.stem: path for path in sorted(Path(wavs).glob("*.wav"))}
    extract_to_store(store, files, *network(note=note, seconds=float(seconds)))


if __name__ == "__main__":
    main(*sys.argv[1:])
