"""The folder of a scoring run: all its files are of one run.

They are ``scores.txt``, ``results.json``, ``results.md`` and, where they were
made, ``decisions.csv``, ``calibration.json``, ``fusion.json``,
``plda.safetensors`` and pictures.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path

from speechbrain_attn.dataio.manifest import write_together
from speechbrain_attn.dataio.scores import write_decisions, write_scores
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.pictures import NAMES, write_pictures
from speechbrain_attn.scoring.results_page import render_results

UNFINISHED = ".results"  # where a run's files are until all are written
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
    with _new_results(Path(folder)) as new:
        for name, one in saved.items():
            one.save(new / name)
        write_pictures(new, figures)
        write_scores(new / "scores.txt", trials, own.scores)
        if decisions is not None:
            path = new / "decisions.csv"
            write_decisions(path, trials, own.scores, own.llrs, *decisions)
        write_together(
            {
                new / "results.json": [json.dumps(results, indent=2) + "\n"],
                new / "results.md": [render_results(results)],
            }
        )


@contextlib.contextmanager
def _new_results(folder):
    """A folder whose files take the place of earlier results at the end.

    Of those none may pass for new ones, and all stay where one of the new
    ones cannot be written.
    """
    new = folder / UNFINISHED
    try:
        shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
        new.mkdir(parents=True)
        yield new
        for name in RESULTS:
            (folder / name).unlink(missing_ok=True)
        for path in sorted(new.iterdir()):
            os.replace(path, folder / path.name)
    except AttnError as error:
        raise AttnError(str(error).replace(str(new), str(folder))) from None
    except OSError as error:
        raise AttnError(
            f"{error.filename}: cannot be written ({error.strerror}); choose "
            "another output folder."
        ) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
