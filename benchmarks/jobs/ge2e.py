"""The trainings of ``benchmarks/ge2e.py``: what is trained, and how long."""

import json
import statistics
import time

import torch
from trainings import ROOT, batch_timer, side_by_side, train

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.dataio.batching import HOP_SAMPLES
from speechbrain_attn.hparams import load_hparams

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


def interleaved_seconds(functions, rounds):
    """Median processor seconds of each function, taken in turns."""
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
    steps = {
        run: batch_timer(
            load_hparams(yaml_of(run), overrides_of(run, options, 100)),
            options.precision,
            options.device,
        )
        for run in (LSTM, TIME, AAM)
    }
    seconds = interleaved_seconds(steps, 7)
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


def train_all(options, num_batches):
    """Run -> (model folder, minutes of processor time), two at a time."""

    def train_one(run):
        return train(
            options.output / run.replace(", ", "_").replace(" ", "_"),
            yaml_of(run),
            overrides_of(run, options, num_batches[run])
            | {
                "optimizer_step_limit": num_batches[run],
                "number_of_epochs": 100000,
                "precision": options.precision,
            },
            options.device,
        )

    return side_by_side(train_one, RUNS, 2)
