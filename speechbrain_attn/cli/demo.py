"""``speechbrain-attn demo``: train, score and load a small system."""

import typer


def demo(context: typer.Context):
    """Train, score and load a small system on made-up voices, or on yours.

    The same as `make demo`; runs in a clone of the repository.
    """
    from speechbrain_attn.demo.run import main

    main(context.args, prog=context.command_path)
