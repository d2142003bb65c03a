"""``speechbrain-attn attend``: where in a recording a model looks."""

from pathlib import Path
from typing import Annotated

import typer

from speechbrain_attn.cli.common import (
    AnywayOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    TrustOption,
    load_model,
    print_json,
    say,
)
from speechbrain_attn.cli.recordings import audio_paths, read_speech
from speechbrain_attn.errors import AttnError
from speechbrain_attn.inference.textgrid import write_textgrid

AudioArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="One recording; - for one on stdin.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="PICTURE.png",
        help="Draw waveform, spectrogram and attention into this file.",
        show_default=False,
    ),
]
SvgOption = Annotated[
    bool, typer.Option("--svg", help="The picture as PICTURE.svg, too.")
]
TextGridOption = Annotated[
    bool,
    typer.Option(
        "--textgrid",
        help="PICTURE.TextGrid for Praat, too: the fewest frames that hold "
        "half of each head's weight, as intervals.",
    ),
]


def attend(
    file: AudioArgument,
    model: ModelOption = None,
    output: OutputOption = None,
    svg: SvgOption = False,
    textgrid: TextGridOption = False,
    json: JsonOption = False,
    trust: TrustOption = False,
    device: DeviceOption = None,
    anyway: AnywayOption = False,
):
    """Show to which parts of a recording a model attends.

    Prints, for each head, the entropy of its weights over time and the number
    of frames that would have it if all weighed the same; with --json also the
    weights and their times.
    """
    _check_output(output, svg or textgrid)
    from speechbrain_attn.inference.attention import attention_of

    path, *others = audio_paths([file])
    if others:
        raise AttnError(f"{file}: {1 + len(others)} recordings; give one.")
    speaker_model = load_model(model, trust, device)
    waveform = read_speech(path, speaker_model, anyway)
    attention = attention_of(speaker_model, waveform)
    if output is not None:
        from speechbrain_attn.inference.attention_picture import (
            attention_figure,
        )
        from speechbrain_attn.scoring.plots import save_figure

        # As much of the path as names a file in VoxCeleb's layout.
        name = "/".join(Path(path).parts[-3:])
        title = f"{name}: {attention.pooling}"
        figure = attention_figure(
            attention, waveform, speaker_model.sample_rate, title
        )
        kinds = ("png", "svg") if svg else ("png",)
        written = save_figure(figure, output.with_suffix(""), kinds)
        if textgrid:
            written.append(output.with_suffix(".TextGrid"))
            write_textgrid(written[-1], attention)
        say(f"written: {', '.join(map(str, written))}")
    if json:
        print_json({"file": path, **attention.to_dict()})
    else:
        print("\n".join(_table(attention)))


def _check_output(output, more):
    if output is None and more:
        raise AttnError(
            "--svg and --textgrid go beside the picture; give its name, "
            "--output PICTURE.png."
        )
    if output is not None and output.suffix != ".png":
        raise AttnError(
            f"--output={output}: want a name that ends in .png; --svg and "
            "--textgrid write the other kinds beside it."
        )


def _table(attention):
    """Lines of a table, a line a head."""
    frames = attention.weights.shape[1]
    weighed = attention.head_weights is not None
    yield (
        f"{attention.pooling}: {frames} frames in {attention.duration_s:.2f} s"
    )
    head = f"{'head':<12}{'entropy (nats)':>15}{f'of ln {frames}':>12}"
    head += f"{'effective frames':>18}"
    yield head + (f"{'head weight':>13}" if weighed else "")
    columns = [
        attention.names,
        attention.entropies(),
        attention.entropy_shares(),
        attention.effective_frames(),
        attention.head_weights if weighed else attention.names,
    ]
    for name, entropy, share, effective, weight in zip(*columns, strict=True):
        line = f"{name:<12}{entropy:>15.3f}{100 * share:>10.1f} %"
        line += f"{effective:>18.1f}"
        yield line + (f"{weight:>13.4f}" if weighed else "")
