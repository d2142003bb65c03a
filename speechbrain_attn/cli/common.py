"""What the commands share: options, the model, and what is printed.

Results go to stdout and all else to stderr, so that a pipe holds results
only. Nothing heavy is imported before a command runs: ``--help`` is quick.
"""

import glob
import json
import os
import sys
from typing import Annotated

import typer

from speechbrain_attn.errors import AttnError

MODEL_VARIABLE = "SPEECHBRAIN_ATTN_MODEL"
_said = set()

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar=MODEL_VARIABLE,
        metavar="FOLDER|hf://USER/NAME",
        help="Model folder, or a model of the Hugging Face hub. Without it, "
        "the newest that `make demo` left.",
        show_default=False,
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run all that the model's YAML names. A YAML can run any "
        "program: for models of people that you trust only.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="cpu, cuda or cuda:1, for example; without it, a GPU if there "
        "is one.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, for programs.")
]
AnywayOption = Annotated[
    bool,
    typer.Option(
        "--anyway",
        help="Use silent, clipped and too short recordings all the same; "
        "each is still said.",
    ),
]


def say(message):
    """Print a message for people, on stderr."""
    print(message, file=sys.stderr, flush=True)


def say_once(about, message):
    """Print a message on stderr, the first one about something only."""
    if about not in _said:
        _said.add(about)
        say(message)


def print_json(value):
    """Print a value as JSON on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


def progress(items, description, total=None, quiet=False):
    """Yield the items behind a bar on stderr.

    Arguments
    ---------
    items : iterable
    description : str
        What is done with them, before the bar.
    total : int
        How many there are, where ``len`` does not tell.
    quiet : bool
        True shows none; there is none either where stderr is no terminal.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    yield from track(
        items,
        description,
        total,
        console=console,
        transient=True,
        disable=hidden,
    )


def load_model(model, trust=False, device=None):
    """The ``hub.model.SpeakerModel`` that a command was asked for.

    Arguments
    ---------
    model : str or None
        Of ``ModelOption``; None takes what ``make demo`` left.
    trust, device
        Of ``TrustOption`` and ``DeviceOption``.

    Raises
    ------
    AttnError
        No model is named and none was left; it cannot be loaded; there is no
        such device.
    """
    from speechbrain_attn import hub

    _check_device(device)
    if model is None:
        model = _demo_model()
    try:
        return hub.load(model, trust=trust, device=device)
    except AttnError as error:
        if model == os.environ.get(MODEL_VARIABLE):
            raise AttnError(f"{error} ({MODEL_VARIABLE} names it.)") from None
        raise


def _check_device(device):
    import torch

    if device is None:
        return
    try:
        torch.zeros(0, device=device)
    except (RuntimeError, AssertionError):
        gpus = [f"cuda:{gpu}" for gpu in range(torch.cuda.device_count())]
        raise AttnError(
            f"--device={device}: torch has no such device here; it has "
            f"{', '.join(['cpu', *gpus])}."
        ) from None


def _demo_model():
    """Folder of the model that ``make demo`` wrote last."""
    from speechbrain_attn.demo.run import OUTPUT, ROOT

    found = [
        path
        for base in (OUTPUT, ROOT / OUTPUT)
        for path in glob.glob(f"{base}/*/*/model/hyperparams.yaml")
    ]
    if not found:
        raise AttnError(
            "no model: give --model FOLDER or --model hf://user/name, set "
            f"{MODEL_VARIABLE} to one, or run `make demo` in a clone of the "
            f"repository, which leaves one in {OUTPUT}."
        )
    folder = os.path.dirname(max(found, key=os.path.getmtime))
    real = "synthetic" not in folder
    say(
        f"model: {folder}, which `make demo` left"
        + ("" if real else "; it has heard synthetic voices only")
    )
    return folder


def exit_if_refused(refused, done):
    """End with exit code 1 if inputs were refused, with 2 if all were.

    Each was said before. ``done`` holds what was not refused.
    """
    if refused:
        raise typer.Exit(1 if done else 2)
