"""Runs each row of VoxCeleb.csv for real on the tiny corpus.

The columns are SpeechBrain's. In the flags ``$data_folder``, ``$trials`` and
``$validation`` stand for the tiny corpus and its lists, and
``$tmp/VoxCeleb_row_NN`` for the output folder of an earlier row, where NN is
the row's line in the file.
"""

import csv
import re
import string
from pathlib import Path

import pytest
from recipe_runs import ROOT, run

TABLE = Path(__file__).with_name("VoxCeleb.csv")
with open(TABLE, newline="", encoding="utf-8") as table:
    ROWS = list(enumerate(csv.DictReader(table), start=2))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Folder of all rows' output folders."""
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def row_runs(outputs, tiny_corpus, trials, validation_trials):
    """Runs a row, and those before it that its flags name; each once."""
    names = {
        "data_folder": tiny_corpus,
        "trials": trials,
        "validation": validation_trials,
        "tmp": outputs,
    }
    done = {}

    def run_row(line):
        if line not in done:
            row = dict(ROWS)[line]
            for earlier in re.findall(r"row_(\d+)", row["test_debug_flags"]):
                run_row(int(earlier))
            flags = string.Template(row["test_debug_flags"]).substitute(names)
            done[line] = run(
                ROOT / row["Script_file"],
                ROOT / row["Hparam_file"],
                *flags.split(),
                "--device=cpu",
                f"--output_folder={outputs}/VoxCeleb_row_{line:02d}",
            )
        return done[line]

    return run_row


@pytest.mark.parametrize(
    "line, row", ROWS, ids=[row["Hparam_file"] for _, row in ROWS]
)
def test_row(line, row, row_runs, outputs):
    done = row_runs(line)
    assert done.returncode == 0, done.stdout[-3000:]
    (names,) = re.findall(r"file_exists=\[(.*?)\]", row["test_debug_checks"])
    folder = outputs / f"VoxCeleb_row_{line:02d}"
    missing = [n for n in names.split(",") if not (folder / n).is_file()]
    assert missing == []


def test_rows_name_files_that_exist_and_every_recipe():
    """Each YAML of a script is in the table, and each file of the table is."""
    for _, row in ROWS:
        for column in ("Script_file", "Hparam_file", "Data_prep_file"):
            assert (ROOT / row[column]).is_file(), row[column]
    listed = {row["Hparam_file"] for _, row in ROWS}
    there = {
        str(path.relative_to(ROOT))
        for folder in ("hparams", "hparams/baselines")
        for path in (ROOT / folder).glob("*.yaml")
    }
    assert listed == there
