"""Memory, time and exactness of the embedding of long recordings.

    python benchmarks/long_audio.py               # prints the tables
    python benchmarks/long_audio.py --minutes 1 3 # of short recordings
    python benchmarks/long_audio.py --write       # and writes them into docs

Each measurement runs in a process of its own, on one thread. Without
``--audio`` (a folder whose files are joined) the recordings are made up, and
without ``--models`` (model folders) the networks have random weights.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from jobs.long_audio import CHUNK_SECONDS, YAMLS
from pages import conditions, write_page

JOB = Path(__file__).with_name("jobs") / "long_audio.py"
RATE = 16_000
SEED = 13
INTRODUCTION = f"""# How much memory a long recording takes

The embedding of one recording by `embed_long_audio` (ours), by one pass over
all of it, and as the mean of the embeddings of {CHUNK_SECONDS} s chunks.
"Distance" is one minus the cosine to the embedding of one pass, where that fits
into the memory allowed to it. Ours is the same embedding but for rounding; that
of the chunks is another one.

Peak memory is the resident memory of the whole process, of which Python and
its libraries take the most at one minute. Time is that of one thread and holds
the reading of the file. Ours goes over the frames of serialized attention twice
a layer, and keeps them in a file meanwhile.

Networks have the sizes of their YAML file, except double multi-head attention,
which has those of `hparams/demo/double_mha.yaml`: with the width of the paper
its front end alone would take hours here.
"""


def parse():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--minutes", nargs="+", type=float, default=[1, 10, 30, 120]
    )
    parser.add_argument("--audio", help="folder of files to join")
    parser.add_argument(
        "--models",
        nargs="+",
        default=list(YAMLS),
        help=f"model folders, or of {', '.join(YAMLS)} with random weights",
    )
    parser.add_argument(
        "--gigabytes", type=float, default=14, help="allowed to one pass"
    )
    parser.add_argument("--write", action="store_true", help="write the page")
    return parser.parse_args()


def made_up():
    """Yield seconds of coloured noise, each with a level of its own."""
    draw = np.random.default_rng(SEED)
    hertz = np.fft.rfftfreq(RATE, 1 / RATE)
    while True:
        spectrum = np.fft.rfft(draw.normal(0, 1, RATE))
        for centre in draw.uniform(200, 4000, 3):
            spectrum *= 0.1 + 1 / (1 + ((hertz - centre) / 200) ** 2)
        wav = np.fft.irfft(spectrum)
        yield 0.5 * wav / np.abs(wav).max() * 10 ** draw.uniform(-2, 0)


def joined(folder):
    """Yield the files of a folder, over and over."""
    paths = sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix in (".wav", ".flac")
    )
    if not paths:
        sys.exit(f"{folder}: no wav or flac files.")
    while True:
        for path in paths:
            yield soundfile.read(path)[0]


def write_recording(path, minutes, folder):
    """Write a recording of so many minutes, in pieces."""
    missing = round(minutes * 60 * RATE)
    pieces = joined(folder) if folder else made_up()
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        while missing > 0:
            piece = next(pieces)[:missing]
            file.write(piece)
            missing -= len(piece)


def measured(way, model, recording, gigabytes):
    """Seconds, peak memory and embedding; None if there is no room."""
    embedding = recording.with_suffix(".npy")
    print(way, model, recording.stem, file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, JOB, way, model, recording, embedding, str(gigabytes)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    if found is not None:
        found["embedding"] = np.load(embedding).astype("f8")
    return found


def distance(found, reference):
    """One minus the cosine, as text."""
    if reference is None:
        return "-"
    one, other = found["embedding"], reference["embedding"]
    scale = np.sqrt(one @ one) * np.sqrt(other @ other)
    return f"{max(0.0, 1 - one @ other / scale):.0e}"


def cells(found):
    """Time and memory as the cells of a row."""
    if found is None:
        return ["no room", "-"]
    return [f"{found['seconds']:,.1f} s", f"{found['peak']:,.0f} MB"]


def row(model, recording, minutes, gigabytes):
    """The cells of one network and one length."""
    one, ours, chunks = (
        measured(way, model, recording, gigabytes)
        for way in ("one_pass", "ours", "chunks")
    )
    return [
        Path(model).name,
        f"{minutes:g} min",
        *cells(ours),
        distance(ours, one),
        *cells(one),
        *cells(chunks),
        distance(chunks, one),
    ]


def main(options):
    """Measure, print, and write the page if wanted."""
    titles = (
        "network | length | ours | peak | distance | one pass | peak | "
        "chunks | peak | distance"
    )
    lines = [f"| {titles} |", "| --- |" + " ---: |" * 9]
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            recording = Path(folder) / f"{minutes:g}.wav"
            write_recording(recording, minutes, options.audio)
        for model in options.models:
            for minutes in options.minutes:
                recording = Path(folder) / f"{minutes:g}.wav"
                found = row(model, recording, minutes, options.gigabytes)
                lines.append(f"| {' | '.join(found)} |")
    lines += [
        "",
        f"One pass was allowed {options.gigabytes:g} GB of memory. "
        + (
            "Recordings are files joined. "
            if options.audio
            else f"Recordings are coloured noise, seed {SEED}. "
        )
        + conditions(),
    ]
    print("\n".join(lines))
    if options.write:
        write_page("long_audio", INTRODUCTION, lines)


if __name__ == "__main__":
    main(parse())
