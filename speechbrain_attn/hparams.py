"""HyperPyYAML files, with errors that say what to change."""

import ast
import difflib
import os
import re

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml.error import YAMLError

from speechbrain_attn.errors import AttnError


def load_hparams(path, overrides="", options=()):
    """Build what a YAML file describes, as the recipes do.

    Arguments
    ---------
    path : str or Path
        HyperPyYAML file.
    overrides : str or dict
        What to change in it, as ``speechbrain.parse_arguments`` returns it.
    options : sequence of str
        What the command takes beside the file's keys, for messages.

    Returns
    -------
    dict

    Raises
    ------
    AttnError
        The file is missing or is no YAML, an override names no key of it or
        has no value, or a value must be given.

    Example
    -------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/a.yaml"
    >>> with open(path, "w") as file:
    ...     _ = file.write("lr: 0.1\\nsize: 3\\n")
    >>> load_hparams(path, {"size": 5})
    {'lr': 0.1, 'size': 5}
    """
    if not os.path.isfile(path):
        raise AttnError(f"{path}: no such YAML file.")
    # To the host "--key" alone is null, which would switch an option off.
    bare = re.search(r"^(\w+): *$", str(overrides), re.MULTILINE)
    if bare:
        raise AttnError(
            f"--{bare[1]} has no value; write --{bare[1]}=True to switch an "
            f"option on, or --{bare[1]}=null to leave it out."
        )
    try:
        with open(path, encoding="utf-8") as file:
            return load_hyperpyyaml(file, overrides)
    except (KeyError, ValueError, YAMLError) as error:
        advice = _advice(error, options)
        if isinstance(error, AttnError) or advice is None:
            raise
        raise AttnError(f"{path}: {advice}") from error


def _advice(error, options):
    """What to change, for an error of the file or of an override; else None.

    Others come from what the file builds, and keep their traceback.
    """
    said = str(error.args[0] if error.args else "")
    unknown = re.match(r"Override '(.*)' not found in: (\[.*\])$", said)
    if unknown:
        key, keys = unknown[1], [*ast.literal_eval(unknown[2]), *options]
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"; did you mean --{near[0]}?" if near else "."
        keys = ", ".join(keys)
        return f"has no key {key!r} to override{hint} Known: {keys}."
    missing = re.match(r"'(.*)' is a !PLACEHOLDER", said)
    if missing:
        return f"{missing[1]} must be given: add --{missing[1]}=..."
    twice = re.search(r'found duplicate key "(.*?)"', str(error))
    if twice:
        return f"{twice[1]} is given twice; leave one of them out."
    return str(error) if isinstance(error, YAMLError) else None
