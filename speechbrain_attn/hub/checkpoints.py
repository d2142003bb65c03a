"""Checkpoints of a training run: going on from the last whole one."""

import logging
import pickle
import zipfile

import yaml

from speechbrain_attn.errors import AttnError

logger = logging.getLogger(__name__)


def set_torn_aside(checkpointer, last_name):
    """Rename the folders of checkpoints that were not written to their end.

    The host writes the files of a checkpoint one by one into its final
    folder, so a run killed meanwhile leaves a torn one, on which the host
    would stop at every later start. Each becomes ``torn-CKPT+...``, with a
    warning that names it.

    Arguments
    ---------
    checkpointer : speechbrain.utils.checkpoints.Checkpointer
    last_name : str
        What is saved last, since it is registered last.
    """
    for folder in sorted(checkpointer.checkpoints_dir.glob("CKPT*")):
        flaw = _flaw(folder, last_name)
        if flaw is not None:
            aside = folder.with_name(f"torn-{folder.name}")
            folder.rename(aside)
            logger.warning(
                "%s: %s, as if the run was stopped while saving. The folder "
                "is now called %s and is passed over; the checkpoint before "
                "it is used, if there is one.",
                folder,
                flaw,
                aside.name,
            )


def _flaw(folder, last_name):
    """What is wrong with a checkpoint folder; None if it is whole."""
    try:
        meta = yaml.safe_load((folder / "CKPT.yaml").read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        meta = None
    if not isinstance(meta, dict) or "end-of-epoch" not in meta:
        return "CKPT.yaml is missing or broken"
    # Files are written in the order of registration, so with the last one
    # all were begun. One missing among them is no torn checkpoint but one of
    # another YAML, and loading it says so.
    if not (folder / f"{last_name}.ckpt").exists():
        return f"{last_name}.ckpt is missing"
    for path in sorted(folder.glob("*.ckpt")):
        with open(path, "rb") as file:
            head = file.read(2)
        # torch saves a zip archive, whose directory stands at its end.
        if not head or (head == b"PK" and not zipfile.is_zipfile(path)):
            return f"{path.name} is empty or cut short"
    return None


def recover(checkpointer, min_key=None):
    """Load the last checkpoint, or the one with the lowest ``min_key``.

    Arguments
    ---------
    checkpointer : speechbrain.utils.checkpoints.Checkpointer
    min_key : str
        Metric saved with the checkpoints; None takes the last one.

    Returns
    -------
    speechbrain.utils.checkpoints.Checkpoint
        What was loaded; None if there is none.

    Raises
    ------
    AttnError
        The checkpoint does not fit the objects of the run, or cannot be
        read; the message names its folder.
    """
    checkpoint = checkpointer.find_checkpoint(min_key=min_key)
    if checkpoint is None:
        return None
    try:
        checkpointer.load_checkpoint(checkpoint)
    except (
        RuntimeError,
        ValueError,
        KeyError,
        OSError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())
        raise AttnError(
            f"{checkpoint.path}: this checkpoint cannot be loaded ("
            f"{reason[:500]}). Was the YAML or an override changed since? "
            "Undo that, choose another output_folder, or remove this folder."
        ) from None
    return checkpoint
