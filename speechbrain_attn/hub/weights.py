"""Weights from a checkpoint file, all of them or an error."""

import os
import pickle

import torch

from speechbrain_attn.errors import AttnError


def load_weights(module, path):
    """Fill a module from a file that ``torch.save(module.state_dict())`` wrote.

    Arguments
    ---------
    module : torch.nn.Module
        Changed in place.
    path : str or Path
        For example ``CKPT+.../embedding_model.ckpt``.

    Raises
    ------
    AttnError
        The folder or file is missing, is empty or broken, or its parameters
        are not exactly those of the module, in name and shape. The message
        names file and parameter.
    """
    weights = _read(str(path))
    own = module.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    if missing or unknown:
        raise AttnError(
            f"{path}: is not a checkpoint of {type(module).__name__}: "
            f"{_some(missing)} missing, {_some(unknown)} unknown. Is it "
            "another network, or does the YAML set other sizes?"
        )
    for name, parameter in own.items():
        if weights[name].shape != parameter.shape:
            raise AttnError(
                f"{path}: {name} has shape {tuple(weights[name].shape)}, the "
                f"YAML builds {tuple(parameter.shape)}. Set the sizes that it "
                "was trained with."
            )
    module.load_state_dict(weights)


def _read(path):
    folder, file = os.path.split(path)
    if not os.path.isdir(folder or "."):
        raise AttnError(f"{folder}: folder not found{_hub_hint(folder)}.")
    if not os.path.isfile(path):
        found = ", ".join(sorted(os.listdir(folder or "."))) or "nothing"
        raise AttnError(
            f"{folder}: holds no {file}, but {found}. Give a CKPT+... folder "
            "of a training run, or a model folder."
        )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n")[0]
        raise AttnError(
            f"{path}: is empty, cut short or not a checkpoint ({reason}). "
            "Copy it again, or take an earlier checkpoint."
        ) from None
    tensors = isinstance(weights, dict) and all(
        isinstance(value, torch.Tensor) for value in weights.values()
    )
    if not tensors or not weights:
        raise AttnError(
            f"{path}: holds no parameters. Take another checkpoint."
        )
    return weights


def _hub_hint(folder):
    """How to get the folder, if its name may be one of the hub."""
    if folder.count("/") != 1 or folder[0] in "/.~":
        return ""
    return (
        "; for a model of the hub, fetch it first: hf download "
        f"{folder} --local-dir {os.path.basename(folder)}"
    )


def _some(names):
    """'nothing', or the first of the names and how many there are."""
    if not names:
        return "nothing is"
    return f"{names[0]}" + (
        f" and {len(names) - 1} more are" if len(names) > 1 else " is"
    )
