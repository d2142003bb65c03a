"""Log-likelihood ratios of scores, by an affine map fitted on trials."""

import dataclasses

import numpy as np
from scipy.special import expit

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.error_counts import (
    bayes_thresholds,
    costs_of_errors,
)
from speechbrain_attn.scoring.logistic import logistic_regression
from speechbrain_attn.scoring.metrics import (
    as_array,
    checked,
    checked_durations,
)
from speechbrain_attn.scoring.strict_json import JsonFile
from speechbrain_attn.scoring.thresholds import (
    THRESHOLDS,
    Threshold,
    thresholds_of,
)

# Errors for a rate that is within 30 % of its estimate with a probability of
# 90 %, if trials were independent (the "rule of 30").
ENOUGH_ERRORS = 30
P_TARGET = 0.05  # where minDCF is usually read


@dataclasses.dataclass(frozen=True)
class DurationTerm:
    """What the durations of a trial add to its log-likelihood ratio.

    ``log_shorter * log(shorter) + log_longer * log(longer)``, the shorter and
    the longer side in seconds, so that a trial and its mirror image get the
    same. A logarithm, since a second more tells much in two and little in
    sixty. Durations beyond those of the development list, ``shortest_s`` to
    ``longest_s``, count as the nearest of these: nothing is known of them.
    """

    log_shorter: float
    log_longer: float
    shortest_s: float
    longest_s: float

    def __post_init__(self):
        if not 0 < self.shortest_s <= self.longest_s:
            raise AttnError(
                f"field shortest_s: want above 0 and at most longest_s = "
                f"{self.longest_s}, got {self.shortest_s}."
            )

    def llr(self, durations):
        """Sum of the terms, [trials], of durations [trials, 2] in seconds."""
        sides = _log_sides(durations, self.shortest_s, self.longest_s)
        return sides @ (self.log_shorter, self.log_longer)


@dataclasses.dataclass(frozen=True)
class Calibration(JsonFile):
    """From a score to a log-likelihood ratio, a posterior and a decision.

    The natural log-likelihood ratio of "same speaker" to "not the same" is
    ``slope * score + offset``, with a duration term where one was fitted.
    Made by ``Calibration.fit`` or ``Calibration.load``.

    Arguments
    ---------
    scoring : str
        Name of the scores that it was fitted on, as in ``systems.TITLES``.
    model_sha256 : str or None
        Hash of the network that made the embeddings; None where that is not
        known.
    made_with : str or None
        Cohort or PLDA back end that made the scores, as ``Backend.made_with``
        tells it; None of cosines, or where it is not known.
    slope : float
        Above 0; nats for each unit of the score.
    offset : float
        Nats.
    duration_term : DurationTerm or None
        None where durations have no say.
    p_target : float
        The prior that the map was fitted for, in (0, 1).
    trial_list : str
        Name of the development list.
    targets, nontargets : int
        Its trials.
    speakers : int or None
        Its speakers; None where that was not said.
    separable : bool
        True where one threshold parts its targets from its nontargets.
    thresholds : dict
        Name to ``Threshold``, on the scale of the raw score, durations apart:
        ``eer``, ``fa_0.01``, ``fa_0.001``, ``min_dcf_0.01``, ``min_dcf_0.05``.

    Example
    -------
    >>> scores = np.linspace(-0.4, 0.8, 600)
    >>> labels = scores + 0.2 * np.sin(np.arange(600)) > 0.3
    >>> calibration = Calibration.fit(scores, labels)
    >>> llrs = calibration.llr([-0.2, 0.3, 0.7])
    >>> calibration.posterior(llrs, p_target=0.01).round(3)
    array([0.   , 0.012, 0.829])
    >>> calibration.accept(llrs, p_target=0.01)
    array([False, False,  True])
    """

    scoring: str
    model_sha256: str | None
    made_with: str | None
    slope: float
    offset: float
    duration_term: DurationTerm | None
    p_target: float
    trial_list: str
    targets: int
    nontargets: int
    speakers: int | None
    separable: bool
    thresholds: dict[str, Threshold]

    def __post_init__(self):
        if self.slope <= 0:
            raise AttnError(
                f"field slope: want above 0, got {self.slope:.3g}: targets "
                "score no higher than nontargets. Are the labels inverted, "
                "the ids mixed up, or are the scores distances?"
            )
        costs_of_errors(self.p_target)
        for name in ("targets", "nontargets", "speakers"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise AttnError(f"field {name}: want 1 or more, got {count}.")
        if self.thresholds.keys() != set(THRESHOLDS):
            raise AttnError(
                f"field thresholds: want {', '.join(THRESHOLDS)}, got "
                f"{', '.join(self.thresholds) or 'none'}."
            )

    @classmethod
    def fit(
        cls,
        scores,
        labels,
        p_target=P_TARGET,
        durations=None,
        trial_list="",
        num_speakers=None,
        scoring="cosine",
        model_sha256=None,
        made_with=None,
    ):
        """Fit by logistic regression on a development list.

        The cross entropy at a prior of ``p_target`` is minimised: targets
        weigh ``p_target`` together and nontargets the rest, whatever their
        numbers. The map is best near that prior. At 0.5 the cross entropy is
        Cllr; the default costs Cllr little.

        Arguments
        ---------
        scores, labels : array or tensor
            [trials] each, as for ``metrics.eer``, scores finite.
        p_target : float
            In (0, 1).
        durations : array or tensor, optional
            [trials, 2], seconds of the two sides; with it, ``llr`` wants
            them too.
        trial_list : str
            Name of the list, kept with the map.
        num_speakers : int, optional
            Speakers of the list, kept with the map.
        scoring : str
            Name of the scores, kept with the map: see ``refuse_others``.
        model_sha256, made_with : str, optional
            Hash of the network, and cohort or back end of the scores, kept
            with the map.

        Raises
        ------
        AttnError
            As ``metrics.eer``; a score is infinite; the prior or a duration
            lies outside its range; targets do not score higher than
            nontargets.
        """
        scores, labels = checked(scores, labels)
        scores = scores.astype(np.float64, copy=False)
        infinite = np.flatnonzero(np.isinf(scores))
        if len(infinite):
            raise AttnError(
                f"scores: trial {infinite[0]} has {scores[infinite[0]]}; a "
                "calibration wants finite scores."
            )
        columns, term = scores[:, None], None
        if durations is not None:
            durations = checked_durations(durations, scores)
            span = float(durations.min()), float(durations.max())
            columns = np.column_stack([scores, _log_sides(durations, *span)])
        offset, (slope, *sides) = logistic_regression(columns, labels, p_target)
        if durations is not None:
            term = DurationTerm(*map(float, sides), *span)
        llrs = columns @ (slope, *sides)
        return cls(
            scoring=scoring,
            model_sha256=model_sha256,
            made_with=made_with,
            slope=float(slope),
            offset=offset,
            duration_term=term,
            p_target=float(p_target),
            trial_list=str(trial_list),
            targets=int(labels.sum()),
            nontargets=int((~labels).sum()),
            speakers=None if num_speakers is None else int(num_speakers),
            separable=bool(llrs[labels].min() > llrs[~labels].max()),
            thresholds=thresholds_of(scores, labels),
        )

    def refuse_others(self, scoring, model_sha256, made_with=None):
        """Refuse scores of another kind, model, cohort or back end.

        What is not known of either has no say.

        Arguments
        ---------
        scoring : str
        model_sha256, made_with : str or None
            As those of the class.

        Raises
        ------
        AttnError
            They are not those that the map was fitted on.
        """
        if scoring != self.scoring:
            raise AttnError(
                f"was fitted on {self.scoring} scores, and these are "
                f"{scoring}; score as it was fitted, or fit one for these."
            )
        known = None not in (self.model_sha256, model_sha256)
        if known and self.model_sha256 != model_sha256:
            raise AttnError(
                "was fitted on another model's embeddings (sha256 "
                f"{self.model_sha256[:12]}, and these have "
                f"{model_sha256[:12]}); fit one for this model."
            )
        known = None not in (self.made_with, made_with)
        if known and self.made_with != made_with:
            raise AttnError(
                f"was fitted on {scoring} scores made with {self.made_with}, "
                f"and these are made with {made_with}; give the cohort or "
                "PLDA file of its run, or fit one for these."
            )

    def llr(self, scores, durations=None):
        """Natural log-likelihood ratio of each score, float64.

        Arguments
        ---------
        scores : float, array or tensor
            [trials] or one score.
        durations : array or tensor, optional
            [trials, 2] seconds, or [2] for one score; where it was fitted
            with durations, and only there.

        Raises
        ------
        AttnError
            A score is NaN, or the durations are missing, of no use, of
            another shape or not above 0.
        """
        scores = _without_nan(scores, "scores")
        llrs = self.slope * scores + self.offset
        if (durations is None) != (self.duration_term is None):
            want = "none" if self.duration_term is None else "[trials, 2]"
            given = "some" if durations is not None else "none"
            raise AttnError(
                f"durations: this calibration takes {want}, got {given}; "
                "give what it was fitted with, or fit it anew."
            )
        if durations is None:
            return llrs
        durations = checked_durations(durations, scores)
        return llrs + self.duration_term.llr(durations)

    @staticmethod
    def posterior(llrs, p_target):
        """Probability of "same speaker" at a prior of ``p_target``."""
        return expit(_without_nan(llrs) - _bayes_threshold(p_target))

    @staticmethod
    def accept(llrs, p_target, c_miss=1.0, c_fa=1.0):
        """True where to accept costs no more, on average, than to reject."""
        return _without_nan(llrs) >= _bayes_threshold(p_target, c_miss, c_fa)

    @property
    def notes(self):
        """Sentences on what the development list is too small for."""
        notes = []
        if self.separable:
            notes.append(
                "The development scores are perfectly separated, so the "
                "slope comes from the regularisation and not from errors: "
                f"{self.targets + self.nontargets:,} trials say nothing "
                "of how rare an error is."
            )
        few = [
            f"{name} ({threshold.false_accepts:,})"
            for name, threshold in self.thresholds.items()
            if threshold.false_accepts < ENOUGH_ERRORS
        ]
        if few:
            notes.append(
                f"The development list has {self.nontargets:,} nontargets; "
                f"few of them lie above the thresholds {', '.join(few)}. "
                f"With fewer than {ENOUGH_ERRORS} the rate of false accepts "
                "to come may well be another by a third or more."
            )
        return notes


def _bayes_threshold(p_target, c_miss=1.0, c_fa=1.0):
    """Log-likelihood ratio from which to accept is the cheaper decision."""
    return bayes_thresholds(costs_of_errors(p_target, c_miss, c_fa))[1]


def _without_nan(values, name="llrs"):
    """Values as float64; refuses NaN."""
    values = as_array(values).astype(np.float64)
    bad = np.flatnonzero(np.isnan(values))
    if len(bad):
        raise AttnError(
            f"{name}: trial {bad[0]} is NaN; look for its embeddings."
        )
    return values


def _log_sides(durations, shortest_s, longest_s):
    """Logarithms of the shorter and of the longer side, [..., 2]."""
    return np.log(np.sort(np.clip(durations, shortest_s, longest_s), axis=-1))
