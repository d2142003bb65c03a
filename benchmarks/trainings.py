"""What benchmarks share that train systems and compare their errors."""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

from speechbrain_attn.dataio.listed import listed_speakers
from speechbrain_attn.dataio.tree import find_utterances
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.hub import load
from speechbrain_attn.inference.extraction import extract_embeddings
from speechbrain_attn.precision import fast_precision
from speechbrain_attn.scoring.confidence import SpeakerTrials
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.intervals import Drawn

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "recipes" / "VoxCeleb" / "train_speaker_embeddings.py"
LISTS = {
    "veri_test": "all trials",
    "veri_test_chapter": "targets across chapters",
    "veri_test_hard": "same gender and age",
    "veri_test_short": "both sides up to 3 s",
}
DEV = "veri_dev"


def corpus_parser(doc, output):
    """Command line of a program by its docstring, with what all have."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    add = parser.add_argument
    add("--data", required=True, type=Path, help="corpus")
    add("--data-name", help="how the page calls the corpus")
    add("--lists", required=True, type=Path, help="folder of trial lists")
    add("--output", type=Path, default=Path("results", output))
    add("--precision", default=fast_precision(), help="of training")
    add("--write", action="store_true", help="write the page")
    return parser


def parsed(parser):
    """Options of a ``corpus_parser`` whose corpus and lists are there."""
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"--data {options.data}: no such folder")
    for name in (DEV, *LISTS):
        if not (options.lists / f"{name}.txt").is_file():
            parser.error(f"--lists {options.lists}: has no {name}.txt")
    options.data = options.data.resolve()
    options.data_name = options.data_name or options.data.name
    return options


def whole_numbers(text):
    """Those of an option, with commas between them."""
    return [int(number) for number in text.split(",")]


def read_lists(names, options):
    """{name: trials} of the lists that are there."""
    return {
        name: trials_from_file(options.lists / f"{name}.txt") for name in names
    }


def hold_back(options):
    """Write one list of all trials whose speakers train nothing.

    Puts its path and the number of training speakers into ``options``, and
    gives the files of these speakers, sorted.
    """
    names = ("veri_test", DEV)
    texts = [(options.lists / f"{name}.txt").read_text() for name in names]
    options.held_back = (options.output / "held_back.txt").resolve()
    options.held_back.write_text("".join(texts))
    held_back = listed_speakers(trials_from_file(options.held_back))
    utterances = [
        utterance
        for utterance in find_utterances(str(options.data)).utterances
        if utterance.speaker not in held_back
    ]
    options.num_speakers = len({one.speaker for one in utterances})
    return sorted(str(one.path) for one in utterances)


def batch_timer(hparams, precision, device="cpu"):
    """Make a function that trains on one batch of noise.

    It gives the seconds that this took: of the processor, where the device is
    one, so that others at work on the machine do not count.
    """
    modules = torch.nn.ModuleDict(hparams["modules"]).train().to(device)
    optimizer = hparams["opt_class"](modules.parameters())
    size, samples, speakers = batch_shape(hparams)
    wavs = torch.randn(size, samples, device=device)
    lengths = torch.ones(size, device=device)
    speakers = speakers.unsqueeze(1).to(device)

    def now():
        if device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def seconds():
        begin = now()
        with torch.autocast(device, torch.bfloat16, precision == "bf16"):
            feats = modules["compute_features"](0.1 * wavs)
            feats = modules["mean_var_norm"](feats, lengths)
            cosines = modules["classifier"](modules["embedding_model"](feats))
            loss = hparams["compute_cost"](cosines, speakers, None)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return now() - begin

    return seconds


def batch_shape(hparams):
    """Crops of a training batch, samples of each, and their speakers."""
    if "batch_size" in hparams:
        size = hparams["batch_size"]
        samples = round(hparams["sample_rate"] * hparams["sentence_len"])
        return size, samples, torch.zeros(size, dtype=torch.int64)
    # The batches of GE2E: speakers, utterances of each, and frames of 10 ms.
    speakers = torch.arange(hparams["num_speakers"])
    speakers = speakers.repeat_interleave(hparams["num_utterances"])
    frames = (hparams["min_frames"] + hparams["max_frames"]) // 2
    return len(speakers), frames * hparams["sample_rate"] // 100, speakers


def train(folder, yaml, overrides, device="cpu"):
    """Train by a YAML, on one thread of a processor, unless that is done.

    Gives the model folder and what ``minutes_of`` says of the run, with its
    preparation and its last embeddings.
    """
    done = folder / "done.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        overrides = {**overrides, "output_folder": folder.resolve()}
        words = [f"--{key}={value}" for key, value in overrides.items()]
        words += [f"--device={device}", "--noprogressbar"]
        with open(folder / "train.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, TRAIN, yaml, *words],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{folder.name}: failed; see {folder / 'train.log'}")
        minutes = (usage.ru_utime + usage.ru_stime) / 60
        done.write_text(json.dumps({"minutes": minutes}))
    return folder / "model", minutes_of(folder)


def minutes_of(folder):
    """Minutes of processor time of a run, in words; - if it was interrupted.

    What was spent before an interruption is not known.
    """
    log = (folder / "train.log").read_text(errors="replace")
    if log.count("Beginning experiment!") > 1:
        return "-"
    return f"{json.loads((folder / 'done.json').read_text())['minutes']:.1f}"


def side_by_side(function, items, at_a_time):
    """{item: what the function gives for it}, so many at a time."""
    with ThreadPoolExecutor(at_a_time) as some_at_a_time:
        found = some_at_a_time.map(function, items)
        return dict(zip(items, found, strict=True))


def embeddings_of(path, folder, files, device="cpu"):
    """{id: embedding} of a model, kept in a file for a run that goes on."""
    if not path.exists():
        modules = load(folder, device=device).mods
        network = {
            part: modules[part]
            for part in ("compute_features", "mean_var_norm", "embedding_model")
        }
        found, ids = extract_embeddings(files, **network, device=device)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, embeddings=found, ids=ids)
        os.replace(partial, path)
    with np.load(path) as kept:
        return dict(zip(kept["ids"].tolist(), kept["embeddings"], strict=True))


def scores_of(trials, embeddings, mean=0.0):
    """Cosine of each trial, [trials], after subtraction of a mean."""
    rows = np.stack([embeddings[u] for u in trials.utterances]) - mean
    return cosine_scores(rows, trials.enrol, trials.test)


def speaker_trials(trials):
    """The trials, to be drawn by their speakers."""
    speakers = trials.speakers()
    return SpeakerTrials(
        trials.labels, speakers[trials.enrol], speakers[trials.test]
    )


def spread(interval, form, factor=1):
    """A figure with its interval."""
    value, low, high = (f"{factor * number:{form}}" for number in interval)
    return f"{value} [{low}, {high}]"


def over_seeds(errors):
    """Each figure, and where there are several their mean and deviation."""
    shown = ", ".join(f"{error:.2f}" for error in errors)
    if len(errors) == 1:
        return shown
    return f"{shown}: {mean(errors):.2f} ± {stdev(errors):.2f}"


def mean_drawn(drawn):
    """EER of several runs on the same draws, as their mean."""
    parts = zip(*(one["eer"] for one in drawn), strict=True)
    return {"eer": Drawn(*(np.mean(part, axis=0) for part in parts))}


def table(head, rows):
    """Lines of a Markdown table whose first column is of words."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
