"""The race: every pooling and SpeechBrain's networks on the same real speech.

    python benchmarks/real_speech.py --data DATA --lists LISTS --write

DATA is a corpus in VoxCeleb's layout, LISTS a folder of trial lists; the
speakers of ``veri_test.txt`` and ``veri_dev.txt`` are left out of training, all
others train. Systems are those of ``jobs/real_speech.py``; each gets the same
budget: ``--minutes`` of one thread, or ``--steps``, or ``--epochs``. An
interrupted run goes on where it was, another ``--seeds`` adds to what is
there, and the page holds all that is done in ``--output``.
"""

from statistics import mean, stdev

from jobs.real_speech import (
    DURATIONS,
    HOST,
    SPEED_REFERENCE,
    SYSTEMS,
    Run,
    dev_eer,
    embedding_ratios,
    is_done,
    planned,
    run_embeddings,
    train_all,
)
from pages import conditions, write_page
from trainings import (
    DEV,
    LISTS,
    corpus_parser,
    hold_back,
    mean_drawn,
    minutes_of,
    over_seeds,
    parsed,
    read_lists,
    scores_of,
    speaker_trials,
    spread,
    table,
    whole_numbers,
)

from speechbrain_attn.hub import load
from speechbrain_attn.scoring.metrics import min_dcf

INTRODUCTION = f"""# The poolings and their baselines on the same real speech

Every system is trained by the same script on the same speakers, with the same
features, loss (additive angular margin), optimiser, schedule and masks, on
crops of 2 s in batches of 32 (`hparams/race.yaml`); a speaker at 90 % and at
110 % of the speed counts as two more. The budget is below: a system's number of
batches is the budget over the time of one of its batches. Those whose names end
in `-ge2e` are trained with GE2E instead, in batches of four crops of 1.4 to
1.8 s of each of 16 speakers (`hparams/race_ge2e.yaml`). The last checkpoint
counts.

The baselines are the trunks of the lobes under statistics pooling
(`<trunk>-statistics`) and under the pooling of ECAPA-TDNN (`tdnn-attentive`),
and SpeechBrain's whole networks `xvector`, `ecapa` and `resnet`, with the
channels that stand behind their names. `-vgg` and `-tdnn` are poolings on
another trunk than their paper's. `double` has the two heads that `{DEV}.txt`
chose ([what helps](what_helps.md)); it began with eight.

The ratios are of a system's EER to that of statistics pooling on its trunk with
its loss, to that of the best baseline, and to that of the best of SpeechBrain's
networks, which `{DEV}.txt` chooses; all on the same draws of speakers, and to
the mean of that system's seeds: below 1 the system makes fewer errors.
Intervals are 95 % by drawing speakers again, and hold the choice of speakers;
of the chance of training the spread over seeds tells. minDCF is normalised, its
p_target in brackets. The test lists chose nothing.
"""


def parse_options():
    """Command line of this file."""
    parser = corpus_parser(__doc__, "benchmark_real_speech")
    add = parser.add_argument
    budget = parser.add_mutually_exclusive_group()
    help_text = "training on one thread, each system"
    budget.add_argument("--minutes", type=float, default=15.0, help=help_text)
    budget.add_argument("--steps", type=int, help="batches of each system")
    budget.add_argument("--epochs", type=int, help="so often each file")
    add("--systems", default="all", help=f"with commas: {', '.join(SYSTEMS)}")
    help_text = "with commas between them"
    add("--seeds", type=whole_numbers, default="1986", help=help_text)
    add("--at-a-time", type=int, default=2, help="trainings side by side")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--done-only", action="store_true", help="train nothing more")
    options = parsed(parser)
    names = options.systems.split(",")
    options.systems = list(SYSTEMS) if names == ["all"] else names
    unknown = set(options.systems) - set(SYSTEMS)
    if unknown:
        parser.error(f"--systems: no {', '.join(unknown)}; see --help")
    options.budget = budget_of(options)
    return options


def budget_of(options):
    """What each system gets, in words."""
    if options.epochs:
        return f"{options.epochs} times as many crops as files"
    if options.steps:
        return f"{options.steps:,} batches"
    where = "of one thread" if options.device == "cpu" else "of the device"
    return f"{options.minutes:g} minutes {where}"


def runs_done(options):
    """{system: its runs that are done}, in the order of SYSTEMS."""
    done = {}
    for system in SYSTEMS:
        for folder in sorted(options.output.glob(f"{system}-*")):
            seed = folder.name.removeprefix(f"{system}-")
            if seed.isdigit() and is_done(Run(system, int(seed)), options):
                done.setdefault(system, []).append(Run(system, int(seed)))
    return done


def cost_rows(done, plan, options):
    """Size, batches, times and dev error of each system."""
    for system, runs in done.items():
        folders = [run.folder(options) for run in runs]
        network = load(folders[0] / "model", device="cpu").mods.embedding_model
        count = sum(p.numel() for p in network.parameters())
        ratios = embedding_ratios(runs[0], options)
        errors = [100 * dev_eer(run, options) for run in runs]
        yield [
            system,
            f"{count:,}",
            f"{plan[system]['steps']:,}",
            f"{1000 * plan[system]['seconds']:.0f}",
            ", ".join(minutes_of(folder) for folder in folders),
            *(f"{ratio:.2f}" for ratio in ratios),
            over_seeds(errors),
        ]


def best_baseline(done, options, among=tuple(SYSTEMS)):
    """The baseline with the lowest EER on the dev list, or None."""
    errors = {
        system: mean(dev_eer(run, options) for run in runs)
        for system, runs in done.items()
        if system in among and SYSTEMS[system].same_trunk is None
    }
    return min(errors, key=errors.get, default=None)


def error_rows(trials, done, references, options):
    """Each run on one list, and the mean of each system's seeds.

    ``references`` are systems, or None, that all are compared with.
    """
    measure = speaker_trials(trials)
    scores = {
        run: scores_of(trials, run_embeddings(run, options))
        for runs in done.values()
        for run in runs
    }
    drawn = {run: measure.draw(scores[run], ["eer"]) for run in scores}
    means = {
        system: mean_drawn([drawn[run] for run in runs])
        for system, runs in done.items()
    }

    def cells(system, own):
        shown = [spread(measure.intervals(own)["eer"], ".2f", 100)]
        for other in (SYSTEMS[system].same_trunk, *references):
            if other in (None, system) or other not in means:
                shown.append("-")
                continue
            compared = measure.comparisons(own, means[other])["eer"]
            shown.append(spread(compared.ratio, ".2f"))
        return shown

    for system, runs in done.items():
        for run in runs:
            costs = [
                f"{min_dcf(scores[run], trials.labels, p_target):.3f}"
                for p_target in (0.01, 0.05)
            ]
            eer, *ratios = cells(system, drawn[run])
            yield [system, str(run.seed), eer, *costs, *ratios]
        if len(runs) > 1:
            values = [100 * drawn[run]["eer"].value.item() for run in runs]
            eer, *ratios = cells(system, means[system])
            seeds = f"mean of {len(runs)}, deviation {stdev(values):.2f}"
            yield [system, seeds, eer, "-", "-", *ratios]


def figures(done, plan, train_files, options):
    """Lines of the page."""
    left_out = [system for system in SYSTEMS if system not in done]
    references = [
        best_baseline(done, options),
        best_baseline(done, options, HOST),
    ]
    lines = [
        f"{options.num_speakers} speakers and {len(train_files):,} files of "
        f"{options.data_name} for training, "
        f"{options.budget} for each system, {options.at_a_time} at a time, "
        f"{options.precision}. Processor minutes count the whole run, with the "
        "preparation of data, what loads them, and the mean embedding; an "
        "interrupted run has none. Times of an embedding are those of one "
        "utterance on one thread in float32, "
        f"over {SPEED_REFERENCE}'s, in turns.",
        "",
    ]
    if left_out:
        lines += [f"Not trained, so left out: {', '.join(left_out)}.", ""]
    head = ["system", "parameters", "batches", "ms a batch", "minutes"]
    head += [f"embedding of {seconds} s" for seconds in DURATIONS]
    head += [f"`{DEV}` EER % of each seed"]
    lines += table(head, cost_rows(done, plan, options))
    head = ["system", "seed", "EER %", "minDCF (0.01)", "minDCF (0.05)"]
    head += ["EER / statistics", *(f"EER / {one}" for one in references)]
    for name, trials in read_lists(LISTS, options).items():
        lines += [
            f"`{name}.txt`, {len(trials):,} trials ({LISTS[name]}):",
            "",
            *table(head, error_rows(trials, done, references, options)),
        ]
    return [*lines, conditions()]


def main():
    """Train, score, print and, if asked to, write the page."""
    options = parse_options()
    options.output.mkdir(parents=True, exist_ok=True)
    train_files = hold_back(options)
    options.num_files = len(train_files)
    systems = [] if options.done_only else options.systems
    plan = planned({name: SYSTEMS[name] for name in systems}, options)
    runs = [Run(name, seed) for seed in options.seeds for name in systems]
    train_all(runs, SYSTEMS, plan, options)
    done = runs_done(options)
    if not done:
        raise SystemExit(f"{options.output}: holds no system that is done.")
    lines = figures(done, plan, train_files, options)
    print("\n".join(lines))
    if options.write:
        write_page("real_speech", INTRODUCTION, lines, "results")


if __name__ == "__main__":
    main()
