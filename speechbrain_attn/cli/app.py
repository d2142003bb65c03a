"""The commands of ``speechbrain-attn``."""

from typing import Annotated

import typer
from typer.core import TyperGroup

from speechbrain_attn import __version__
from speechbrain_attn.cli.attend import attend
from speechbrain_attn.cli.common import say
from speechbrain_attn.cli.demo import demo
from speechbrain_attn.cli.embed import embed
from speechbrain_attn.cli.export import export
from speechbrain_attn.cli.export_onnx import export_onnx
from speechbrain_attn.cli.registry import enroll, identify, speakers
from speechbrain_attn.cli.score import score
from speechbrain_attn.cli.verify import verify
from speechbrain_attn.errors import AttnError


class Commands(TyperGroup):
    """A group that ends with one sentence and exit code 2 on an AttnError."""

    def invoke(self, ctx):
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except AttnError as error:
            say(f"{ctx.info_name} {ctx.invoked_subcommand}: {error}")
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    # A fault of ours shows as Python shows it, without pages of variables.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# `score` and `demo` hand their words on, --help among them, to programs that
# run without typer, too.
_HANDED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def _print_version(wanted):
    if wanted:
        print(__version__)
        raise typer.Exit()


@app.callback()
def speechbrain_attn(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and end.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
):
    """Speaker embeddings with attentive pooling.

    Results go to stdout, messages to stderr. The exit code is 0 when all was
    done, 1 when it was done without some recordings (each is said), and 2
    when it was not done.
    """


app.command()(embed)
app.command()(verify)
app.command()(enroll)
app.command()(identify)
app.add_typer(speakers, name="speakers")
app.command()(attend)
app.command(context_settings=_HANDED_ON)(score)
app.command()(export)
app.command()(export_onnx)
app.command(context_settings=_HANDED_ON)(demo)
