"""What tells two networks, or two lists of files, apart."""

import hashlib
import json
import os

import torch
from speechbrain.processing.features import InputNormalization
from torch import nn

_PLAIN = (bool, int, float, str, type(None))


def network_sha256(network):
    """Hash of all that a network's parts compute with.

    Arguments
    ---------
    network : iterable
        Modules, or other callables, of which only the names count. Of each
        module and those within it: class, numbers and words among its
        attributes, weights and buffers. Train or eval mode and the device
        have no say.

    Returns
    -------
    str
        64 hexadecimal digits.

    Example
    -------
    >>> _ = torch.manual_seed(0)
    >>> one, other = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> network_sha256([one]) == network_sha256([one.eval()])
    True
    >>> network_sha256([one]) == network_sha256([other])
    False
    """
    digest = hashlib.sha256()
    for part in network:
        if not isinstance(part, nn.Module):
            name = getattr(part, "__name__", type(part).__name__)
            digest.update(f"{name}\n".encode())
            continue
        for name, module in part.named_modules():
            digest.update(f"{name} {_description(module)}\n".encode())
            tensors = {
                **dict(module.named_parameters(recurse=False)),
                **dict(module.named_buffers(recurse=False)),
                **_statistics(module),
            }
            for name, tensor in tensors.items():
                digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
                flat = tensor.detach().cpu().contiguous().flatten()
                digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def _description(module):
    """Class and plain public attributes of one module."""
    plain = {
        key: value
        for key, value in vars(module).items()
        if key[0] != "_" and key != "training" and _is_plain(value)
    }
    if isinstance(module, InputNormalization):
        plain["device"] = "cpu"  # where it lies has no say
    # Not the class's module: it may move from one release to the next.
    return f"{type(module).__name__} {json.dumps(plain, sort_keys=True)}"


def _statistics(module):
    """What the host's normaliser learned, which it keeps in no buffer."""
    if getattr(module, "norm_type", None) != "global":
        return {}
    return {name: getattr(module, name) for name in ("glob_mean", "glob_std")}


def _is_plain(value):
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def files_sha256(files):
    """Hash of {utterance: path}, in its order."""
    digest = hashlib.sha256()
    for utterance, path in files.items():
        digest.update(os.fsencode(f"{utterance}\0{os.path.abspath(path)}\n"))
    return digest.hexdigest()


def file_states_sha256(files):
    """The same with sizes and times: it changes where a file is replaced."""
    digest = hashlib.sha256(files_sha256(files).encode())
    for path in files.values():
        try:
            found = os.stat(path)
        except OSError:  # who reads it says so
            digest.update(b"missing\n")
        else:
            digest.update(f"{found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
