"""The page of training options: what a YAML alone can switch on, and its gain.

``make docs`` writes docs/training_options.md from ``OPTIONS``, from the
defaults in the YAML files, and from what was measured:
docs/results/training_options.json, a list of records with ``key``, ``value``,
``system``, ``list``, ``eer_without`` and ``eer_with`` in [0, 1], ``deviation``
of the first over seeds, and ``ratio_interval``, the ends of the 95 % interval
of their ratio. benchmarks/what_helps.py writes it.
"""

import re
from pathlib import Path
from typing import NamedTuple

from speechbrain_attn.errors import AttnError

PAGE = "docs/training_options.md"
MEASURED = "docs/results/training_options.json"


class Option(NamedTuple):
    """A key of training YAML files."""

    key: str
    effect: str
    source: str
    see: str = ""  # where its gain stands, if not in a record of its own


# fmt: off
OPTIONS = [Option(*row) for row in (
    ("noise_folder", "adds noises of a local folder to crops, at 0 to 15 dB",
     "Snyder et al., 2018, x-vectors"),
    ("rir_folder", "puts crops into rooms, by the impulse responses of a "
     "local folder", "Ko et al., 2017"),
    ("augment_prob", "share of the crops that get a noise or a room; nothing "
     "is doubled but where the YAML says `keep_original`", "ours",
     "in `noise_folder` and `rir_folder`"),
    ("speeds", "each crop at one of these percents of its speed, as the same "
     "speaker; a faster one is filled up with its own beginning",
     "Ko et al., 2015"),
    ("speaker_speeds", "each crop at 100 % or one of these percents, each as "
     "another speaker; with GE2E an epoch hears every file at every speed. "
     "Validation and the model folder have the real speakers only",
     "Yamamoto et al., 2019"),
    ("spec_masks", "so many stretches of frames and bands of mels set to the "
     "mean", "Park et al., 2019, arXiv:1904.08779"),
    ("sentence_len", "seconds of a crop (with GE2E: `min_frames`, "
     "`max_frames`)", "each system's paper"),
    ("margin", "radians that the angle to the own speaker is made wider by; "
     "double_mha: taken from the cosine",
     "Xiang et al., 2019, arXiv:1906.07317"),
    ("margin_steps", "batches in which the margin grows from 0", "ours"),
    ("num_sub_centres", "vectors of each speaker in the classifier, of which "
     "the nearest counts", "Deng et al., 2020, Sub-center ArcFace"),
    ("top_k", "so many most alike other speakers are made harder",
     "Zhao et al., 2022, arXiv:2110.05042"),
    ("top_k_margin", "radians that their angles are made narrower by; grows "
     "with `margin`", "the same", "in `top_k`"),
    ("penalty_factor", "weight of the penalty on attention hops that repeat "
     "each other", "Lin et al., 2017, arXiv:1703.03130"),
    ("warmup_steps", "batches in which the learning rate grows from 0; then "
     "half a cosine down to `total_steps`",
     "Loshchilov, Hutter, 2017, arXiv:1608.03983"),
    ("weight_decay", "of the optimiser", "each system's paper"),
    ("min_epoch_steps", "an epoch has at least so many batches, of rows that "
     "come again if need be: few utterances are not validated and saved every "
     "few batches", "ours", "validations and checkpoints alone"),
    ("no_decay", "no weight decay on biases, norms, temperatures and queries "
     "of attention", "Goyal et al., 2017, arXiv:1706.02677; queries: ours"),
    ("query_scale", "factor on the queries of attention before training: with "
     "0 it begins as plain averaging; refused where there are none", "ours"),
    ("max_grad_norm", "longest gradient, of all parameters together",
     "each system's paper"),
    ("ema_decay", "validates and keeps a running average of the weights and "
     "of batch norm's statistics; checkpoints hold both",
     "Tarvainen, Valpola, 2017, arXiv:1703.01780"),
    ("average_checkpoints", "the model is the mean of the weights and of "
     "batch norm's statistics at the ends of so many last epochs, in place of "
     "the best checkpoint", "Izmailov et al., 2018, arXiv:1803.05407"),
    ("precision", "bf16: products in bfloat16, sums in float32", "SpeechBrain"),
    ("finished_run", "a run's model folder that large-margin fine-tuning "
     "starts from: longer crops, higher margin, few epochs; its classifier "
     "must give cosines",
     "Thienpondt et al., 2021, arXiv:2010.11255"),
    ("pretrained", "a model folder or hub name that a training on other "
     "speakers starts from", "ours",
     "[adaptation](benchmarks/adaptation.md)"),
)]
# fmt: on


def options_page(root, measured):
    """The page's text.

    Arguments
    ---------
    root : str or Path
        Of the repository.
    measured : list of dict
        Records of docs/results/training_options.json.

    Raises
    ------
    AttnError
        An option is in no YAML file, or a record is of none of the options.
    """
    values = _values(Path(root) / "hparams")
    known = [option.key for option in OPTIONS]
    for record in measured:
        if record["key"] not in known:
            raise AttnError(
                f"{MEASURED}: {record['key']!r} is not among the options of "
                "speechbrain_attn/training/options.py; add it there."
            )
    lines = [
        "# Training options",
        "",
        "What a YAML in `hparams/` can switch on by itself, or the command "
        "line with `--key=value`. Written by `make docs`; what an option "
        f"gains is read from `{MEASURED}`, its error rates from the list "
        "named there, with the 95 % interval of their ratio; behind ± the "
        "deviation over seeds.",
        "",
        "| key | default | what it does | source | measured effect |",
        "| --- | --- | --- | --- | --- |",
    ]
    for option in OPTIONS:
        gains = [
            _gain(record) for record in measured if record["key"] == option.key
        ]
        cells = (
            f"`{option.key}`",
            _default(option.key, values),
            option.effect,
            option.source,
            "; ".join(gains) or option.see or "not measured",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Which files have which", ""]
    names = sorted(values)
    for option in OPTIONS:
        have = [name for name in names if option.key in values[name]]
        lines.append(f"- `{option.key}`: {_which(have, names)}")
    return "\n".join(lines) + "\n"


def _values(folder):
    """{file: {key: value as text}} of the training YAML files in a folder."""
    files = {}
    for path in sorted(folder.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "\nopt_class:" in text:
            found = re.findall(r"^(\w+):[ ]*([^#\n]*)", text, re.MULTILINE)
            name = path.relative_to(folder).with_suffix("").as_posix()
            files[name] = {key: value.strip() for key, value in found}
    return files


def _default(key, values):
    found = [each[key] for each in values.values() if key in each]
    if not found:
        raise AttnError(
            f"{key}: no training YAML in hparams/ has this key; take it out "
            "of speechbrain_attn/training/options.py, or add it there."
        )
    # The most common first, what is worked out last.
    in_order = sorted(
        found, key=lambda value: (value[0] == "!", -found.count(value), value)
    )
    return ", ".join(dict.fromkeys(map(_shown, in_order)))


def _shown(value):
    """A value of a YAML file for the reader of the page."""
    if value == "!PLACEHOLDER":
        return "to be given"
    if value.startswith("!ref"):
        return f"from `{re.search(r'<(.+?)>', value)[1]}`"
    if value.endswith("fast_precision"):
        return "`bf16` where the machine multiplies in it"
    return f"`{value}`"


def _gain(record):
    low, high = record["ratio_interval"]
    ratio = record["eer_with"] / record["eer_without"]
    chance = record["deviation"]
    chance = "" if chance is None else f" ± {100 * chance:.1f}"
    return (
        f"{record['value']}: EER {100 * record['eer_without']:.1f}{chance} to "
        f"{100 * record['eer_with']:.1f} %, ratio {ratio:.2f} "
        f"({low:.2f} to {high:.2f}), {record['system']} on {record['list']}"
    )


def _which(have, names):
    missing = [name for name in names if name not in have]
    if not missing:
        return "all"
    if len(missing) < len(have):
        return f"all but {', '.join(missing)}"
    return ", ".join(have)
