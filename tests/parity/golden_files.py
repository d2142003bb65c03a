"""The golden files: where they are, what they hold, how to load them."""

import fnmatch
import json
import os
from pathlib import Path

import numpy as np
import torch

from speechbrain_attn.hub.official import load_official
from speechbrain_attn.nnet.masking import frame_mask

SHARED = Path(
    os.environ.get(
        "SPEECHBRAIN_ATTN_SHARED", Path(__file__).parents[2].parent / "shared"
    )
)
FILES = {path.stem: path for path in sorted(SHARED.glob("golden/*.npz"))}

# Stored beside what is to be compared: inputs, and steps on the way that show
# in an output (the scores in the weights, the annealing in the logits).
GIVEN = [
    *("args", "meta", "state/*", "input", "lengths", "rel_lengths"),
    *("label", "step", "scores", "annealed_factor"),
    *("w", "b", "normalised", "cosine", "similarity"),
]
# Parameters that we leave out, as they do nothing in the authors' program.
IN_VAIN = [
    *("*num_batches_tracked", "b1.*", "b3.*"),  # layers that are never called
    *("b2", "k", "attention.last_affine.bias"),  # cancelled by the softmax
    "b1",  # zero in the files of poolings without biases
    "batchnorm.running_*",  # behind the stack: the head's part
]


class Golden:
    """One file, with its arrays as tensors of one precision.

    ``x`` is [batch, frames, channels] whatever the file's layout, ``expected``
    holds what is to be compared.
    """

    def __init__(self, name, dtype):
        with np.load(FILES[name], allow_pickle=False) as file:
            self.arrays = dict(file)
        self.dtype = dtype
        self.args = json.loads(str(self.arrays["args"]))
        self.meta = json.loads(str(self.arrays["meta"]))
        self.state = {
            key.removeprefix("state/"): value
            for key, value in self.arrays.items()
            if key.startswith("state/")
        }
        self.expected = {
            key: torch.from_numpy(np.asarray(value)).to(dtype)
            for key, value in self.arrays.items()
            if not _is_in(key, GIVEN)
        }
        layout = self.meta["layout"]
        self.channels_first = "input (batch, feature, time)" in layout
        self.x = torch.from_numpy(self.arrays["input"]).to(dtype)
        if self.channels_first:
            self.x = self.x.transpose(1, 2)
        self.lengths = self.labels = None
        if "rel_lengths" in self.arrays:
            # float32, as lengths are in use, whatever the precision of x.
            self.lengths = torch.from_numpy(self.arrays["rel_lengths"]).float()
        if "label" in self.arrays:
            self.labels = torch.from_numpy(self.arrays["label"])

    def mask(self):
        """Boolean mask [batch, frames], None without lengths."""
        return frame_mask(self.lengths, self.x.shape[1])

    def load(self, *modules):
        """Fill modules with the file's parameters, in its precision, for eval.

        What none of them uses must be what we leave out on purpose.
        """
        unused = set(self.state)
        for module in modules:
            module.to(self.dtype).eval()
            unused &= set(load_official(module, self.state))
        wrong = [key for key in unused if not _is_in(key, IN_VAIN)]
        assert not wrong, f"not loaded: {wrong}"
        return modules[0]


def _is_in(key, patterns):
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
