"""Scores with their calibrations: log-likelihood ratios and decisions."""

from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.calibration import P_TARGET, Calibration
from speechbrain_attn.scoring.systems import Scores, TrialEmbeddings


class Scored(NamedTuple):
    """A trial list with all its scores."""

    data: TrialEmbeddings
    scores: Scores


class System(NamedTuple):
    """Scores [trials] of one scoring.

    ``calibration`` is its Calibration, ``llrs`` [trials] the log-likelihood
    ratios by it; both None without one.
    """

    scores: np.ndarray
    calibration: Calibration | None = None
    llrs: np.ndarray | None = None


class Decisions(NamedTuple):
    """Posteriors [trials] at a prior, and where it is the same speaker."""

    p_target: float
    posteriors: np.ndarray
    accepted: np.ndarray

    def counts(self, labels):
        """The prior and the errors, for results."""
        return {
            "p_target": self.p_target,
            "misses": int(np.count_nonzero(labels & ~self.accepted)),
            "false_accepts": int(np.count_nonzero(~labels & self.accepted)),
        }


def fit_calibrations(
    options, test, development, trial_list, model_sha256, backend
):
    """Systems with calibrations that are fitted on a development list.

    Arguments
    ---------
    options : ScoringOptions
    test, development : Scored
    trial_list : str
        Name of the development list.
    model_sha256 : str or None
        Hash of the network that made the embeddings.
    backend : Backend
        That made the scores.

    Returns
    -------
    dict
        Name to System.
    list of str
        Sentences on systems whose scores cannot be calibrated.

    Raises
    ------
    AttnError
        As ``Calibration.fit``, for the scoring that was asked for.
    """
    num_speakers = len(np.unique(development.data.trial_speakers))
    durations = None
    if options.duration_term:
        durations = development.data.trial_durations
    systems, notes = {}, []
    for name, scores in test.scores.of.items():
        try:
            calibration = Calibration.fit(
                development.scores.of[name],
                development.data.labels,
                P_TARGET if options.p_target is None else options.p_target,
                durations,
                trial_list,
                num_speakers,
                name,
                model_sha256,
                backend.made_with(name),
            )
        except AttnError as error:
            problem = f"calibration of {name} on {trial_list}: {error}"
            if name == options.scoring:
                raise AttnError(problem) from None
            notes.append(problem)
            systems[name] = System(scores)
        else:
            systems[name] = _system(scores, calibration, test.data)
    return systems, notes


def read_calibration(options):
    """The saved calibration that is to be used, or None.

    Arguments
    ---------
    options : ScoringOptions

    Raises
    ------
    AttnError
        As ``Calibration.load``, or it is for another scoring.
    """
    if options.calibration is None:
        return None
    calibration = Calibration.load(options.calibration)
    # Of the scoring it is known before anything is embedded.
    _refuse_others(options, calibration, None, None)
    return calibration


def use_calibration(options, test, calibration, model_sha256, backend):
    """Systems of which the one that was asked for has the calibration.

    Arguments
    ---------
    options : ScoringOptions
    test : Scored
    calibration : Calibration or None
        As ``read_calibration`` gives it.
    model_sha256 : str or None
        Hash of the network that made the embeddings.
    backend : Backend
        That made the scores.

    Returns
    -------
    dict
        Name to System.
    list of str
        Sentences, where it cannot be told whether the calibration is of the
        same model, cohort or back end.

    Raises
    ------
    AttnError
        The calibration is of another model, cohort or back end.
    """
    systems = {name: System(scores) for name, scores in test.scores.of.items()}
    if calibration is None:
        return systems, []
    name, made_with = options.scoring, backend.made_with(options.scoring)
    _refuse_others(options, calibration, model_sha256, made_with)
    systems[name] = _system(systems[name].scores, calibration, test.data)
    notes = []
    if None in (calibration.model_sha256, model_sha256):
        who = "calibration" if model_sha256 else "store"
        notes.append(
            f"The {who} does not name its model, so that it cannot be told "
            "whether the calibration was fitted on this one."
        )
    if name != "cosine" and None in (calibration.made_with, made_with):
        who = "calibration" if made_with else "PLDA back end"
        notes.append(
            f"The {who} does not name the cohort that it is from, so that it "
            "cannot be told whether the calibration was fitted on such scores."
        )
    return systems, notes


def decide(system, p_target=None):
    """Decisions on the trials of a calibrated System, at equal costs.

    ``p_target`` is the prior; None takes that of the calibration.
    """
    if p_target is None:
        p_target = system.calibration.p_target
    return Decisions(
        p_target,
        Calibration.posterior(system.llrs, p_target),
        Calibration.accept(system.llrs, p_target),
    )


def _refuse_others(options, calibration, *made_by):
    try:
        calibration.refuse_others(options.scoring, *made_by)
    except AttnError as error:
        raise AttnError(f"{options.calibration}: {error}") from None


def _system(scores, calibration, data):
    durations = None
    if calibration.duration_term is not None:
        durations = data.trial_durations
    return System(scores, calibration, calibration.llr(scores, durations))
