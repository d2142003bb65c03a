"""What a setting is worth: a system trained with and without it.

    python benchmarks/what_helps.py --data DATA --lists LISTS --write

DATA is a corpus in VoxCeleb's layout, LISTS a folder of trial lists; the
speakers of ``veri_test.txt`` and ``veri_dev.txt`` are left out of training, and
``veri_dev.txt`` alone is looked at. An interrupted run goes on where it was,
another ``--seeds`` adds to what is there. ``--write`` writes the page and
docs/results/training_options.json, which `make docs` shows in
docs/training_options.md.
"""

import json
from statistics import mean, stdev
from typing import NamedTuple

from jobs.real_speech import (
    GE2E,
    Run,
    System,
    dev_eer,
    is_done,
    run_embeddings,
    train_all,
)
from jobs.surroundings import TALKERS, make_noises, make_rooms
from pages import DOCS, conditions, write_page
from trainings import (
    DEV,
    ROOT,
    corpus_parser,
    hold_back,
    mean_drawn,
    over_seeds,
    parsed,
    read_lists,
    scores_of,
    speaker_trials,
    spread,
    table,
    whole_numbers,
)

from speechbrain_attn.training.options import MEASURED, OPTIONS

HOPS = ROOT / "hparams" / "demo" / "self_attentive_tdnn_aam.yaml"
LARGE_MARGIN = ROOT / "hparams" / "finetune" / "large_margin.yaml"
SERIALIZED = {"trunk": "tdnn", "pooling": "serialized"}
BASES = {
    "serialized": System({**SERIALIZED, "speaker_speeds": [], "spec_masks": 0}),
    "race": System(SERIALIZED),
    "double": System({**SERIALIZED, "pooling": "double", "num_heads": 8}),
    "vgg": System({"trunk": "vgg", "num_heads": 8}),
    "hops": System({"num_hops": 4, "split_ratio": [100, 0]}, None, HOPS),
    "ge2e": System({"trunk": "shallow", "pooling": "own"}, None, GE2E),
}


class Setting(NamedTuple):
    """A key of the YAML of a base, and another value for it."""

    key: str
    value: object
    base: str = "serialized"

    def __str__(self):
        # Names a folder: SpeechBrain's options lose a second "=".
        return f"{self.base}-{self.key}-{self.value}".replace(" ", "")


MADE = {"noise_folder": make_noises, "rir_folder": make_rooms}
SETTINGS = [
    Setting("noise_folder", "made_noises"),
    Setting("rir_folder", "made_rooms"),
    Setting("speeds", [90, 100, 110]),
    Setting("speaker_speeds", [90, 110]),
    Setting("spec_masks", 2),
    Setting("sentence_len", 3.0),
    Setting("margin", 0.0),
    Setting("margin", 0.3),
    Setting("margin_steps", 1),
    Setting("num_sub_centres", 3),
    Setting("top_k", 5),
    Setting("warmup_steps", 1),
    Setting("weight_decay", 0.0),
    Setting("weight_decay", 0.1),
    Setting("no_decay", True),
    Setting("query_scale", 0.0),
    Setting("query_scale", 4.0),
    Setting("query_scale", 0.0, "vgg"),
    Setting("query_scale", 4.0, "vgg"),
    Setting("query_scale", 0.0, "ge2e"),
    Setting("query_scale", 4.0, "ge2e"),
    Setting("ema_decay", 0.99),
    Setting("average_checkpoints", 3),
    Setting("precision", "fp32"),
    Setting("lr", 0.002),
    Setting("final_lr", 0.001),
    Setting("num_layers", 1),
    Setting("num_layers", 4),
    Setting("channels", 512),
    Setting("dropout", 0.0),
    Setting("embedding_size", 128),
    Setting("max_grad_norm", 1000.0, "ge2e"),
    Setting("num_hops", 1, "hops"),
    Setting("penalty_factor", 0.01, "hops"),
    Setting("attention_scale", "none", "double"),
    Setting("num_heads", 32, "double"),
    Setting("head_drop", 0.2, "double"),
    Setting("num_heads", 2, "vgg"),
    Setting("num_heads", 4, "vgg"),
    Setting("attention_scale", "none", "vgg"),
    Setting("batch_norm", False, "vgg"),
    Setting("vgg_channels", 24, "vgg"),
    Setting("pooling", "statistics", "vgg"),
    Setting("pooling", "double", "vgg"),
    Setting("pooling", "self_attentive", "vgg"),
    Setting("pooling", "serialized", "vgg"),
    Setting("weight_decay", 0.3, "race"),
    Setting("dropout", 0.0, "race"),
    Setting("sentence_len", 1.5, "race"),
]
FINE_TUNING = "finished_run"
FINE_TUNED = Setting(FINE_TUNING, "fine-tuning")
FINE_TUNING_STEPS = 100  # two epochs of the small corpus in batches of 64
INTRODUCTION = f"""# What helps

A system trained with one setting other than its own: the same script, data,
number of batches and schedule as without. The systems:

- serialized: serialized attention of `hparams/race.yaml`, without its masks and
  its speakers at other speeds
- race: the same with masks and speeds
- double: double attention (8 heads) on the same trunk, with masks and speeds
- vgg: double attention (8 heads) on its own trunk, with masks and speeds
- hops: the self-attentive network with four hops, of
  `hparams/demo/self_attentive_tdnn_aam.yaml`
- ge2e: the self-attentive network in the batches and with the loss of
  `hparams/race_ge2e.yaml`, four crops of each of 16 speakers

`made_noises` are babble of {TALKERS} training files and noise of several
colours, `made_rooms` a direct sound with noise that dies away; half of the
crops get one. The recordings of the list are clean, and do not tell what that
gains in noise or in a room. A `final_lr` as high as `lr` leaves the learning
rate where it is after its warm-up.

`{FINE_TUNING}` goes on from the first run of "serialized" for
{FINE_TUNING_STEPS} batches of large-margin fine-tuning
(`hparams/finetune/large_margin.yaml`), which are more than the others have, and
is compared with that run.

EER is that of `{DEV}.txt`, which may choose; no test list was looked at. The
ratio is to the mean of the base's seeds on the same draws of speakers, its
interval 95 % by drawing them again: below 1 the setting makes fewer errors. The
chance of training is as large as the deviation of the base's seeds shows, where
it has several: what differs by less than twice of it may be chance. A few
minutes of training do not tell what a long one gains: masks, speeds and
averages are made for those.
"""


def parse_options():
    """Command line of this file."""
    parser = corpus_parser(__doc__, "benchmark_what_helps")
    add = parser.add_argument
    seeds = {"type": whole_numbers}
    add("--steps", type=int, default=1200, help="batches of a training")
    add("--seeds", **seeds, default="1986", help="of the settings")
    add("--base-seeds", **seeds, default="1986,1987,1988", help="of the bases")
    add("--only", nargs="*", help="keys of settings; all if none")
    add("--at-a-time", type=int, default=2, help="trainings side by side")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--done-only", action="store_true", help="train nothing more")
    return parsed(parser)


def systems_of(options):
    """{name: System} of the bases and of their settings."""
    systems = dict(BASES)
    for setting in SETTINGS:
        base = BASES[setting.base]
        value = setting.value
        if setting.key in MADE:
            value = (options.output / value).resolve()
        overrides = {**base.overrides, setting.key: value}
        systems[str(setting)] = base._replace(overrides=overrides)
    base = Run(FINE_TUNED.base, options.base_seeds[0]).folder(options)
    overrides = {
        FINE_TUNING: (base / "model").resolve(),
        "split_ratio": [100, 0],
        "warmup_steps": 10,
        "number_of_epochs": 1000,
        "optimizer_step_limit": FINE_TUNING_STEPS,
    }
    systems[str(FINE_TUNED)] = System(overrides, None, LARGE_MARGIN)
    return systems


def train(options, train_files):
    """Train what is not done yet: bases first, fine-tuning after them."""
    for setting in SETTINGS:
        if setting.key in MADE:
            MADE[setting.key](options.output / setting.value, train_files)
    systems = systems_of(options)
    plan = {name: {"steps": options.steps} for name in systems}
    plan[str(FINE_TUNED)] = {"steps": FINE_TUNING_STEPS}
    runs = [Run(name, seed) for name in BASES for seed in options.base_seeds]
    train_all(runs, systems, plan, options, (DEV,))
    wanted = [
        str(setting)
        for setting in (*SETTINGS, FINE_TUNED)
        if not options.only or setting.key in options.only
    ]
    runs = [Run(name, seed) for seed in options.seeds for name in wanted]
    train_all(runs, systems, plan, options, (DEV,))


def done_runs(name, options):
    """Runs of a system that are done."""
    seeds = sorted({*options.seeds, *options.base_seeds})
    runs = [Run(name, seed) for seed in seeds]
    return [run for run in runs if is_done(run, options)]


def compare(options):
    """Rows of the page, and records of docs/results/training_options.json."""
    (trials,) = read_lists([DEV], options).values()
    measure = speaker_trials(trials)

    def measured(runs):
        """Errors of each in [0, 1] and their mean on the same draws."""
        drawn = []
        for run in runs:
            embeddings = run_embeddings(run, options, (DEV,))
            drawn.append(measure.draw(scores_of(trials, embeddings), ["eer"]))
        return [dev_eer(run, options) for run in runs], mean_drawn(drawn)

    bases = {name: done_runs(name, options) for name in BASES}
    bases = {name: measured(runs) for name, runs in bases.items() if runs}
    rows = [
        [name, "-", over_seeds([100 * error for error in errors]), "-"]
        for name, (errors, _) in bases.items()
    ]
    records = []
    for setting in (*SETTINGS, FINE_TUNED):
        runs = done_runs(str(setting), options)
        if setting.base not in bases or not runs:
            continue
        without, draws_without = bases[setting.base]
        if setting == FINE_TUNED:
            start = Run(setting.base, options.base_seeds[0])
            without, draws_without = measured([start])
        errors, draws = measured(runs)
        ratio = measure.comparisons(draws, draws_without)["eer"].ratio
        shown = over_seeds([100 * error for error in errors])
        setting_shown = f"`{setting.key}`: {setting.value}"
        rows.append([setting.base, setting_shown, shown, spread(ratio, ".2f")])
        if setting.key in {option.key for option in OPTIONS}:
            records.append(
                {
                    "key": setting.key,
                    "value": setting.value,
                    "system": setting.base,
                    "list": f"{DEV}.txt",
                    "eer_without": mean(without),
                    "deviation": stdev(without) if len(without) > 1 else None,
                    "eer_with": mean(errors),
                    "ratio_interval": ratio[1:],
                }
            )
    return rows, records


def main():
    """Train, compare, print and, if asked to, write the page."""
    options = parse_options()
    options.output.mkdir(parents=True, exist_ok=True)
    train_files = hold_back(options)
    if not options.done_only:
        train(options, train_files)
    rows, records = compare(options)
    lines = [
        f"{options.num_speakers} speakers and {len(train_files):,} files of "
        f"{options.data_name}, {options.steps:,} batches "
        f"of 32 crops, {options.precision} but where it says otherwise.",
        "",
        *table(["system", "setting", "EER %", "ratio"], rows),
        conditions(),
    ]
    print("\n".join(lines))
    if options.write:
        write_page("what_helps", INTRODUCTION, lines, "results")
        path = DOCS.parent / MEASURED
        path.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
