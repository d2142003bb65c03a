"""Runs that kill themselves, and what they leave behind."""

import os

import torch

# Runs a script that kills its own process, as kill -9 does, when a method of
# SpeechBrain's Brain (fit_batch, where none is named) is about to be called for
# the given time: "7" is the seventh batch over all epochs.
KILLER = """\
import os, runpy, signal, sys
import speechbrain

left, _, name = sys.argv[1].partition(":")
left, name = int(left), name or "fit_batch"
method = getattr(speechbrain.Brain, name)

def do_or_die(brain, *given, **named):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return method(brain, *given, **named)

setattr(speechbrain.Brain, name, do_or_die)
sys.argv = sys.argv[2:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def weights(folder):
    """All parameters of the last checkpoint of a finished run, by name."""
    newest = max(checkpoints(folder), key=os.path.getmtime)
    found = {}
    for name in ("embedding_model", "classifier", "compute_cost", "average"):
        path = newest / f"{name}.ckpt"
        if path.exists():
            for key, value in torch.load(path, weights_only=True).items():
                found[f"{name}.{key}"] = value
    return found


def assert_equal_weights(folder, other):
    ours, theirs = weights(folder), weights(other)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    differing = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    assert differing == []


def checkpoints(folder):
    return sorted((folder / "save").glob("CKPT*"))
