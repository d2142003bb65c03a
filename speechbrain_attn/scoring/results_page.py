"""``results.md`` and the lines that a scoring run prints, from its results.

``results`` is everywhere the dict that is written as ``results.json``; see
``scoring.run``.
"""

import os

from speechbrain_attn.scoring.systems import TITLES

# Title, unit and decimals of each metric; rates are shown in percent.
METRICS = {
    "eer": ("EER", "%", 2),
    "min_dcf_0.01": ("minDCF(0.01)", "", 4),
    "act_dcf_0.01": ("actDCF(0.01)", "", 4),
    "min_dcf_0.05": ("minDCF(0.05)", "", 4),
    "act_dcf_0.05": ("actDCF(0.05)", "", 4),
    "min_cllr": ("minCllr", "bit", 4),
    "cllr": ("Cllr", "bit", 4),
}
_PRINTED = ("eer", "min_dcf_0.01", "min_dcf_0.05", "min_cllr")
# Without a calibration scores are no ratios, and have neither of these.
_PRINTED_OF_RATIOS = (
    "eer",
    "min_dcf_0.01",
    "act_dcf_0.01",
    "min_dcf_0.05",
    "act_dcf_0.05",
    "cllr",
)
_SCALE = (
    "minDCF and actDCF are normalised: the costs of a miss and of a false "
    "acceptance are 1, and 1 is the cost of the better decision without "
    "scores. Times p_target, the number in brackets, they are on SpeechBrain's "
    "raw scale"
)


def shown(interval, metric, signed=False):
    """A figure with its interval, such as ``2.31 [1.90, 2.82]``.

    Arguments
    ---------
    interval : dict
        ``value``, ``low`` and ``high``, rates as fractions.
    metric : str
        One of ``METRICS``; it sets the decimals, and percent.
    signed : bool
        True shows a plus too.

    Returns
    -------
    str

    Example
    -------
    >>> shown({"value": 0.0231, "low": 0.019, "high": 0.0282}, "eer")
    '2.31 [1.90, 2.82]'
    """
    _, unit, decimals = METRICS[metric]
    factor = 100 if unit == "%" else 1
    sign = "+" if signed else ""
    value, low, high = (
        f"{factor * interval[key]:{sign}.{decimals}f}"
        for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def printed(results):
    """Lines for the terminal: list, a line a scoring, the scale and notes.

    Returns
    -------
    list of str
    """
    lines = [results["summary"]]
    if "cohort" in results["conditions"]:
        # Read from names, speakers may be other than was meant.
        lines.append(_cohort(results["conditions"]["cohort"]))
    for name, figures in results["systems"].items():
        metrics = _PRINTED_OF_RATIOS if "cllr" in figures else _PRINTED
        parts = []
        for metric in metrics:
            title, unit, _ = METRICS[metric]
            unit = f" {unit}" if unit else ""
            parts.append(f"{title} {shown(figures[metric], metric)}{unit}")
        lines.append(f"{TITLES[name]}: {', '.join(parts)}")
    if "comparison" in results:
        other = results["comparison"]["eer"]
        lines.append(
            f"EER less that of {results['compared_with']}: "
            f"{shown(other['difference'], 'eer', signed=True)} %"
        )
    if "decisions" in results:
        lines.append(_decided(results))
    lines.append(f"{_interval_sentence(results)} {_raw_scale(results)}")
    return [*lines, *(f"note: {note}" for note in results["notes"])]


def _interval_sentence(results):
    return (
        f"In brackets: {100 * results['level']:g} % confidence intervals "
        f"({results['replicates']:,} draws of {results['num_speakers']:,} "
        "speakers)."
    )


def _raw_scale(results):
    name = results["scoring"]
    raw = ", ".join(
        f"minDCF({prior}) {float(prior) * figure['value']:.6f}"
        for prior, figure in (
            (p, results["systems"][name][f"min_dcf_{p}"])
            for p in ("0.01", "0.05")
        )
    )
    return f"{_SCALE}: {TITLES[name]} has {raw}."


def render_results(results):
    """The text of ``results.md``."""
    name = os.path.basename(results["trial_list"])
    parts = [
        f"# Speaker verification on {name}",
        results["summary"],
        _table(results["systems"]),
        _interval_sentence(results) + " " + _raw_scale(results),
        _cllr_sentence(results),
    ]
    if "comparison" in results:
        parts += ["## Comparison", _comparison(results)]
    parts += ["## Conditions", _bullets(_conditions(results))]
    if "calibration" in results:
        parts += ["## Decisions", _thresholds(results)]
    if results["notes"]:
        parts += ["## Notes", _bullets(results["notes"])]
    pictures = [
        f"![{title.replace('_', ' ')}]({file})"
        for title, file in results["pictures"].items()
    ]
    if pictures:
        parts += ["## Pictures", *pictures]
    return "\n\n".join(parts) + "\n"


def _table(systems):
    metrics = [m for m in METRICS if any(m in f for f in systems.values())]
    titles = []
    for metric in metrics:
        title, unit, _ = METRICS[metric]
        titles.append(f"{title} ({unit})" if unit else title)
    rows = [
        (
            TITLES[name],
            *(shown(figures[m], m) if m in figures else "-" for m in metrics),
        )
        for name, figures in systems.items()
    ]
    return _markdown(("scoring", *titles), rows)


def _markdown(head, rows):
    """A Markdown table whose columns after the first are to the right."""
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(sentences):
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _cllr_sentence(results):
    calibration = results.get("calibration")
    if calibration is None:
        return (
            "Without a calibration scores are no log-likelihood ratios, so "
            "that there is no Cllr and no actDCF; minCllr is what the best "
            "calibration of these trials would give."
        )
    said = (
        "Cllr and actDCF are of log-likelihood ratios calibrated on "
        f"{calibration['trial_list']}; minCllr and minDCF are what the best "
        "calibration of these trials would give"
    )
    if calibration["duration_term"] is not None:
        said += (
            " without durations, so that Cllr and actDCF, to which durations "
            "add, may lie below them"
        )
    return f"{said}."


def _decided(results):
    """The errors of the decisions at their prior."""
    found, trials = results["decisions"], results["trials"]
    return (
        f"Decisions at a prior of {found['p_target']:g} and equal costs: "
        f"{found['misses']:,} of {trials['targets']:,} targets rejected, "
        f"{found['false_accepts']:,} of {trials['nontargets']:,} nontargets "
        "accepted (decisions.csv)."
    )


def _comparison(results):
    columns = ("this", "other", "difference", "ratio")
    rows = []
    for metric, found in results["comparison"].items():
        title, unit, _ = METRICS[metric]
        rows.append(
            (
                f"{title} ({unit})" if unit else title,
                shown(found["this"], metric),
                shown(found["other"], metric),
                shown(found["difference"], metric, signed=True),
                "{value:.3f} [{low:.3f}, {high:.3f}]".format(**found["ratio"]),
            )
        )
    return (
        f"This is {TITLES[results['scoring']]}, the other "
        f"`{results['compared_with']}`, on the same trials with the same "
        "draws of speakers. They differ where the interval of the difference "
        "leaves out 0.\n\n" + _markdown(("metric", *columns), rows)
    )


def _conditions(results):
    conditions = results["conditions"]
    lines = [
        f"Scores in `scores.txt`: {TITLES[results['scoring']]}.",
        f"Embeddings: `{conditions['embeddings']}`, of size "
        f"{conditions['embedding_size']}.",
    ]
    cohort, plda, development, fusion = (
        conditions.get(key)
        for key in ("cohort", "plda", "development", "fusion")
    )
    if cohort:
        lines.append(_cohort(cohort))
    if plda:
        made = f"loaded from {plda['file']}"
        if plda["utterances"]:
            made = (
                f"trained on {plda['utterances']:,} utterances of "
                f"{plda['speakers']:,} speakers ({plda['cohort']})"
            )
        lines.append(f"LDA to {plda['lda_size']:,} + PLDA: {made}.")
    if development:
        lines.append(f"Development list: {development['summary']}")
    if "calibration" in results:
        lines.append(_calibrated(results))
    if fusion:
        inputs = ", ".join(f"{k} {v:.3g}" for k, v in fusion["weights"].items())
        lines.append(f"Fusion, weights in nats for a unit: {inputs}.")
    return lines


def _cohort(cohort):
    adaptive = ""
    if cohort["top"] < cohort["size"]:
        adaptive = f"; adaptive s-norm takes the top {cohort['top']:,}"
    return (
        f"Cohort: {cohort['utterances']:,} utterances of "
        f"{cohort['speakers']:,} speakers ({cohort['name']}), "
        f"{cohort['size']:,} {cohort['of']}{adaptive}."
    )


def _calibrated(results):
    calibration = results["calibration"]
    with_durations = calibration["duration_term"] is not None
    return (
        "Calibration is affine"
        + (", with a term of the durations" if with_durations else "")
        + ", by logistic regression at a prior of "
        f"{calibration['p_target']:g}"
        + (
            f"; loaded from {results['conditions']['calibration']}."
            if "calibration" in results["conditions"]
            else "."
        )
    )


def _thresholds(results):
    calibration = results["calibration"]
    rows = [
        (
            name,
            f"{found['score']:.4f}",
            f"{found['false_accepts']:,} of {calibration['nontargets']:,}",
            f"{found['misses']:,} of {calibration['targets']:,}",
        )
        for name, found in calibration["thresholds"].items()
    ]
    head = ("aim", "score", "false acceptances", "misses")
    return (
        f"Of {TITLES[results['scoring']]} scores, chosen on "
        f"{calibration['trial_list']}, with its errors there; "
        "`calibration.json` holds them.\n\n"
        + _markdown(head, rows)
        + f"\n\n{_decided(results)}"
    )
