"""Weights from a checkpoint file, all of them or an error."""

import os
import pickle
import re

import safetensors.torch
import torch

from speechbrain_attn.errors import AttnError


def load_weights(module, path):
    """Fill a module from a file that ``torch.save(module.state_dict())`` wrote.

    A file of that name with the ending ``.safetensors`` will do, too.

    Arguments
    ---------
    module : torch.nn.Module
        Changed in place. One without parameters needs no file.
    path : str or Path
        For example ``CKPT+.../embedding_model.ckpt``.

    Raises
    ------
    AttnError
        The folder or file is missing, is empty or broken, or its parameters
        are not exactly those of the module, in name, shape and kind. The
        message names file and parameter.
    """
    path = str(path)
    own = module.state_dict()
    weights = {}
    if own or os.path.isfile(path):
        weights = read_values(path)
    tensors = all(isinstance(v, torch.Tensor) for v in weights.values())
    if not tensors or (own and not weights):
        raise AttnError(
            f"{path}: holds no parameters. Take another checkpoint."
        )
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
        if _kind(weights[name]) != _kind(parameter):
            raise AttnError(
                f"{path}: {name} holds {_kind(weights[name])}, the network "
                f"{_kind(parameter)}. Save its state_dict() as it is trained."
            )
    module.load_state_dict(weights)


def _kind(tensor):
    """What a tensor holds, in words: torch would cast it, or fail."""
    if tensor.is_meta:
        return "no numbers (meta)"
    if tensor.layout != torch.strided:
        return f"a sparse tensor ({tensor.layout})"
    if tensor.is_quantized:
        return f"quantised numbers ({tensor.dtype})"
    if tensor.is_complex():
        return f"complex numbers ({tensor.dtype})"
    return "real numbers" if tensor.is_floating_point() else "whole numbers"


def read_values(path):
    """What a weights file holds by name; no code in it is ever run.

    Arguments
    ---------
    path : str
        ``.ckpt`` of torch, or else the ``.safetensors`` beside it.

    Returns
    -------
    dict

    Raises
    ------
    AttnError
        There is no such file, or it is empty, broken, of another kind, or a
        pickle that names code.
    """
    folder, file = os.path.split(path)
    if not os.path.isdir(folder or "."):
        raise AttnError(f"{folder}: folder not found{_hub_hint(folder)}.")
    beside = os.path.splitext(path)[0] + ".safetensors"
    if not os.path.isfile(path) and os.path.isfile(beside):
        path = beside
    if not os.path.isfile(path):
        found = ", ".join(sorted(os.listdir(folder or "."))) or "nothing"
        raise AttnError(
            f"{folder}: holds no {file}, but {found}. Is it whole? Want a "
            "model folder, or a CKPT+... folder of a training run."
        )
    try:
        if path.endswith(".safetensors"):
            return safetensors.torch.load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        safetensors.SafetensorError,
    ) as error:
        # Torch says it in two ways, of what it does not know and of what it
        # would never run.
        named = re.search(
            r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", str(error)
        )
        if named:
            raise AttnError(
                f"{path}: is a pickle that names {named[1]}, and would run "
                "it. Weights need no code: ask for them as safetensors."
            ) from None
        if isinstance(error, OSError):
            raise AttnError(
                f"{path}: cannot be read ({error.strerror or error})."
            ) from None
        reason = str(error).split("\n")[0] or type(error).__name__
        raise AttnError(
            f"{path}: is empty, cut short or not a checkpoint ({reason}). "
            "Copy it again, or take an earlier checkpoint."
        ) from None
    return values if isinstance(values, dict) else {}


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
