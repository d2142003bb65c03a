"""Figures of every scoring of a trial list, with confidence intervals."""

from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.confidence import SpeakerTrials

LEVEL = 0.95
PRIORS = (0.01, 0.05)
OF_SCORES = ("eer", *(f"min_dcf_{prior}" for prior in PRIORS), "min_cllr")
OF_RATIOS = ("cllr", *(f"act_dcf_{prior}" for prior in PRIORS))


class System(NamedTuple):
    """Scores [trials] of one scoring, and its Calibration or None."""

    scores: np.ndarray
    calibration: Calibration | None = None

    @property
    def llrs(self):
        """Log-likelihood ratios, [trials], or None."""
        if self.calibration is None:
            return None
        return self.calibration.llr(self.scores)


def calibrated(scores, development_scores, development, trial_list, scoring):
    """Systems with calibrations that are fitted on a development list.

    Arguments
    ---------
    scores, development_scores : dict
        Name of a scoring to [trials], of the test and development list.
    development : TrialEmbeddings
    trial_list : str
        Name of the development list.
    scoring : str
        The one that must have a calibration.

    Returns
    -------
    dict
        Name to System.
    list of str
        Sentences on systems whose scores cannot be calibrated.

    Raises
    ------
    AttnError
        As ``Calibration.fit``, for ``scoring``.
    """
    num_speakers = len(np.unique(development.trial_speakers))
    systems, notes = {}, []
    for name, values in scores.items():
        calibration = None
        try:
            calibration = Calibration.fit(
                development_scores[name],
                development.labels,
                trial_list=trial_list,
                num_speakers=num_speakers,
            )
        except AttnError as error:
            problem = f"calibration of {name} on {trial_list}: {error}"
            if name == scoring:
                raise AttnError(problem) from None
            notes.append(problem)
        systems[name] = System(values, calibration)
    return systems, notes


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
    """A calibration rises with the score, so the ratios have all figures."""
    llrs = system.llrs
    if llrs is None:
        return trials.draw(system.scores, OF_SCORES, replicates)
    return trials.draw(llrs, OF_SCORES + OF_RATIOS, replicates)


def plain(values):
    """The same with every Interval as a dict, for JSON."""
    if hasattr(values, "_asdict"):
        return values._asdict()
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    return values
