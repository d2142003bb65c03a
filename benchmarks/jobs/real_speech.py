"""The trainings of ``benchmarks/real_speech.py``: systems, how long, speed."""

import json
import math
import time
from statistics import median
from typing import NamedTuple

import torch
from trainings import (
    DEV,
    LISTS,
    ROOT,
    batch_shape,
    batch_timer,
    embeddings_of,
    read_lists,
    scores_of,
    side_by_side,
    train,
)

from speechbrain_attn.dataio.utterance_files import trial_files
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub import load
from speechbrain_attn.scoring.metrics import eer
from speechbrain_attn.training.allocator import keep_freed_memory

RACE = ROOT / "hparams" / "race.yaml"
GE2E = ROOT / "hparams" / "race_ge2e.yaml"
# As SpeechBrain's recipes have them, but for the channels.
XVECTOR = {"trunk": "xvector", "channels": 256, "last_channels": 750}
ECAPA = {"trunk": "ecapa", "channels": 256, "embedding_size": 192}


class System(NamedTuple):
    """A network and its training.

    ``same_trunk`` names the system that has statistics pooling on its trunk and
    the same loss; None for baselines, which the others are compared with.
    """

    overrides: dict
    same_trunk: str | None = None
    yaml: object = RACE


def _pooled(trunk, pooling, **more):
    return {"trunk": trunk, "pooling": pooling, **more}


SYSTEMS = {
    "serialized": System(_pooled("tdnn", "serialized"), "tdnn-statistics"),
    "tdnn-statistics": System(_pooled("tdnn", "statistics")),
    "tdnn-attentive": System(_pooled("tdnn", "attentive_statistics")),
    "self_attentive": System(_pooled("shallow", "own"), "shallow-statistics"),
    "shallow-statistics": System(_pooled("shallow", "statistics")),
    "serialized-ge2e": System(
        _pooled("tdnn", "serialized"), "tdnn-statistics-ge2e", GE2E
    ),
    "tdnn-statistics-ge2e": System(_pooled("tdnn", "statistics"), None, GE2E),
    "self_attentive-ge2e": System(
        _pooled("shallow", "own"), "shallow-statistics-ge2e", GE2E
    ),
    "shallow-statistics-ge2e": System(
        _pooled("shallow", "statistics"), None, GE2E
    ),
    "double": System(_pooled("vgg", "own", num_heads=2), "vgg-statistics"),
    "double-8-heads": System(
        _pooled("vgg", "own", num_heads=8), "vgg-statistics"
    ),
    "serialized-vgg": System(_pooled("vgg", "serialized"), "vgg-statistics"),
    "self_attentive-vgg": System(
        _pooled("vgg", "self_attentive"), "vgg-statistics"
    ),
    "double-vgg": System(
        _pooled("vgg", "double", num_heads=8), "vgg-statistics"
    ),
    "vgg-statistics": System(_pooled("vgg", "statistics")),
    "double-tdnn": System(
        _pooled("tdnn", "double", num_heads=2), "tdnn-statistics"
    ),
    "xvector-512": System(
        XVECTOR
        | {"channels": 512, "last_channels": 1500, "embedding_size": 512}
    ),
    "xvector-256": System(XVECTOR),
    "ecapa-512": System(ECAPA | {"channels": 512}),
    "ecapa-256": System(ECAPA),
    "resnet-16": System({"trunk": "resnet", "resnet_channels": 16}),
}
HOST = tuple(
    name
    for name, system in SYSTEMS.items()
    if system.overrides["trunk"] in ("xvector", "ecapa", "resnet")
)
SPEED_REFERENCE = "ecapa-512"
DURATIONS = (3, 10)  # seconds of audio whose embedding is timed
PAIRS = 15  # of a system and of the reference in turns
TIMED = 5  # batches, of which the fastest counts


class Run(NamedTuple):
    """A system trained with a seed."""

    system: str
    seed: int

    def folder(self, options):
        """Where its training and its embeddings are kept."""
        return options.output / f"{self.system}-{self.seed}"


def overrides_of(system, options, **more):
    """What a run changes in the YAML of its system."""
    overrides = {
        "data_folder": str(options.data),
        "verification_file": str(options.held_back),
        "validation_file": "null",  # the last checkpoint counts
        "precision": options.precision,
        **system.overrides,
        **more,
    }
    if system.yaml == RACE:
        overrides["out_n_neurons"] = options.num_speakers
    return overrides


def hparams_of(system, options):
    """What the YAML of a system builds, for its timing."""
    overrides = overrides_of(
        system, options, output_folder=str(options.output / "timing")
    )
    return load_hparams(system.yaml, overrides)


def planned(systems, options):
    """{name: {"seconds": of a batch, "steps": batches}} of systems by name.

    Kept in a file, so that a run that goes on keeps to its plan.
    """
    path = options.output / "plan.json"
    plan = json.loads(path.read_text()) if path.exists() else {}
    budget = plan.setdefault("budget", options.budget)
    if budget != options.budget:
        raise SystemExit(
            f"{path}: was begun with {budget}, and now you ask for "
            f"{options.budget}. Give another --output."
        )
    torch.set_num_threads(1)
    keep_freed_memory()
    for name, system in systems.items():
        if name not in plan:
            plan[name] = _plan(system, options)
            path.write_text(json.dumps(plan, indent=2))
            print(f"{name}: {plan[name]}", flush=True)
    return plan


def _plan(system, options):
    hparams = hparams_of(system, options)
    timer = batch_timer(hparams, options.precision, options.device)
    seconds = min(timer() for _ in range(TIMED))
    steps = options.steps
    if options.epochs:
        # Of as many crops as there are files.
        batches = options.num_files / batch_shape(hparams)[0]
        steps = math.ceil(options.epochs * batches)
    elif not steps:
        steps = max(20, round(60 * options.minutes / seconds))
    return {"seconds": seconds, "steps": steps}


def train_all(runs, systems, plan, options, lists=tuple(LISTS)):
    """Train and embed what is not done yet, as many at a time as asked for.

    ``lists`` name the trial lists to be embedded beside that of ``DEV``.
    """

    def train_one(run):
        overrides = overrides_of(
            systems[run.system],
            options,
            seed=run.seed,
            total_steps=plan[run.system]["steps"],
        )
        yaml = systems[run.system].yaml
        train(run.folder(options), yaml, overrides, options.device)
        run_embeddings(run, options, lists)
        dev = dev_eer(run, options)
        print(f"{run.system}, seed {run.seed}: {DEV} {dev:.2%}", flush=True)

    side_by_side(train_one, runs, options.at_a_time)


def is_done(run, options):
    """Whether it is trained."""
    return (run.folder(options) / "done.json").exists()


def run_embeddings(run, options, names=tuple(LISTS)):
    """{id: embedding} of a run, of all that some lists name."""
    files = {}
    for trials in read_lists(names, options).values():
        files |= trial_files(trials, options.data)
    folder = run.folder(options)
    kept = folder / f"{names[0]}.npz"
    return embeddings_of(kept, folder / "model", files, options.device)


def dev_eer(run, options):
    """EER in [0, 1] of a trained run on the list that may choose."""
    kept = run.folder(options) / f"{DEV}.json"
    if not kept.exists():
        (trials,) = read_lists([DEV], options).values()
        scores = scores_of(trials, run_embeddings(run, options, [DEV]))
        kept.write_text(json.dumps(float(eer(scores, trials.labels))))
    return json.loads(kept.read_text())


def embedding_ratios(run, options):
    """Time of an embedding over that of the reference, for each duration.

    Both take turns on one thread, one utterance at a time, in float32.
    """
    kept = options.output / f"speed_{run.system}.json"
    if not kept.exists():
        torch.set_num_threads(1)
        own = load(run.folder(options) / "model", device="cpu").mods
        reference = hparams_of(SYSTEMS[SPEED_REFERENCE], options)["modules"]
        kept.write_text(
            json.dumps(
                [_time_ratio(own, reference, length) for length in DURATIONS]
            )
        )
    return json.loads(kept.read_text())


@torch.inference_mode()
def _time_ratio(own, reference, length):
    wavs, whole = torch.randn(1, 16000 * length) * 0.1, torch.ones(1)
    ratios = []
    for _ in range(PAIRS):
        seconds = []
        for modules in (own, reference):
            modules["embedding_model"].eval()
            begin = time.process_time()
            feats = modules["compute_features"](wavs)
            feats = modules["mean_var_norm"](feats, whole)
            modules["embedding_model"](feats)
            seconds.append(time.process_time() - begin)
        ratios.append(seconds[0] / seconds[1])
    return median(ratios)
