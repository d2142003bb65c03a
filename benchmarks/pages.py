"""Pages of docs: figures between markers, and what made them."""

import datetime
import sys
from pathlib import Path

from speechbrain_attn.demo.report import describe_machine, versions

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "benchmarks"
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


def write_page(name, introduction, figures, folder=FOLDER.name):
    """Write ``docs/<folder>/<name>.md``.

    Arguments
    ---------
    name : str
        Of the page.
    introduction : str
        Markdown above the figures.
    figures : list of str
        Lines of Markdown, a table and its ``conditions``.
    folder : str
        Of docs.
    """
    (DOCS / folder).mkdir(parents=True, exist_ok=True)
    body = "\n".join([START, *figures, END])
    (DOCS / folder / f"{name}.md").write_text(f"{introduction}\n{body}\n")
