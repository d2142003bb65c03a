"""The folder of a scoring run: all its files are of one run.

They are ``scores.txt``, ``results.json``, ``results.md`` and, where they were
made, ``decisions.csv``, ``calibration.json``, ``fusion.json``,
``plda.safetensors`` and pictures.
"""

import json
from pathlib import Path

from speechbrain_attn.dataio.manifest import write_together
from speechbrain_attn.dataio.scores import write_decisions, write_scores
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.pictures import NAMES, write_pictures
from speechbrain_attn.scoring.results_page import render_results

# Written by every run or by some. A back end is no result: it can be loaded.
RESULTS = (
    "scores.txt",
    "decisions.csv",
    "results.json",
    "results.md",
    "calibration.json",
    "fusion.json",
    *(f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")),
)


def replace_results(folder, results, saved, figures, trials, own, decisions):
    """Write a run's files in the place of those of an earlier run.

    Arguments
    ---------
    folder : str or Path
        Made if need be.
    results : dict
        As ``run_scoring`` returns them.
    saved : dict
        Name of a file to what saves itself there.
    figures : dict
        As ``draw_pictures`` returns them.
    trials : Trials
    own : System
        Whose scores are written.
    decisions : Decisions or None

    Raises
    ------
    AttnError
        A file cannot be written.
    """
    folder = Path(folder)
    texts = {
        folder / "results.json": [json.dumps(results, indent=2) + "\n"],
        folder / "results.md": [render_results(results)],
    }
    _clear(folder)
    for name, one in saved.items():
        one.save(folder / name)
    write_pictures(folder, figures)
    write_scores(folder / "scores.txt", trials, own.scores)
    if decisions is not None:
        path = folder / "decisions.csv"
        write_decisions(path, trials, own.scores, own.llrs, *decisions)
    write_together(texts)


def _clear(folder):
    """Remove earlier results, none of which may pass for new ones."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in RESULTS:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise AttnError(
            f"{error.filename}: cannot be written ({error.strerror}); choose "
            "another output folder."
        ) from None
