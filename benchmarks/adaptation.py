"""A pretrained model on another corpus: as it is, and adapted.

    python benchmarks/adaptation.py --weights MODEL --data DATA --lists LISTS

MODEL is a model folder, DATA a corpus in VoxCeleb's layout, LISTS a folder of
trial lists; the speakers of ``veri_test.txt`` and ``veri_dev.txt`` are left out
of training, all others train. ``--write`` writes the page. An interrupted run
goes on where it was.
"""

from pathlib import Path

import numpy as np
from jobs.adaptation import planned_steps, train_all
from pages import conditions, write_page
from trainings import (
    LISTS,
    corpus_parser,
    embeddings_of,
    hold_back,
    parsed,
    read_lists,
    scores_of,
    speaker_trials,
    spread,
    table,
)

from speechbrain_attn.dataio.utterance_files import trial_files
from speechbrain_attn.hub import load

SCORINGS = {
    "cosine": "Cosine",
    "mean": "Cosine after subtraction of the mean of training files",
}
MEAN_FILES = 500  # of the training speakers
PRETRAINED = "pretrained"
METRICS = {"eer": ("EER %", ".2f", 100), "min_dcf_0.01": ("minDCF", ".3f", 1)}
INTRODUCTION = """# A pretrained model adapted to another corpus

The model as it is, and trained further by `hparams/finetune/pretrained.yaml`:
with its own pooling, or with another on its trunk. All runs have the budget of
one thread below and take their last checkpoint; every setting of the YAML was
chosen on `veri_dev.txt`, whose speakers are in no training, and the test lists
chose nothing. The ratio is of a system to the pretrained model on the same
draws of speakers: below 1 the system makes fewer errors. Intervals are 95 % by
drawing speakers again, and hold the choice of speakers and not the chance of
training.

To subtract the mean of some training files from all embeddings
(`encode_batch(..., normalize=True)`) is an adaptation, too, and takes no
training: so the pretrained model has it as well, in the second half.
"""


def parse_options():
    """Command line of this file."""
    parser = corpus_parser(__doc__, "benchmark_adaptation")
    add = parser.add_argument
    add("--weights", required=True, type=Path, help="pretrained model folder")
    add("--weights-name", help="how the page calls it")
    add("--minutes", type=float, default=20.0, help="training, each system")
    add("--at-a-time", type=int, default=2, help="trainings side by side")
    add("--seed", type=int, default=1986)
    return parsed(parser)


def kept_as(system, options):
    """The file that keeps a system's embeddings."""
    return options.output / f"{system.replace(' ', '_')}.npz"


def draws(trials, embeddings, mean):
    """Metrics of trials and of draws of their speakers."""
    scores = scores_of(trials, embeddings, mean)
    return speaker_trials(trials).draw(scores, list(METRICS))


def error_rows(trials, drawn):
    """Metrics of each system, each with its ratio to the pretrained model."""
    measure = speaker_trials(trials)
    for system, own in drawn.items():
        cells = [system]
        intervals = measure.intervals(own)
        compared = measure.comparisons(own, drawn[PRETRAINED])
        for metric, (_, form, factor) in METRICS.items():
            cells.append(spread(intervals[metric], form, factor))
            ratio = spread(compared[metric].ratio, ".2f")
            cells.append("-" if system == PRETRAINED else ratio)
        yield cells


def error_tables(models, train_files, options):
    """The tables of all lists, for both ways of scoring."""
    lists = read_lists(LISTS, options)
    step = -(-len(train_files) // MEAN_FILES)
    of_mean = {f"train {path}": path for path in train_files[::step]}
    files = dict(of_mean)
    for trials in lists.values():
        files |= trial_files(trials, options.data)
    embeddings = {
        system: embeddings_of(kept_as(system, options), folder, files)
        for system, folder in models.items()
    }
    head = ["system"]
    for shown, _, _ in METRICS.values():
        head += [shown, "ratio"]
    lines = []
    for scoring, title in SCORINGS.items():
        lines += [f"## {title}", ""]
        for name, trials in lists.items():
            drawn = {}
            for system, found in embeddings.items():
                mean = np.mean([found[key] for key in of_mean], axis=0)
                mean = mean if scoring == "mean" else 0.0
                drawn[system] = draws(trials, found, mean)
            lines += [
                f"`{name}.txt`, {len(trials):,} trials ({LISTS[name]}):",
                "",
                *table(head, error_rows(trials, drawn)),
            ]
    return lines


def cost_rows(done, steps, models):
    """Batches and minutes of each training, and sizes."""
    for system, folder in models.items():
        network = load(folder, device="cpu").mods.embedding_model
        count = sum(p.numel() for p in network.parameters())
        cells = ["-", "-"]
        if system in done:
            cells = [f"{steps[system]:,}", done[system][1]]
        yield [system, f"{count:,}", *cells]


def main():
    """Train, score, print and, if asked to, write the page."""
    options = parse_options()
    options.output.mkdir(parents=True, exist_ok=True)
    options.weights = options.weights.resolve()
    train_files = hold_back(options)
    steps = planned_steps(options)
    done = train_all(options, steps)
    models = {PRETRAINED: options.weights}
    models |= {system: folder for system, (folder, _) in done.items()}
    lines = [
        f"{options.weights_name or options.weights.name}, trained further on "
        f"{options.num_speakers} speakers and {len(train_files):,} files of "
        f"{options.data_name}, {options.minutes:g} minutes of one thread each, "
        f"{options.at_a_time} at a time, "
        f"{options.precision}, seed {options.seed}. Processor minutes count "
        "the whole run, with the first means of the speakers and the model's "
        "mean embedding; an interrupted run has none.",
        "",
        *table(
            ["system", "parameters", "batches", "processor minutes"],
            cost_rows(done, steps, models),
        ),
        *error_tables(models, train_files, options),
        conditions(),
    ]
    print("\n".join(lines))
    if options.write:
        write_page("adaptation", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
