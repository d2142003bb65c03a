"""Pages of docs/benchmarks: figures between markers, and what made them."""

import datetime
import sys
from pathlib import Path

from speechbrain_attn.demo.report import describe_machine, versions

FOLDER = Path(__file__).parents[1] / "docs" / "benchmarks"
START, END = "<!-- figures: start -->", "<!-- figures: end -->"


def conditions(**more_versions):
    """One line under a table: where, with what and when it was made."""
    made_with = {**versions(), **more_versions}
    named = ", ".join(f"{name} {number}" for name, number in made_with.items())
    command = " ".join(["python", *sys.argv])
    return (
        f"{describe_machine()}; {named}; {datetime.date.today()}; made by "
        f"`{command}`."
    )


def write_page(name, introduction, figures):
    """Write ``docs/benchmarks/<name>.md``.

    Arguments
    ---------
    name : str
        Of the page.
    introduction : str
        Markdown above the figures.
    figures : list of str
        Lines of Markdown, a table and its ``conditions``.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    body = "\n".join([START, *figures, END])
    (FOLDER / f"{name}.md").write_text(f"{introduction}\n{body}\n")
