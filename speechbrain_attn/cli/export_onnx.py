"""``speechbrain-attn export-onnx``: a model as one file without torch."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from speechbrain_attn.cli.common import (
    JsonOption,
    TrustOption,
    load_model,
    print_json,
)

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="FOLDER|hf://USER/NAME",
        help="Model folder, or a model of the Hugging Face hub.",
        show_default=False,
    ),
]
OutputArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE.onnx",
        help="Where it goes; a file that was there is replaced.",
        show_default=False,
    ),
]


class Features(str, Enum):
    """What computes the features that go into the network."""

    waveform = "waveform"
    sherpa = "sherpa"


def export_onnx(
    model: ModelArgument,
    output: OutputArgument,
    features: Annotated[
        Features,
        typer.Option(
            help="waveform: the file computes them from samples, in "
            "onnxruntime. sherpa: sherpa-onnx does, for a model that was "
            "trained on its features."
        ),
    ] = Features.waveform,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Products of 8-bit integers: smaller and faster."
        ),
    ] = False,
    json: JsonOption = False,
    trust: TrustOption = False,
):
    """Write a model as an ONNX file, which runs without torch.

    The file's embeddings are compared with the model's before it is written,
    at five lengths and in a padded batch.
    """
    from speechbrain_attn.hub.onnx import export_onnx as write_onnx

    kind = "features" if features is Features.sherpa else "waveform"
    speaker_model = load_model(model, trust, "cpu")
    written = write_onnx(speaker_model, output, kind, int8, _name(model))
    size, parity = written.path.stat().st_size, written.parity
    if json:
        print_json(
            {
                "file": str(written.path),
                "bytes": size,
                "largest_difference": parity.difference,
                "largest_cosine_distance": parity.distance,
            }
        )
        return
    print(f"{written.path}: {size / 1e6:.1f} MB")
    print(
        f"largest difference from the model {parity.difference:.1e}, at values "
        f"up to {parity.largest:.2g}; largest cosine distance "
        f"{parity.distance:.1e}"
    )


def _name(model):
    """Name of a model, by its folder's; those of all runs are ``model``."""
    if model.startswith("hf://"):
        return model.removeprefix("hf://")
    folder = Path(model).absolute()
    return folder.parent.name if folder.name == "model" else folder.name
