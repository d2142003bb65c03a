"""The folder of a scoring run: all its files are of one run.

They are ``scores.txt``, ``results.json``, ``results.md`` and, where they were
made, ``decisions.csv``, ``calibration.json``, ``fusion.json``,
``plda.safetensors`` and pictures.
"""

import contextlib
import errno
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


def refuse_own_inputs(folder, options, trials):
    """Refuse to write results over what they are made from.

    Arguments
    ---------
    folder : str or Path
        Where results will be written.
    options : ScoringOptions
    trials : str or Path
        The test list.

    Raises
    ------
    AttnError
        A list, a map or the scores of another system are a file that the run
        would replace.
    """
    written = {(Path(folder) / name).resolve(): name for name in RESULTS}
    for path in (
        trials,
        options.development_file,
        options.compare,
        options.enrol_map,
        options.utt2spk,
    ):
        name = path and written.get(Path(path).resolve())
        if name:
            raise AttnError(
                f"{path}: is where this run writes its own {name}; choose "
                "another output folder, or copy the file elsewhere."
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
        made = sorted(path.name for path in new.iterdir())
        for name in {*made, *RESULTS}:
            if (folder / name).is_dir():
                raise OSError(errno.EISDIR, "is a folder", str(folder / name))
        for name in made:
            os.replace(new / name, folder / name)
        for name in set(RESULTS) - set(made):
            (folder / name).unlink(missing_ok=True)
    except AttnError as error:
        raise AttnError(str(error).replace(str(new), str(folder))) from None
    except OSError as error:
        path = str(error.filename).replace(str(new), str(folder))
        raise AttnError(
            f"{path}: cannot be written ({error.strerror}); choose another "
            "output folder."
        ) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
