"""Figures of every scoring of a trial list, with confidence intervals."""

from speechbrain_attn.scoring.confidence import SpeakerTrials
from speechbrain_attn.scoring.thresholds import PRIORS

LEVEL = 0.95
OF_SCORES = ("eer", *(f"min_dcf_{prior}" for prior in PRIORS), "min_cllr")
OF_RATIOS = ("cllr", *(f"act_dcf_{prior}" for prior in PRIORS))


def measure(systems, data, replicates=1000, compared=None):
    """Figures of the systems, and of the difference to another.

    Arguments
    ---------
    systems : dict
        Name to System.
    data : TrialEmbeddings
        Of the test list.
    replicates : int
        Draws of the speakers.
    compared : tuple or None
        Name of one of the systems, and scores [trials] of another.

    Returns
    -------
    dict
        "systems": name to {metric: Interval}, metrics as ``bootstrap`` names
        them, ``OF_RATIOS`` only with a calibration. "num_speakers". With
        ``compared``, "comparison": {metric: {"this", "other": Interval,
        "difference", "ratio": Interval}}.

    Raises
    ------
    AttnError
        As ``bootstrap``.
    """
    trials = SpeakerTrials(data.labels, *data.trial_speakers)
    drawn = {
        name: _draw(trials, system, replicates)
        for name, system in systems.items()
    }
    found = {
        "num_speakers": trials.num_speakers,
        "systems": {
            name: trials.intervals(figures, LEVEL)
            for name, figures in drawn.items()
        },
    }
    if compared is not None:
        name, other_scores = compared
        other = trials.draw(other_scores, OF_SCORES, replicates)
        this = {metric: drawn[name][metric] for metric in OF_SCORES}
        intervals = trials.intervals(other, LEVEL)
        found["comparison"] = {
            metric: {
                "this": found["systems"][name][metric],
                "other": intervals[metric],
                **comparison._asdict(),
            }
            for metric, comparison in trials.comparisons(
                this, other, LEVEL
            ).items()
        }
    return found


def _draw(trials, system, replicates):
    """Draws of one system, with the figures of its ratios if it has them."""
    if system.calibration is None:
        return trials.draw(system.scores, OF_SCORES, replicates)
    if system.calibration.duration_term is None:
        # Ratios that rise with the score have the figures of both.
        return trials.draw(system.llrs, OF_SCORES + OF_RATIOS, replicates)
    return {
        **trials.draw(system.scores, OF_SCORES, replicates),
        **trials.draw(system.llrs, OF_RATIOS, replicates),
    }


def plain(values):
    """The same with every Interval as a dict, for JSON."""
    if hasattr(values, "_asdict"):
        return values._asdict()
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    return values
