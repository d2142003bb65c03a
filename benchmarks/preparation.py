"""Time and memory of corpus preparation for growing trees.

    python benchmarks/preparation.py            # prints a table
    python benchmarks/preparation.py --write    # and writes it into docs

The trees are made of hard links to a few short recordings of different
lengths, so that they take no room. Each is prepared in a process of its own,
whose peak memory is taken; a second run then shows what "nothing to do" costs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from pages import conditions, write_page

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "recipes" / "VoxCeleb" / "voxceleb_prepare.py"
SIZES = (10_000, 30_000, 100_000)
FILES_A_SESSION, SESSIONS_A_SPEAKER = 7, 20
INTRODUCTION = """# How long preparation takes

`voxceleb_prepare.py` reads the header of every file, not its samples, so its
time grows with the number of files and not with their length. "Again" is a
second run of the same command, which finds nothing to do. The trees are hard
links to a few short recordings and were made just before, so the figures are
those of a warm disk cache.
"""


def make_tree(folder, num_files, extension):
    """Tree of hard links in VoxCeleb's layout, and a list of two speakers."""
    sources = []
    rng = np.random.default_rng(5)
    for number, seconds in enumerate((3.1, 4.0, 6.5, 9.2)):
        samples = rng.uniform(-0.1, 0.1, round(seconds * 16000))
        sources.append(folder / f"source{number}.{extension}")
        soundfile.write(sources[-1], samples, 16000)
    for number in range(num_files):
        session, name = divmod(number, FILES_A_SESSION)
        speaker, session = divmod(session, SESSIONS_A_SPEAKER)
        target = folder / "data" / "wav" / f"id{speaker:05}" / f"{session:011}"
        if name == 0:
            target.mkdir(parents=True)
        os.link(sources[number % 4], target / f"{name:05}.{extension}")
    (folder / "trials.txt").write_text(
        "1 id00000/00000000000/00000.wav id00000/00000000000/00001.wav\n"
        "0 id00000/00000000000/00000.wav id00001/00000000000/00000.wav\n"
    )


def prepare(folder):
    """Seconds and peak memory in MB of one run of the command."""
    command = [sys.executable, SCRIPT, folder / "data", folder / "save"]
    command += ["--verification-file", folder / "trials.txt"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the command failed with code {process.returncode}")
    return seconds, peak_megabytes(usage)


def peak_megabytes(usage):
    """Peak memory of a process; Linux counts in KiB and macOS in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e6


def measure(num_files, extension, parent):
    """One row of the table."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        make_tree(folder, num_files, extension)
        seconds, megabytes = prepare(folder)
        again, _ = prepare(folder)
    return (
        f"| {num_files:,} | {extension} | {seconds:.1f} "
        f"| {num_files / seconds:,.0f} | {megabytes:.0f} | {again:.1f} |"
    )


def main():
    """Measure, print and, if asked to, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--folder", help="where the trees are made")
    parser.add_argument("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    lines = [
        "| files | format | seconds | files a second | peak MB | again, s |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    trees = [(size, "wav") for size in options.sizes]
    trees.append((max(options.sizes), "flac"))
    for size, extension in trees:
        lines.append(measure(size, extension, options.folder))
        print(lines[-1], flush=True)
    readers = {"libsndfile": soundfile.__libsndfile_version__}
    lines += ["", conditions(soundfile=soundfile.__version__, **readers)]
    print("\n".join(lines[-2:]))
    if options.write:
        write_page("preparation", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
