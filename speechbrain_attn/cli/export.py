"""``speechbrain-attn export``: from a training run to a model folder."""

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="Output folder of a training, with model/ in it.",
        show_default=False,
    ),
]
FolderArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        help="Where the model goes; a model that was there is replaced, "
        "unless there is more beside it.",
        show_default=False,
    ),
]


def export(
    run: RunArgument,
    folder: FolderArgument,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Results of a verification, for the card, thresholds and "
            "calibration; those in RUN are found. May be given again.",
            show_default=False,
        ),
    ] = None,
    attention_picture: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Picture for the card, as `attend --output` draws.",
            show_default=False,
        ),
    ] = None,
    licence: Annotated[
        str,
        typer.Option(
            "--licence",
            "--license",
            metavar="NAME",
            help="Of the weights, by its name on the hub.",
        ),
    ] = "apache-2.0",
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What the model was trained on, by its name on the hub. May "
            "be given again.",
            show_default=False,
        ),
    ] = None,
    standalone: Annotated[
        bool,
        typer.Option(
            "--standalone",
            help="Add the network's source, so that SpeechBrain loads the "
            "folder without this package.",
        ),
    ] = False,
    push_to: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME",
            help="Upload to the Hugging Face hub.",
            show_default=False,
        ),
    ] = None,
):
    """Make a model folder, with a model card, from a training run."""
    from speechbrain_attn.hub.export import export as export_run

    made = export_run(
        run,
        folder,
        evaluations=evaluation or (),
        attention_picture=attention_picture,
        licence=licence,
        datasets=dataset or (),
        standalone=standalone,
        push_to=push_to,
    )
    print(made)
