"""The command ``speechbrain-attn``; parsing and printing only."""

import sys


def main():
    """Run ``speechbrain-attn`` with the arguments of this process."""
    try:
        import typer  # noqa: F401
    except ImportError:
        print(
            "speechbrain-attn: needs typer: pip install "
            "'speechbrain_attn[cli]', or pip install typer.",
            file=sys.stderr,
        )
        sys.exit(2)
    from speechbrain_attn.cli.app import app

    # File names need not be UTF-8: their bytes come out as they came in.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")
    app(prog_name="speechbrain-attn")
