"""Time and memory of training steps and embeddings, lobe by lobe.

    python benchmarks/training.py             # prints the tables
    python benchmarks/training.py --data=/path/to/corpus --write   # into docs

One thread; networks of full size with random weights on random features. The
networks take turns, round by round, so that ratios hold on a busy machine.
Without ``--data`` the files that a training waits for are noise.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import torch
from jobs.training import REFERENCE, SYSTEMS, Trained, seconds_of
from pages import conditions, write_page
from speechbrain.dataio.encoder import CategoricalEncoder
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from speechbrain_attn.dataio.crops import RandomCrops
from speechbrain_attn.dataio.datasets import TrainingExamples, collate
from speechbrain_attn.dataio.epochs import EpochBatchSampler
from speechbrain_attn.dataio.rows import Row
from speechbrain_attn.dataio.utterance_files import utterance_files
from speechbrain_attn.lobes.features import Fbank, SentenceNormalization
from speechbrain_attn.precision import is_fast
from speechbrain_attn.training.allocator import keep_freed_memory

RATE, CROP_SECONDS, BATCH = 16_000, 2.0, 32
NUM_FILES, NUM_BATCHES = 800, 24
TASKS = {"step": "step, 32 x 2 s", "one": "1 x 3 s", "many": "16 x 3 s"}
INTRODUCTION = """# How fast networks train and embed

Time of a training step on 32 crops of 2 s (features given; network, cosines to
1,211 speakers, additive angular margin, AdamW) and of embedding 3 s, one
utterance or 16 at once, in multiples of SpeechBrain's ECAPA-TDNN with 512
channels: medians over rounds in which the networks take turns in one process.
On a CPU one thread is used, and the time is the processor's.

"Share" is how much of the machine's matrix-product rate is reached: the
operations of convolutions and products that torch counts, over time and rate.
The rate is the larger one of a product of matrices of 2048 x 2048 and of a
convolution over frames with 512 channels, measured in every round. "At the
rate" is the ratio that a step would have if nothing but its products took time,
each at that rate: no program that computes the same is below it.
"""


def parse():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", help="VoxCeleb-like tree that the data loader reads")
    add("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    add("--rounds", type=int, default=3)
    add(
        "--compile_limit",
        type=float,
        default=45,
        help="seconds that torch.compile gets for a network; 0: not tried",
    )
    add("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    if not is_fast("bf16", "cpu"):
        parser.error(
            "half of the tables are of bfloat16, in which this processor does "
            "not multiply: each step would take some 20 times as long"
        )
    if REFERENCE not in options.systems:
        options.systems.insert(0, REFERENCE)
    return options


def products(bf16, device):
    """Two large products: {operations: call}."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    matrix = torch.randn(2048, 2048, dtype=dtype, device=device)
    # Channels side by side in memory, as in ``nnet.pointwise``.
    x = torch.randn(16, 301, 512, dtype=dtype, device=device)
    x = x.transpose(1, 2).unsqueeze(2)
    weight = torch.randn(512, 512, 1, 3, dtype=dtype, device=device)
    conv2d = torch.nn.functional.conv2d
    return {
        2 * 2048**3: lambda: matrix @ matrix,
        2 * 16 * 301 * 512 * 512 * 3: lambda: conv2d(x, weight, padding=(0, 1)),
    }


def operations(system):
    """Multiplications and additions of each task: {task: number}."""
    counts = {}
    for name, task in system.tasks(bf16=False).items():
        with FlopCounterMode(display=False) as counter:
            task()
        counts[name] = counter.get_total_flops()
    return counts


def speeds(systems, bf16, device, rounds):
    """Median seconds {(system, task): ...} and operations per second."""
    tasks = {
        (name, task): call
        for name, system in systems.items()
        for task, call in system.tasks(bf16).items()
    }
    times = {key: [] for key in tasks}
    rates = []
    for number in range(rounds + 1):  # the first one is to warm up
        for key, call in tasks.items():
            times[key].append(seconds_of(call, device))
        for count, call in products(bf16, device).items():
            call()
            rates.append(count / seconds_of(call, device))
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return {key: median(found[1:]) for key, found in times.items()}, max(rates)


def speed_lines(systems, counts, bf16, device, rounds):
    """Table of one precision on one device."""
    seconds, rate = speeds(systems, bf16, device, rounds)
    lines = [
        f"## {device.upper()}, {'bfloat16' if bf16 else 'float32'}",
        "",
        "| network | "
        + " | ".join(f"{title} | share" for title in TASKS.values())
        + " | step at the rate |",
        "| --- |" + " ---: |" * (2 * len(TASKS) + 1),
    ]
    for name in systems:
        cells = [SYSTEMS[name][0]]
        for task in TASKS:
            taken = seconds[name, task]
            ratio = taken / seconds[REFERENCE, task]
            share = counts[name][task] / taken / rate
            cells += [f"{ratio:.3f}", f"{share:.0%}"]
        least = counts[name]["step"] / rate / seconds[REFERENCE, "step"]
        lines.append("| " + " | ".join([*cells, f"{least:.3f}"]) + " |")
    taken = ", ".join(
        f"{title} {1000 * seconds[REFERENCE, task]:.1f} ms"
        for task, title in TASKS.items()
    )
    lines += ["", f"ECAPA-512: {taken}; rate {rate / 1e9:,.0f} Gflop/s.", ""]
    print("\n".join(lines), flush=True)
    return lines


def run_job(job, name, limit=None):
    """Lines that a measurement in its own process printed, and what failed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.training", job, name],
        cwd=Path(__file__).parent,
        # torch.compile's own processes would outlive one that is stopped.
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, errors = process.communicate(timeout=limit)
        failed = errors.strip().splitlines()[-1] if process.returncode else ""
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        failed = f"not done after {limit:g} s"
    found = {}
    for line in out.splitlines():
        found.update(json.loads(line))
    return found, failed


def process_lines(names, compile_limit):
    """Table of memory and torch.compile, each in a process of its own."""
    lines = [
        "## Memory, torch.compile and precision",
        "",
        "Peak memory of a step in bfloat16 beyond that of Python and its "
        "libraries; times with `torch.compile` over those without, bfloat16.",
        "",
        "| network | memory of a step, MB | step compiled | 16 x 3 s compiled "
        "| left out |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for name in names:
        used, failed = run_job("memory", name)
        if failed:
            raise SystemExit(f"memory of {name}: {failed}")
        found, failed = {}, "not tried"
        if compile_limit:
            found, failed = run_job("compiled", name, compile_limit)
        cells = [
            f"{found[task]:.2f}" if task in found else "-"
            for task in ("step", "many")
        ]
        lines.append(
            f"| {SYSTEMS[name][0]} | {used['megabytes']:,.0f} "
            f"| {' | '.join(cells)} | {failed} |"
        )
        print(lines[-1], flush=True)
    return lines


def cosine_lines(systems):
    """Table of how near bfloat16 comes to float32."""
    lines = [
        "",
        "Cosine between an embedding in bfloat16 and in float32, 16 x 3 s, "
        "random weights after the steps above:",
        "",
        "| network | smallest | mean |",
        "| --- | ---: | ---: |",
    ]
    for name, system in systems.items():
        full, half = (
            system.tasks(bf16)["many"]().double() for bf16 in (False, True)
        )
        cosines = torch.cosine_similarity(full, half)
        lines.append(
            f"| {SYSTEMS[name][0]} | {cosines.min():.6f} "
            f"| {cosines.mean():.6f} |"
        )
    return lines


def make_noise(folder):
    """Files of 4 to 12 s, two folders."""
    draw = np.random.default_rng(3)
    for number in range(200):
        place = Path(folder) / f"id{number % 2}" / "session"
        place.mkdir(parents=True, exist_ok=True)
        wav = draw.normal(0, 0.1, draw.integers(4 * RATE, 12 * RATE))
        soundfile.write(place / f"{number:05d}.wav", wav, RATE)


def training_rows(folder):
    """Rows of up to ``NUM_FILES`` files, as of a manifest."""
    rows = []
    for name, path in itertools.islice(
        utterance_files(folder, None).items(), NUM_FILES
    ):
        info = soundfile.info(path)
        rows.append(
            Row(
                id=name,
                path=str(path),
                duration=info.duration,
                start=0,
                stop=round(info.duration * RATE),
                speaker=name.split("/")[0],
            )
        )
    return rows


def data_wait(rows, system, num_workers):
    """Part of the time of steps that goes by before their data are there."""
    encoder = CategoricalEncoder()
    encoder.update_from_iterable([row.speaker for row in rows])
    encoder.expect_len(len(encoder))
    crops = RandomCrops(round(CROP_SECONDS * RATE), seed=1)
    loader = DataLoader(
        TrainingExamples(rows, encoder, crops, random_chunk=True),
        batch_sampler=EpochBatchSampler(len(rows), BATCH, seed=1),
        collate_fn=collate,
        num_workers=num_workers,
    )
    features, norm = Fbank(), SentenceNormalization()
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    next(batches)  # a worker starts with the first batch
    waited, began = 0.0, time.perf_counter()
    for _ in range(NUM_BATCHES):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        wavs, lengths = batch.sig
        speakers = torch.as_tensor(batch.spk_id_encoded).reshape(-1, 1)
        system.step(norm(features(wavs), lengths), speakers, bf16=True)
    return waited / (time.perf_counter() - began)


def wait_lines(folder, systems):
    """Table of the time that steps wait for data."""
    rows = training_rows(folder)
    lines = [
        "",
        "## Waiting for data",
        "",
        f"Part of the wall time of {NUM_BATCHES} steps of {BATCH} crops in "
        f"bfloat16, features included, in which the step waits for its batch: "
        f"random crops of {CROP_SECONDS:.0f} s of {len(rows):,} files, as the "
        "training script reads them.",
        "",
        "| network | no worker | one worker |",
        "| --- | ---: | ---: |",
    ]
    for name in ("self_attentive", "serialized", "double_tdnn"):
        if name in systems:
            shares = [data_wait(rows, systems[name], n) for n in (0, 1)]
            cells = " | ".join(f"{share:.1%}" for share in shares)
            lines.append(f"| {SYSTEMS[name][0]} | {cells} |")
    return lines


def all_speed_lines(systems, rounds):
    """Tables of each precision on each device."""
    counts = {name: operations(system) for name, system in systems.items()}
    lines = []
    for bf16 in (False, True):
        lines += speed_lines(systems, counts, bf16, "cpu", rounds)
    if not torch.cuda.is_available():
        return [*lines, "No GPU was there for this run.", ""]
    on_gpu = {name: Trained(name, "cuda") for name in systems}
    return lines + speed_lines(on_gpu, counts, True, "cuda", 10 * rounds)


def main():
    """Measure, print and, if asked to, write the page."""
    options = parse()
    torch.set_num_threads(1)
    keep_freed_memory()
    systems = {name: Trained(name) for name in options.systems}
    lines = all_speed_lines(systems, options.rounds)
    lines += process_lines(options.systems, options.compile_limit)
    lines += cosine_lines(systems)
    with tempfile.TemporaryDirectory() as noise:
        if options.data is None:
            make_noise(noise)
        lines += wait_lines(options.data or noise, systems)
    lines += ["", f"{options.rounds} rounds. {conditions()}"]
    print("\n".join(lines))
    if options.write:
        write_page("training", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
