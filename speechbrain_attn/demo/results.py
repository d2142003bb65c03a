"""Result pages and README tables, written from JSON files.

    python -m speechbrain_attn.demo.results --write

writes each page ``docs/results/<name>.md`` again from ``<name>.json`` beside
it, the tables in README.md between their markers, and the page of training
options. Without ``--write`` it only says which files differ from their data.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

from speechbrain_attn.errors import AttnError, exit_on_error
from speechbrain_attn.training.options import MEASURED, PAGE, options_page

_MARKED = re.compile(
    r"(<!-- table: (?P<data>\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL
)


def add_records(path, records):
    """Put results into a JSON file and write the page beside it.

    Arguments
    ---------
    path : str or Path
        The page; its data are in the file of the same name with ``.json``.
    records : list of dict
        One for each system and trial list, as ``demo.run`` makes them. A
        record takes the place of an earlier one of the same data, system and
        list.

    Raises
    ------
    AttnError
        The JSON file cannot be understood.
    """
    page = Path(path)
    data = page.with_suffix(".json")
    kept = {_key(record): record for record in read_records(data)}
    kept.update({_key(record): record for record in records})
    records = [kept[key] for key in sorted(kept)]
    page.parent.mkdir(parents=True, exist_ok=True)
    _replace(data, json.dumps(records, indent=2) + "\n")
    _replace(page, render_page(records, data.name))


def read_records(path):
    """Records of a JSON file; an empty list where there is no file."""
    if not Path(path).exists():
        return []
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise AttnError(
            f"{path}: is not JSON ({error}); restore or delete it."
        ) from None


def render_page(records, source):
    """The page of some records, as text; ``source`` names their file."""
    parts = [
        "# Results on real speech",
        f"Written by `python -m speechbrain_attn.demo.run --data ...` from "
        f"`{source}`; `make docs` renders it again. EER is the equal error "
        "rate; minDCF is normalised, with p_target 0.01.",
    ]
    if any("eer_interval" in record for record in records):
        parts[1] += (
            " In brackets: 95 % confidence intervals, by drawing speakers."
        )
    for data in sorted({record["data"] for record in records}):
        rows = [record for record in records if record["data"] == data]
        parts += [f"## {data}", render_table(rows), _runs(rows)]
    return "\n\n".join(parts) + "\n"


def render_table(records):
    """Markdown table with a row for each system and list."""
    lines = [
        "| system | parameters | list | trials | EER (%) | minDCF |",
        "| --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for record in records:
        lines.append(
            f"| {record['system']} | {record['parameters']:,} "
            f"| {record['list']} | {record['trials']:,} "
            f"| {shown_rate(record)} | {shown_cost(record)} |"
        )
    return "\n".join(lines)


def shown_rate(record):
    """EER of a record in percent, with its interval if it has one."""
    return _shown(record, "eer", "{:.2f}", 100)


def shown_cost(record):
    """minDCF of a record, with its interval if it has one."""
    return _shown(record, "min_dcf", "{:.3f}", 1)


def _shown(record, key, form, factor):
    value = form.format(factor * record[key])
    ends = record.get(f"{key}_interval")
    if ends is None:
        return value
    low, high = (form.format(factor * end) for end in ends)
    return f"{value} [{low}, {high}]"


def _runs(records):
    """How each system of the records was trained, a paragraph each."""
    paragraphs = []
    for record in {r["system"]: r for r in records}.values():
        versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
        paragraphs.append(
            f"**{record['system']}**, {record['date']}: "
            f"`{record['hparams']}` with seed {record['seed']} on "
            f"{record['train_utterances']:,} utterances "
            f"({record['train_hours']:.1f} hours) of "
            f"{record['train_speakers']:,} speakers; "
            f"{record['train_seconds']:.0f} s of training on "
            f"{record['machine']}; {versions}.\n\n"
            f"    {record['command']}"
        )
    return "\n\n".join(paragraphs)


def render_readme(text, folder):
    """README text with its marked tables written from their data.

    ``<!-- table: docs/results/x.json -->`` begins such a table and
    ``<!-- end of table -->`` ends it; paths are relative to ``folder``.
    """

    def table(match):
        records = read_records(Path(folder, match["data"]))
        body = render_table(records) + "\n" if records else ""
        return f"{match[1]}{body}{match[3]}"

    return _MARKED.sub(table, text)


def rendered_files(root):
    """Every file that is written from data: {path: text it should hold}."""
    root = Path(root)
    readme = root / "README.md"
    files = {
        readme: render_readme(readme.read_text(encoding="utf-8"), root),
    }
    for data in sorted((root / "docs" / "results").glob("*.json")):
        if data != root / MEASURED:
            page = data.with_suffix(".md")
            files[page] = render_page(read_records(data), data.name)
    files[root / PAGE] = options_page(root, read_records(root / MEASURED))
    return files


def _key(record):
    return record["data"], record["system"], record["list"]


def _replace(path, text):
    """Write a file so that nobody ever sees half of it."""
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


@exit_on_error
def main(arguments=None):
    """Command line of this file."""
    parser = argparse.ArgumentParser(
        prog="python -m speechbrain_attn.demo.results",
        description="Write README's tables and docs/results from their data.",
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--root", default=".", help="of the repository")
    options = parser.parse_args(arguments)
    stale = [
        (path, text)
        for path, text in rendered_files(options.root).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if options.write:
            _replace(path, text)
        print(f"{'written' if options.write else 'differs'}: {path}")
    return 0 if options.write or not stale else 1


if __name__ == "__main__":
    sys.exit(main())
