"""The trainings of ``benchmarks/ge2e.py``: what is trained, and how long."""

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.dataio.batching import HOP_SAMPLES
from speechbrain_attn.hparams import load_hparams

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "recipes" / "VoxCeleb" / "train_speaker_embeddings.py"
LSTM, EXAMPLES, TIME, AAM = (
    "GE2E LSTM",
    "self-attentive, same batches",
    "self-attentive, same time",
    "self-attentive, AAM, same time",
)
# The longest first, so that two threads end at about the same time.
RUNS = (LSTM, TIME, AAM, EXAMPLES)


def yaml_of(run):
    """Training YAML of a run."""
    names = {LSTM: "ge2e_lstm", AAM: "self_attentive_tdnn_aam"}
    return ROOT / "hparams" / f"{names.get(run, 'self_attentive_tdnn')}.yaml"


def overrides_of(run, options, total_steps):
    """What a run changes in its YAML."""
    batch = options.num_speakers * options.num_utterances
    overrides = {
        "data_folder": str(options.data),
        "verification_file": str(options.lists / "veri_test.txt"),
        "validation_file": "null",
        "total_steps": total_steps,
        "warmup_steps": total_steps // 10,
        "seed": options.seed,
        "num_workers": 1,
    }
    if run == AAM:
        frames = 160 * HOP_SAMPLES / SAMPLE_RATE
        return {
            **overrides,
            "out_n_neurons": options.train_speakers,
            "split_ratio": [100, 0],
            "sentence_len": frames,
            "batch_size": batch,
            "margin_steps": total_steps // 2,
        }
    return {
        **overrides,
        "num_speakers": options.num_speakers,
        "num_utterances": options.num_utterances,
    }


def step_function(run, options):
    """A function that takes one training step on a batch of noise."""
    hparams = load_hparams(yaml_of(run), overrides_of(run, options, 100))
    modules = torch.nn.ModuleDict(hparams["modules"]).to(options.device)
    optimizer = hparams["opt_class"](list(modules.parameters()))
    num_crops = options.num_speakers * options.num_utterances
    wavs = 0.1 * torch.randn(num_crops, 160 * HOP_SAMPLES)
    wavs = wavs.to(options.device)
    speakers = torch.arange(num_crops).remainder(options.num_speakers)
    speakers = speakers.unsqueeze(1).to(options.device)
    device = wavs.device.type

    def step():
        with torch.autocast(
            device, torch.bfloat16, enabled=options.precision == "bf16"
        ):
            feats = modules["mean_var_norm"](modules["compute_features"](wavs))
            embeddings = modules["embedding_model"](feats)
            predictions = modules["classifier"](embeddings)
        loss = hparams["compute_cost"](predictions, speakers, None)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def interleaved_seconds(functions, rounds):
    """Median seconds of each function, taken in turns."""
    taken = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            begin = time.process_time()
            function()
            if number:  # the first round warms up
                taken[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in taken.items()}


def step_seconds(options):
    """Seconds of a training step of each run, measured in turns."""
    torch.manual_seed(options.seed)
    functions = {run: step_function(run, options) for run in RUNS[:-1]}
    seconds = interleaved_seconds(functions, 7)
    return {**seconds, EXAMPLES: seconds[TIME]}


def batches(options):
    """Number of batches of each run, kept for a run that goes on."""
    path = options.output / "batches.json"
    if not path.exists():
        budget = 60 * options.minutes
        numbers = {
            run: round(budget / value)
            for run, value in step_seconds(options).items()
        }
        numbers[EXAMPLES] = numbers[LSTM]
        path.write_text(json.dumps(numbers, indent=2))
    return json.loads(path.read_text())


def train(run, options, total_steps):
    """Train one run, unless it is done.

    Gives its model folder and the seconds of processor time that it took.
    """
    folder = options.output / run.replace(", ", "_").replace(" ", "_")
    done = folder / "done.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        overrides = overrides_of(run, options, total_steps)
        overrides |= {
            "output_folder": folder.resolve(),
            "optimizer_step_limit": total_steps,
            "number_of_epochs": 100000,
            "precision": options.precision,
            "device": options.device,
        }
        words = [f"--{key}={value}" for key, value in overrides.items()]
        words.append("--noprogressbar")
        with open(folder / "train.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, TRAIN, yaml_of(run), *words],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{run}: training failed; see {folder / 'train.log'}")
        seconds = usage.ru_utime + usage.ru_stime
        done.write_text(json.dumps({"processor_seconds": seconds}))
    return folder / "model", json.loads(done.read_text())["processor_seconds"]


def train_all(options, num_batches):
    """Run -> (model folder, seconds of processor time), two at a time."""
    with ThreadPoolExecutor(2) as two_at_a_time:
        done = two_at_a_time.map(
            lambda run: train(run, options, num_batches[run]), RUNS
        )
        return dict(zip(RUNS, done, strict=True))
