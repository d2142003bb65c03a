"""The README.md of a model folder, from what the run left behind."""

import inspect
import re
from pathlib import PurePath
from typing import NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from speechbrain_attn.hub.facts import RunFacts
from speechbrain_attn.hub.papers import citation
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.results_page import METRICS, shown
from speechbrain_attn.scoring.systems import TITLES

TAGS = ["speechbrain", "embeddings", "Speaker", "Verification", "pytorch"]
SHOWN_METRICS = ("eer", "min_dcf_0.01")
ATTENTION = (
    "Where the network looks in one recording: its weights over time, below "
    "the waveform and the spectrogram. `speechbrain-attn attend` draws it of "
    "any."
)
CAPTIONS = {
    "det": "Misses against false acceptances, at every threshold (DET curve)",
    "reliability": "Targets among the trials of each posterior probability",
    "bayes_error": "Cost of the decisions at every prior probability",
    "histogram": "Scores of targets and of nontargets",
    "duration": "EER by the duration of the shorter recording",
}


class CardInput(NamedTuple):
    """All that a card is made of."""

    source: str  # what from_hparams is given: a hub id or a folder's name
    licence: str
    datasets: list
    network: object  # the embedding model
    sample_rate: int  # in samples per second
    facts: RunFacts
    evaluations: list  # of facts.Evaluation
    calibration: Calibration | None
    attention_picture: str | None  # file in the folder
    pictures: dict  # list and scoring -> {kind of picture: file there}
    standalone: str | None  # name of the module, if there is one


def system_name(network):
    """Name of a network: the module that its class comes from."""
    return type(network).__module__.rpartition(".")[2]


def model_card(card):
    """The text of README.md, front matter included.

    Arguments
    ---------
    card : CardInput

    Returns
    -------
    str
    """
    data = ModelCardData(
        license=card.licence,
        library_name="speechbrain",
        tags=TAGS,
        datasets=card.datasets or None,
        metrics=["EER", "minDCF"],
        model_name=card.source.rpartition("/")[2],
        eval_results=_eval_results(card.evaluations) or None,
    )
    sections = [
        f"---\n{data.to_yaml()}\n---",
        _title(card),
        "## Use\n\n" + _use(card),
        "## Results\n\n" + _results(card.evaluations),
        "## Decisions\n\n" + _decisions(card.calibration),
        "## Training\n\n" + _training(card),
        "## Limits\n\n" + _limits(card),
    ]
    if card.attention_picture is not None:
        picture = f"![Attention over time]({card.attention_picture})"
        sections.append(f"## Attention\n\n{ATTENTION}\n\n{picture}")
    if card.pictures:
        sections.append("## Pictures of the results\n\n" + _pictures(card))
    bibtex = citation(system_name(card.network))
    sections.append(f"## Citation\n\n```bibtex\n{bibtex}\n```")
    return "\n\n".join(sections) + "\n"


def _eval_results(evaluations):
    """EER and minDCF of each evaluation, for the front matter."""
    found = []
    for one in evaluations:
        results = one.results
        figures = results["systems"][results["scoring"]]
        for metric in SHOWN_METRICS:
            title, unit, decimals = METRICS[metric]
            factor = 100 if unit == "%" else 1
            figure = {
                key: round(factor * figures[metric][key], decimals + 2)
                for key in ("value", "low", "high")
            }
            level = 100 * results["level"]
            found.append(
                EvalResult(
                    task_type="speaker-verification",
                    task_name="Speaker verification",
                    dataset_type=one.name,
                    dataset_name=one.name,
                    dataset_config=results["scoring"],
                    dataset_args={
                        "trials": results["num_trials"],
                        "targets": results["trials"]["targets"],
                        "speakers": results["num_speakers"],
                    },
                    metric_type=title,
                    metric_name=f"{title} ({unit})" if unit else title,
                    metric_value=figure["value"],
                    metric_args={
                        f"interval_{level:g}": [figure["low"], figure["high"]]
                    },
                )
            )
    return found


def _title(card):
    network = card.network
    parameters = sum(weight.numel() for weight in network.parameters())
    about = inspect.getdoc(inspect.getmodule(type(network)))
    what = f"`{type(network).__name__}`"
    if about:
        what += ": " + _linked(about.split("\n")[0])
    return (
        f"# Speaker embeddings: {system_name(network)}\n\n{what}\n\n"
        f"{parameters:,} parameters; from audio at {card.sample_rate:,} Hz to "
        f"{_size(network)} that are compared by their cosine."
    )


def _linked(text):
    """Text whose arXiv numbers are links."""
    return re.sub(
        r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text
    )


def _size(network):
    size = getattr(network, "embedding_size", None)
    return "embeddings" if size is None else f"embeddings of {size:,} values"


def _use(card):
    # A name of the hub has a slash, a folder's own has none.
    hub_name = f"hf://{card.source}" if "/" in card.source else card.source
    parts = [
        "With SpeechBrain and the package `speechbrain_attn`:",
        "```python\n"
        "from speechbrain.inference.speaker import EncoderClassifier\n\n"
        f'model = EncoderClassifier.from_hparams(source="{card.source}")\n'
        'signal = model.load_audio("speech.wav")\n'
        "embedding = model.encode_batch(signal)\n"
        "```",
        f'`speechbrain_attn.hub.load("{hub_name}")` loads it without running '
        "what its YAML names, and refuses weights that are missing or do not "
        "fit. So does the command line:",
        "```bash\n"
        f"speechbrain-attn verify one.wav other.wav --model {hub_name}\n"
        "```",
    ]
    if card.standalone is not None:
        parts += [
            "With SpeechBrain alone, by the source that lies in this folder. "
            "Like all code from elsewhere it is run when it is loaded, so "
            "look at it first:",
            "```python\n"
            "from speechbrain.inference.interfaces import foreign_class\n\n"
            "model = foreign_class(\n"
            f'    source="{card.source}",\n'
            f'    pymodule_file="{card.standalone}",\n'
            '    classname="EncoderClassifier",\n'
            ")\n"
            "```",
        ]
    return "\n\n".join(parts)


def _results(evaluations):
    if not evaluations:
        return "No trial list has been scored with this model yet."
    titles = [
        f"{METRICS[m][0]} ({METRICS[m][1]})" if METRICS[m][1] else METRICS[m][0]
        for m in SHOWN_METRICS
    ]
    rows = [("list", "trials", "targets", "speakers", "scoring", *titles)]
    for one in evaluations:
        results = one.results
        figures = results["systems"][results["scoring"]]
        rows.append(
            (
                one.name,
                f"{results['num_trials']:,}",
                f"{results['trials']['targets']:,}",
                f"{results['num_speakers']:,}",
                TITLES[results["scoring"]],
                *(shown(figures[metric], metric) for metric in SHOWN_METRICS),
            )
        )
    level = 100 * evaluations[0].results["level"]
    return (
        _table(rows)
        + f"\n\nIn brackets: {level:g} % confidence intervals over draws of "
        "the speakers. minDCF is normalised, at the prior in its name and "
        "costs of 1. `results.json` holds all figures."
    )


def _table(rows):
    """Markdown table; the first row is its head.

    What comes after the first column is set to the right if it begins with a
    digit, or a sign, in the first row below the head.
    """
    line = [
        "---:" if column and re.match(r"[-\d]", cell) else "---"
        for column, cell in enumerate(rows[1])
    ]
    rows = [rows[0], line, *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _decisions(calibration):
    if calibration is None:
        return (
            "No threshold comes with this model, since none has been chosen "
            "on a development list. Choose one on trials like yours; the 0.25 "
            "of SpeechBrain's `verify_files` was not chosen for this model."
        )
    rows = [("aim", "cosine from", "false acceptances", "misses")]
    for name, found in calibration.thresholds.items():
        rows.append(
            (
                f"{_aim(name)} (`{name}`)",
                f"{found.score:.4f}",
                f"{found.false_accepts:,} of {calibration.nontargets:,}",
                f"{found.misses:,} of {calibration.targets:,}",
            )
        )
    sign = "-" if calibration.offset < 0 else "+"
    formula = (
        f"{calibration.slope:.4f} x cosine {sign} {abs(calibration.offset):.4f}"
    )
    if calibration.duration_term is not None:
        formula += " and a term of the durations"
    chosen_on = PurePath(calibration.trial_list).stem
    parts = [
        f"Thresholds of the cosine, chosen on {chosen_on}, with "
        "their errors there. SpeechBrain's `verify_files` has its own, 0.25, "
        "which was not chosen for this model.",
        _table(rows),
        f"The log-likelihood ratio is {formula} (natural logarithm; fitted at "
        f"a prior of {calibration.p_target:g}). `calibration.json` holds both.",
        *calibration.notes,
    ]
    return "\n\n".join(parts)


def _aim(name):
    """What a threshold was chosen for, in words."""
    kind, _, number = name.rpartition("_")
    if kind == "fa":
        return f"at most {100 * float(number):g} % false acceptances"
    if kind == "min_dcf":
        return f"lowest cost if {100 * float(number):g} % are targets"
    return "both rates of errors equal"


def _pictures(card):
    """Pictures of each list, which can be folded; the first is open."""
    parts = []
    for name, files in card.pictures.items():
        start = "<details>" if parts else "<details open>"
        shown = [f"{start}\n<summary>{name}</summary>"]
        for kind, file in files.items():
            caption = CAPTIONS.get(kind, kind.replace("_", " "))
            shown.append(f"{caption}:\n\n![{caption}, {name}]({file})")
        parts.append("\n\n".join([*shown, "</details>"]))
    return "\n\n".join(parts)


def _training(card):
    facts = card.facts
    augmentation = ", ".join(facts.augmentation) or "none"
    versions = ", ".join(f"{k} {v}" for k, v in facts.versions.items())
    rows = [
        ("training run", ""),
        ("data", ", ".join(facts.data)),
        ("speakers", f"{facts.speakers:,}"),
        ("utterances", f"{facts.utterances:,}"),
        ("hours", f"{facts.hours:.1f}"),
        ("median utterance", f"{facts.median_s:.1f} s"),
        ("recipe", f"`{facts.recipe}`, seed {facts.seed}"),
        ("loss", facts.loss),
        ("augmentation", augmentation),
        ("epochs", f"{facts.epochs:,}"),
        ("exported with", versions),
    ]
    return _table(rows)


def _limits(card):
    facts = card.facts
    measured = "It has not been measured on any trial list."
    if card.evaluations:
        measured = (
            f"It was measured on {', '.join(e.name for e in card.evaluations)}"
            "; what it shows there holds for recordings like those, and for "
            "no others until they are measured."
        )
    lines = [
        f"The network has heard {facts.speakers:,} speakers in "
        f"{facts.hours:.1f} hours of {', '.join(facts.data)}. Languages, "
        "accents, ages, microphones, rooms and noise that are not in there "
        "are unknown to it, and errors may be much more frequent with them.",
        measured,
        f"Half of the training utterances are shorter than "
        f"{facts.median_s:.1f} s. An embedding of less speech is less "
        "certain; silence and noise have an embedding, too, which says "
        "nothing of a speaker.",
        "A score is no proof of who speaks, and a recording of a voice, or an "
        "imitation of it by a machine, may pass for the voice itself.",
    ]
    return "\n".join(f"- {line}" for line in lines)
