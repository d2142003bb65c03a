"""Weights for what a YAML builds, from where its pretrainer says they lie."""

import os

from speechbrain.utils.checkpoints import (
    DEFAULT_LOAD_HOOKS,
    get_default_hook,
    torch_recovery,
)

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.weights import load_weights


def load_pretrained(pretrainer):
    """Load what the YAML's pretrainer names, from where it lies.

    Not by the pretrainer itself: it only warns of parameters that a file
    lacks, keeps using the links of an earlier model in ``save_folder``, and
    takes a folder that is not there for a name on the hub.

    Arguments
    ---------
    pretrainer : speechbrain.utils.parameter_transfer.Pretrainer

    Raises
    ------
    AttnError
        A loadable has no path, or cannot be loaded from it.
    """
    for name, loadable in pretrainer.loadables.items():
        if not pretrainer.is_loadable(name):
            continue
        if name not in pretrainer.paths:
            raise AttnError(f"pretrainer: paths has no entry for {name!r}.")
        path = str(pretrainer.paths[name])
        hook = get_default_hook(loadable, DEFAULT_LOAD_HOOKS)
        if hook is torch_recovery:
            load_weights(loadable, path)
        elif hook is not None and os.path.isfile(path):
            # For example a normaliser, which keeps its own kind of file.
            hook(loadable, path, False)
        else:
            raise AttnError(f"pretrainer: {name!r} cannot be loaded: {path}.")
