"""Time and memory of the data and of classifiers at the size of VoxCeleb2.

    python benchmarks/scale.py                     # prints the tables
    python benchmarks/scale.py --utterances 20000  # of a smaller corpus
    python benchmarks/scale.py --write             # and writes them into docs

The files are tiny, their number is the real one. Each measurement runs in a
process of its own, on Linux. Some 3 GB of disk and of memory are needed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from jobs.scale import (
    BATCH_SIZE,
    CHUNKS,
    CROP_SECONDS,
    HEAD_BATCH,
    HEAD_SIZE,
    SECONDS,
    SPEAKERS,
    UTTERANCES,
    make_corpus,
    write_chunks,
)
from pages import conditions, write_page

HEADS = (5_994, 18_000, 100_000)
# Job, what it does, what it counts.
PARTS = (
    ("walk", "find the files of the tree", "files"),
    ("shards", "write them as tar shards", "files"),
    ("index", "find the utterances of the shards", "utterances"),
    ("manifests", "write train.csv (reads each header)", "utterances"),
    ("rows", "read train.csv", "rows"),
    ("host_rows", "read train.csv, SpeechBrain's dataset", "rows"),
    ("chunks", f"read a manifest of {CHUNKS} chunks a file", "rows"),
    ("host_chunks", "the same, SpeechBrain's dataset", "rows"),
    ("epoch", f"draw an epoch of batches of {BATCH_SIZE}", "batches"),
    ("speaker_epoch", "draw an epoch of 64 speakers x 10", "batches"),
    ("batches", "read and collate crops from shards", "crops"),
    ("file_batches", "read and collate crops from files", "crops"),
)
LOSSES = (
    ("aam_head", "SpeechBrain's additive angular margin"),
    ("own_aam_head", "additive angular margin"),
    ("am_head", "additive margin softmax"),
)
INTRODUCTION = f"""# At the size of VoxCeleb2

{UTTERANCES:,} utterances of {SPEAKERS:,} speakers, as in VoxCeleb2's
development part, and classifiers of as many speakers and more. Each line is a
process of its own; its memory is what it took at most beyond that of Python,
its libraries and its input, and "kept" what of it the result occupies. Two more
speakers are those of the trial list.

The files are {SECONDS} s of noise, since their number counts here and not
their length; speakers are links to two folders, so all is read from a warm
cache. Crops of {CROP_SECONDS:.0f} s repeat them.
"""


def run_job(name, where):
    """What one measurement printed."""
    print(name, where, file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "jobs.scale", name, str(where)],
        cwd=Path(__file__).parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def data_lines(num_speakers, num_utterances, parent):
    """Table of what the data takes."""
    lines = [
        "| part | number | seconds | microseconds each | memory, MB | kept |",
        "| --- |" + " ---: |" * 5,
    ]
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        make_corpus(folder, num_speakers, num_utterances)
        for job, title, unit in PARTS:
            if job == "chunks":
                write_chunks(folder)
            found = run_job(job, folder)
            each = 1e6 * found["seconds"] / found["count"]
            lines.append(
                f"| {title} | {found['count']:,} {unit} "
                f"| {found['seconds']:.1f} | {each:,.1f} "
                f"| {found['megabytes']:,.0f} | {found['kept']:,.0f} |"
            )
            print(lines[-1], flush=True)
    return lines


def head_lines(sizes):
    """Table of classifiers."""
    lines = [
        "| loss | speakers | parameters | forward and backward, ms "
        "| optimiser, ms | memory, MB |",
        "| --- |" + " ---: |" * 5,
    ]
    for job, title in LOSSES:
        for size in sizes:
            found = run_job(job, size)
            lines.append(
                f"| {title} | {size:,} | {found['parameters']:,} "
                f"| {found['forward_backward']:.0f} "
                f"| {found['optimiser']:.0f} | {found['megabytes']:,.0f} |"
            )
            print(lines[-1], flush=True)
    return [
        *lines,
        "",
        f"Batches of {HEAD_BATCH} embeddings of size {HEAD_SIZE}, float32, "
        "AdamW, one thread. Memory holds the gradients, the optimiser's two "
        "moments and what a step needs, not the parameters themselves.",
    ]


def main():
    """Measure, print and, if asked to, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--speakers", type=int, default=SPEAKERS)
    add("--utterances", type=int, default=UTTERANCES)
    add("--heads", type=int, nargs="+", default=HEADS, help="speakers")
    add("--folder", help="where the corpus is made")
    add("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    if options.write and options.utterances != UTTERANCES:
        parser.error(f"the page is of {UTTERANCES:,} utterances.")
    lines = ["## Data", ""]
    lines += data_lines(options.speakers, options.utterances, options.folder)
    lines += ["", "## Classifiers", "", *head_lines(options.heads)]
    lines += ["", conditions()]
    print("\n".join(lines))
    if options.write:
        write_page("scale", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
