"""Time, memory and agreement of searches among 1,000 to a million voices.

    python benchmarks/registry.py                  # prints the tables
    python benchmarks/registry.py --write          # and writes them into docs
    python benchmarks/registry.py --sizes 1000     # of other sizes

Each measurement runs in a process of its own, whose peak memory is taken. The
embeddings are simulated (``jobs/registry.py`` has the law). A million voices
take 2.5 GB on disk and some minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jobs.registry import (
    CANDIDATES,
    DECAY,
    GROUP_PART,
    GROUPS,
    MEMORY_GB,
    NOISE,
    QUERIES,
    SEED,
    SIZE,
)
from pages import conditions, write_page

from speechbrain_attn.inference.voice_index import EXACT_VOICES

JOB = Path(__file__).with_name("jobs") / "registry.py"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
KINDS_AT = 100_000  # voices on which kinds of index are compared
INTRODUCTION = f"""# How long it takes to identify a speaker

`speechbrain_attn.inference` compares a recording with all enrolled voices: by
exact products up to {EXACT_VOICES:,} voices, and above with an index, if faiss
is installed. The index holds a code of four bits for each two values of a
voice and goes through all of them; its {CANDIDATES} best candidates are
fetched from the registry and compared exactly. The times are of one embedding
at a time, from the embedding to the names; a network takes its own time
before. Agreement is how often the best match of the index is that of the exact
search, for {QUERIES} recordings of enrolled speakers, spread over all of them,
and for {QUERIES} of others, whose nearest voices are many and close to each
other.

The embeddings are simulated, of size {SIZE} and unit length. A voice is one of
{GROUPS} centres, of length {GROUP_PART:g}, and a normal deviation of length 1
on average, whose standard deviation in the k-th of {SIZE} directions is
proportional to k to the power of -{DECAY:g}; an utterance adds one of length
{NOISE:g} in the same directions. The second table shows the cosines that
follow. Each speaker is enrolled with one utterance. No process may take more
than {MEMORY_GB} GB. Peak memory is that of the whole process, Python and its
libraries included.
"""


def measured(name, num_voices, folder):
    """What a job found, in a process of its own."""
    print(name, num_voices, file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, JOB, name, str(num_voices), folder],
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def lines_of(sizes, parent):
    """Tables of searches, of the registry, and of kinds of index."""
    searches = [
        "| voices | exact, ms | loading, s | peak | index, ms | loading, s | "
        "peak | same best, enrolled | others |",
        "|" + " ---: |" * 9,
    ]
    registries = [
        "| voices | enrolling, s | file | making the index, s | peak | its "
        "file | cosine, same speaker | different |",
        "|" + " ---: |" * 8,
    ]
    kinds = []
    for num_voices in sizes:
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            jobs = ("enrol", "exact", "index", "index_again")
            enrol, exact, index, again = (
                measured(job, num_voices, folder) for job in jobs
            )
            if num_voices == KINDS_AT:
                kinds = kind_lines(measured("kinds", num_voices, folder))
        same = np.array(exact["best"]) == np.array(again["best"])
        cells = [f"{num_voices:,}"]
        for found in (exact, again):
            cells += [
                f"{1000 * found['seconds']:.2f}",
                f"{found['loaded']:.2f}",
                f"{found['peak']:,.0f} MB",
            ]
        cells += [
            f"{100 * half.mean():.1f} %"
            for half in (same[:QUERIES], same[QUERIES:])
        ]
        searches.append(f"| {' | '.join(cells)} |")
        cosines = (
            "{:.2f} ± {:.2f}".format(*enrol[kind])
            for kind in ("same", "different")
        )
        registries.append(
            f"| {num_voices:,} | {enrol['seconds']:.1f} | "
            f"{enrol['file']:,.1f} MB | {index['seconds']:.1f} | "
            f"{index['peak']:,.0f} MB | {index['file']:,.1f} MB | "
            f"{' | '.join(cosines)} |"
        )
    return [
        *("## Searching", "", *searches, ""),
        *("## Enrolling", "", *registries, "", *kinds),
    ]


def kind_lines(found):
    """Table of kinds of index."""
    lines = [
        f"## Kinds of index, at {KINDS_AT:,} voices",
        "",
        "How often the exact best match is among the candidates of an index, "
        "and the time until they are there. The first kind goes through the "
        "codes of all voices, so that none is left out wherever it lies; the "
        "others through a part. Names are those of faiss.",
        "",
        "| index | goes through | candidates | making, s | ms | enrolled | "
        "others |",
        "| --- | --- |" + " ---: |" * 5,
    ]
    lines += [
        f"| {name} | {setting} | {count} | {made:.1f} | {1000 * seconds:.2f} "
        f"| {100 * known:.1f} % | {100 * others:.1f} % |"
        for name, setting, count, made, seconds, known, others in found["rows"]
    ]
    return [*lines, ""]


def main():
    """Measure, print and, if asked to, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the page")
    parser.add_argument("--folder", help="where registries are made")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    lines = lines_of(options.sizes, options.folder)
    made_with = conditions(**{"faiss-cpu": version("faiss-cpu")})
    lines.append(f"Seed {SEED}. {made_with}")
    print("\n".join(lines))
    if options.write:
        write_page("registry", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
