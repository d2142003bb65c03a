"""Time and memory of scores, metrics and trial lists, beside SpeechBrain's.

    python benchmarks/scoring.py            # prints the tables
    python benchmarks/scoring.py --write    # and writes them into docs

Each measurement runs in a process of its own, whose peak memory is taken, on
random embeddings and scores. Where the environment variable SPEECHBRAIN_REPO
names a clone of SpeechBrain, the loop over trials is the one of its script;
elsewhere it is the same steps written anew.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from jobs.scoring import COHORT, DRAWS, SEED, SIZE, SPEAKERS, TOP
from pages import FOLDER, conditions, write_page

from speechbrain_attn.scoring.plot_style import looks, style, subplots
from speechbrain_attn.scoring.plots import save_figure

JOB = Path(__file__).with_name("jobs") / "scoring.py"
SIZES = (37_611, 580_000, 10_000_000)  # VoxCeleb1-O, about -E and -H, more
GROWTH_SIZES = (37_611, 150_000, 580_000, 2_400_000, 10_000_000)
GROWTH = {  # step of a run to the job that measures it
    "cosine": "cosine",
    "adaptive s-norm": "s_norm",
    "EER + minDCF": "metrics",
    "bootstrap": "bootstrap",
}
PICTURE = "scoring_growth"
HARD = 550_894  # trials of VoxCeleb1-H
FEW, MANY = 4_708, 137_924  # utterances of VoxCeleb1-O and of -H
# What SpeechBrain's way is measured on.
HOST_TRIALS = {"host_cosine": 37_611, "host_s_norm": 200}
HOST_METRICS = (10_000, 37_611)
INTRODUCTION = f"""# How long scoring takes

SpeechBrain's `speaker_verification_cosine.py` scores in a loop over trials,
and with `score_norm` it computes the cohort scores of both sides anew for each
trial. Here the pairs of a block of trials are gathered and multiplied at once,
and the cohort is met once by each utterance. Embeddings have size {SIZE}, the
cohort {COHORT:,} rows of which the highest {TOP} scores count (adaptive
s-norm); they are in memory, and the lists are parsed. Each trial costs
SpeechBrain's loop the same, so its time for a whole list is extrapolated from
the trials a second that it reached on the first few.

Peak memory is that of a whole process: Python, its libraries (SpeechBrain's
with torch), the input and the result.
"""


def measured(name, num_trials, where):
    """Seconds, peak memory and more of one measurement."""
    arguments = [name, str(num_trials), str(where)]
    print(*arguments, file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, JOB, *arguments], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def score_lines():
    """Tables of scores."""
    lines = [
        "| scores | trials | utterances | SpeechBrain, trials/s | "
        "whole list | ours, trials/s | whole list | ratio | our peak |",
        "| --- |" + " ---: |" * 8,
    ]
    differences = []
    for name, label in (("cosine", "cosine"), ("s_norm", "adaptive s-norm")):
        job = f"host_{name}"
        host = measured(job, HOST_TRIALS[job], FEW)
        host_rate = HOST_TRIALS[job] / host["seconds"]
        differences.append(f"{label} {host['difference']:.0e}")
        for num_trials, rows in ((HARD, FEW), (HARD, MANY), (SIZES[-1], MANY)):
            ours = measured(name, num_trials, rows)
            rate = num_trials / ours["seconds"]
            lines.append(
                f"| {label} | {num_trials:,} | {rows:,} | {host_rate:,.0f} | "
                f"{duration(num_trials / host_rate)} | {rate:,.0f} | "
                f"{duration(ours['seconds'])} | {rate / host_rate:,.0f} x | "
                f"{ours['peak']:,.0f} MB |"
            )
    for num_trials, rows in ((HARD, MANY), (SIZES[-1], MANY)):
        ours = measured("plda", num_trials, rows)
        lines.append(
            f"| PLDA | {num_trials:,} | {rows:,} | scores a full matrix only | "
            f"- | {num_trials / ours['seconds']:,.0f} | "
            f"{duration(ours['seconds'])} | - | {ours['peak']:,.0f} MB |"
        )
    repo = "SPEECHBRAIN_REPO" in os.environ
    lines += [
        "",
        "SpeechBrain's loop is "
        + ("its script's own function" if repo else "written anew here")
        + f", measured on {HOST_TRIALS['host_cosine']:,} trials without and "
        f"{HOST_TRIALS['host_s_norm']:,} with s-norm; there, the largest "
        f"difference of its scores from ours is: {', '.join(differences)}.",
    ]
    return lines


def metric_lines():
    """Table of EER and minDCF."""
    lines = [
        "| trials | SpeechBrain, EER | minDCF | peak | ours, EER | minDCF | "
        "peak |",
        "|" + " ---: |" * 7,
    ]
    for num_trials in sorted({*HOST_METRICS, *SIZES}):
        ours = measured("metrics", num_trials, 0)
        cells = ["not run"] * 3
        if num_trials in HOST_METRICS:
            host = measured("host_metrics", num_trials, 0)
            agree(host["figures"], ours["figures"])
            cells = [*map(duration, host["seconds"]), f"{host['peak']:,.0f} MB"]
        cells += [*map(duration, ours["seconds"]), f"{ours['peak']:,.0f} MB"]
        lines.append(f"| {num_trials:,} | {' | '.join(cells)} |")
    lines += [
        "",
        "SpeechBrain's `EER` looks at every score for each threshold, and its "
        "`minDCF` makes a matrix of thresholds by scores: 13 bytes for each "
        f"pair of trials, {13 * SIZES[0] ** 2 / 1e9:.0f} GB for "
        f"{SIZES[0]:,}. Where both ran, EER and minDCF are equal to 1e-4.",
    ]
    return lines


def agree(theirs, ours):
    """Stop where the two give other figures."""
    for one, other in zip(theirs, ours, strict=True):
        if one is not None and abs(one - other) > 1e-4:
            sys.exit(f"SpeechBrain gives {one}, and we give {other}")


def load_lines(parent):
    """Table of reading trial lists."""
    lines = [
        "| trials | file | seconds | trials/s | peak |",
        "|" + " ---: |" * 5,
    ]
    for num_trials in SIZES:
        with tempfile.NamedTemporaryFile(
            "w", suffix=".txt", dir=parent
        ) as file:
            write_list(file, num_trials)
            found = measured("load", num_trials, file.name)
            size = os.path.getsize(file.name) / 1e6
        lines.append(
            f"| {num_trials:,} | {size:,.0f} MB | {found['seconds']:.1f} | "
            f"{num_trials / found['seconds']:,.0f} | "
            f"{found['peak']:,.0f} MB |"
        )
    return lines


def write_list(file, num_trials, block=200_000):
    """Write a list in VoxCeleb's format, names as long as there."""
    names = [
        f"id{10000 + row // 110}/{row // 8:011x}/{row % 8:05}.wav"
        for row in range(MANY)
    ]
    generator = np.random.default_rng(SEED)
    for start in range(0, num_trials, block):
        pairs = generator.integers(0, MANY, (min(block, num_trials - start), 2))
        file.writelines(
            f"{names[a][:7] == names[b][:7]:d} {names[a]} {names[b]}\n"
            for a, b in pairs.tolist()
        )
    # Both kinds of trial, whatever was drawn.
    file.write(f"1 {names[0]} {names[1]}\n")
    file.flush()


def measure_growth():
    """Name of a step to its seconds, one for each of ``GROWTH_SIZES``."""
    return {
        name: [
            np.sum(measured(job, num_trials, FEW)["seconds"])
            for num_trials in GROWTH_SIZES
        ]
        for name, job in GROWTH.items()
    }


def growth_lines(growth):
    """Table of time over N log N, and the picture of it."""
    lines = [
        f"![Seconds over trials]({PICTURE}.svg)",
        "",
        "Nanoseconds over N log2 N for N trials: where the figure does not "
        "rise from line to line, the cost grows no faster than N log N. "
        f"Scores are of trials among {FEW:,} utterances, whose cohort scores "
        "are all there is to s-norm of few trials; the bootstrap is of EER, "
        f"minDCF and AUC, {DRAWS} draws of {SPEAKERS:,} speakers.",
        "",
        "| trials | " + " | ".join(f"{name}, ns" for name in GROWTH) + " |",
        "|" + " ---: |" * (1 + len(GROWTH)),
    ]
    for row, num_trials in enumerate(GROWTH_SIZES):
        scale = num_trials * math.log2(num_trials)
        cells = (f"{1e9 * growth[name][row] / scale:,.2f}" for name in GROWTH)
        lines.append(f"| {num_trials:,} | {' | '.join(cells)} |")
    return lines


def growth_figure(growth):
    """Seconds over trials, each beside a line that grows as N log N."""
    sizes = np.array(GROWTH_SIZES)
    steps = sizes * np.log2(sizes)
    with style():
        figure, axes = subplots()
        for look, (name, seconds) in looks(growth):
            axes.loglog(sizes, seconds, label=name, **look)
            # Through the longest list, where fixed costs no longer count.
            axes.loglog(
                sizes,
                seconds[-1] * steps / steps[-1],
                color=look["color"],
                linestyle=":",
                linewidth=1,
                alpha=0.7,
            )
        axes.plot([], ":", color="black", linewidth=1, label="as N log N")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_xlabel("trials")
        axes.set_ylabel("seconds")
        figure.legend(loc="outside upper center", ncols=3)
    return figure


def duration(seconds):
    """Seconds in words; None was not run."""
    if seconds is None:
        return "not run"
    for unit, name in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.2g} s" if seconds >= 0.1 else f"{1000 * seconds:.2g} ms"


def main():
    """Measure, print and, if asked to, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--folder", help="where trial lists are made")
    options = parser.parse_args()
    lines = ["## Scores", "", *score_lines()]
    lines += ["", "## EER and minDCF", "", *metric_lines()]
    lines += ["", "## Trial lists", "", *load_lines(options.folder)]
    growth = measure_growth()
    lines += ["", "## Growth", "", *growth_lines(growth)]
    lines += ["", f"Seed {SEED}. {conditions()}"]
    print("\n".join(lines))
    if options.write:
        save_figure(growth_figure(growth), FOLDER / PICTURE)
        write_page("scoring", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
