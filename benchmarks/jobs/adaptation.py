"""The trainings of ``benchmarks/adaptation.py``: how long, and the runs."""

import json

import torch
from trainings import ROOT, batch_timer, side_by_side, train

from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.training.allocator import keep_freed_memory

YAML = ROOT / "hparams" / "finetune" / "pretrained.yaml"
# Systems of the page and the YAML's key "pooling".
POOLINGS = {
    "fine-tuned as it is": "own",
    "self-attentive": "self_attentive",
    "double attention": "double",
    "serialized": "serialized",
}
TRIED = 1000  # batches of a plan, to see which share of them is frozen


def overrides_of(system, options, total_steps):
    """What a run changes in the YAML."""
    return {
        "pretrained": str(options.weights),
        "pooling": POOLINGS[system],
        "data_folder": str(options.data),
        "verification_file": str(options.held_back),
        "out_n_neurons": options.num_speakers,
        "total_steps": total_steps,
        "seed": options.seed,
        "precision": options.precision,
    }


def batch_seconds(system, options):
    """Mean processor seconds of a batch over a whole run of the YAML."""
    folder = {"output_folder": str(options.output / "timing")}
    overrides = overrides_of(system, options, TRIED) | folder
    hparams = load_hparams(YAML, overrides)
    schedule, frozen = hparams["lr_annealing"], hparams["frozen_steps"]
    seconds = batch_timer(hparams, options.precision)

    def seconds_at(step):
        schedule.step.fill_(step)
        return seconds()

    share = frozen / TRIED
    at_frozen, learning = (
        min(seconds_at(step) for _ in range(3)) for step in (0, frozen)
    )
    return share * at_frozen + (1 - share) * learning


def planned_steps(options):
    """{system: batches of the budget}, kept for a run that goes on."""
    path = options.output / "steps.json"
    if not path.exists():
        torch.set_num_threads(1)
        keep_freed_memory()
        budget = 60 * options.minutes
        steps = {
            system: max(20, round(budget / batch_seconds(system, options)))
            for system in POOLINGS
        }
        path.write_text(json.dumps(steps, indent=2))
    return json.loads(path.read_text())


def train_all(options, steps):
    """{system: (model folder, minutes)}, as many at a time as asked for."""

    def train_one(system):
        overrides = overrides_of(system, options, steps[system])
        return train(options.output / POOLINGS[system], YAML, overrides)

    return side_by_side(train_one, POOLINGS, options.at_a_time)
