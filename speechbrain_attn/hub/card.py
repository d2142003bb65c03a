"""The README.md of a model folder, from what the run left behind."""

import inspect
from typing import NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from speechbrain_attn.hub.facts import RunFacts
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.results_page import METRICS, shown
from speechbrain_attn.scoring.systems import TITLES

TAGS = ["speechbrain", "embeddings", "Speaker", "Verification", "pytorch"]
SHOWN_METRICS = ("eer", "min_dcf_0.01")


class Paper(NamedTuple):
    """What is needed to cite one; the title None where it is not known."""

    key: str
    authors: str
    year: int
    arxiv: str
    title: str | None = None


SPEECHBRAIN = Paper(
    "speechbrain",
    "Ravanelli, Mirco and Parcollet, Titouan and others",
    2021,
    "2106.04624",
    "{SpeechBrain}: A General-Purpose Speech Toolkit",
)
# By the module that a network's class comes from.
PAPERS = {
    "self_attentive_tdnn": Paper(
        "park2020selfattentive",
        "Park, H. and Park, J. and Lee, S. W.",
        2020,
        "2008.06146",
    ),
    "double_mha": Paper(
        "india2021double",
        "India, Miquel and Safari, Pooyan and Hernando, Javier",
        2020,
        "2007.13199",
        "Double Multi-Head Attention for Speaker Verification",
    ),
    "serialized_mha": Paper(
        "zhu2021serialized",
        "Zhu, Hongning and Lee, Kong Aik and Li, Haizhou",
        2021,
        "2107.06493",
        "Serialized Multi-Layer Multi-Head Attention for Neural Speaker "
        "Embedding",
    ),
    "ge2e_lstm": Paper(
        "wan2018ge2e",
        "Wan, Li and Wang, Quan and Papir, Alan and Lopez Moreno, Ignacio",
        2017,
        "1710.10467",
        "Generalized End-to-End Loss for Speaker Verification",
    ),
    "ECAPA_TDNN": Paper(
        "desplanques2020ecapa",
        "Desplanques, Brecht and Thienpondt, Jenthe and Demuynck, Kris",
        2020,
        "2005.07143",
        "{ECAPA-TDNN}: Emphasized Channel Attention, Propagation and "
        "Aggregation in {TDNN} Based Speaker Verification",
    ),
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
    pictures: dict  # title -> file in the folder
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
        datasets=card.datasets,
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
    if card.pictures:
        lines = [f"![{title}]({file})" for title, file in card.pictures.items()]
        sections.append("## Pictures\n\n" + "\n\n".join(lines))
    sections.append("## Citation\n\n" + _citation(card.network))
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
        what += ": " + about.split("\n")[0]
    return (
        f"# Speaker embeddings: {system_name(network)}\n\n{what}\n\n"
        f"{parameters:,} parameters; from audio at {card.sample_rate:,} Hz to "
        f"{_size(network)} that are compared by their cosine."
    )


def _size(network):
    size = getattr(network, "embedding_size", None)
    return "embeddings" if size is None else f"embeddings of {size:,} values"


def _use(card):
    parts = [
        "With SpeechBrain and the package `speechbrain_attn`:",
        "```python\n"
        "from speechbrain.inference.speaker import EncoderClassifier\n\n"
        f'model = EncoderClassifier.from_hparams(source="{card.source}")\n'
        'signal = model.load_audio("speech.wav")\n'
        "embedding = model.encode_batch(signal)\n"
        "```",
        "`speechbrain_attn.hub.load` loads it without running what its YAML "
        "names, and refuses weights that are missing or do not fit.",
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
        "the speakers. minDCF is normalised, with costs of 1. `results.json` "
        "holds all figures."
    )


def _table(rows):
    """Markdown table; the first row is its head."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
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
                name,
                f"{found.score:.4f}",
                f"{found.false_accepts:,} of {calibration.nontargets:,}",
                f"{found.misses:,} of {calibration.targets:,}",
            )
        )
    formula = f"{calibration.slope:.4f} * cosine {calibration.offset:+.4f}"
    if calibration.duration_term is not None:
        formula += " and a term of the durations"
    parts = [
        f"Thresholds of the cosine, chosen on {calibration.trial_list}, with "
        "their errors there. SpeechBrain's `verify_files` has its own, 0.25, "
        "which was not chosen for this model.",
        _table(rows),
        f"The log-likelihood ratio is {formula} (natural logarithm; fitted at "
        f"a prior of {calibration.p_target:g}). `calibration.json` holds both.",
        *calibration.notes,
    ]
    return "\n\n".join(parts)


def _training(card):
    facts = card.facts
    augmentation = ", ".join(facts.augmentation) or "none"
    versions = ", ".join(f"{k} {v}" for k, v in facts.versions.items())
    rows = [
        ("", ""),
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
            "; figures and thresholds hold for recordings like those, and for "
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


def _citation(network):
    papers = [PAPERS.get(system_name(network)), SPEECHBRAIN]
    return "\n\n".join(_bibtex(paper) for paper in papers if paper is not None)


def _bibtex(paper):
    fields = {
        "author": paper.authors,
        "title": paper.title,
        "year": paper.year,
        "eprint": paper.arxiv,
        "archivePrefix": "arXiv",
    }
    lines = [f"  {k} = {{{v}}}," for k, v in fields.items() if v is not None]
    body = "\n".join(lines)
    return f"```bibtex\n@misc{{{paper.key},\n{body}\n}}\n```"
