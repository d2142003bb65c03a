"""``speechbrain-attn score``: a trial list from stored embeddings."""

import typer


def score(context: typer.Context):
    """Score a trial list from stored embeddings: EER, minDCF, calibration.

    The same as `python -m speechbrain_attn.scoring`.
    """
    from speechbrain_attn.scoring.__main__ import main

    main(context.args, prog=context.command_path)
