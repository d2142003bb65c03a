"""From the cosine of two embeddings to what it says of their speakers.

- The *cosine*, in [-1, 1], is higher the more two voices are alike for the
  model. How high it must be differs from model to model.
- The *log-likelihood ratio* (natural logarithm) is what a calibration makes
  of it: how many times as probable the two recordings are if one person speaks
  in both as if two do. It does not depend on who is suspected beforehand.
- The *posterior* is the probability of one speaker, once the prior, the
  probability before anyone listened, is stated.
- The *decision* is "same" if the posterior is one half or more: it errs least
  at that prior. With a threshold it is "same" from that cosine on.
"""

import math
from typing import NamedTuple

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.thresholds import THRESHOLDS

NO_CALIBRATION = (
    "This model has no calibration.json, so the cosine is all there is. "
    "`speechbrain-attn score --development LIST` makes one from trials of "
    "known speakers: copy it into the model folder. Or decide by --threshold "
    "NUMBER."
)
_SAME = "same speaker"


class Verdict(NamedTuple):
    """What is known of two recordings; None where there is no calibration."""

    cosine: float  # in [-1, 1]
    llr: float | None  # log-likelihood ratio, natural logarithm
    posterior: float | None  # in [0, 1], at the judge's prior
    same: bool | None  # the decision; None without calibration and threshold


class Judge:
    """Judges cosines of one model.

    Arguments
    ---------
    calibration : Calibration or None
        Of the model's cosines.
    prior : float
        Probability of one speaker before listening, in (0, 1).
    threshold : str or None
        A cosine, or the name of one of the calibration's thresholds; None
        decides by the posterior.

    Raises
    ------
    AttnError
        The prior or the threshold lies outside its range, or is the name of
        none.

    Example
    -------
    >>> Judge(None, threshold="0.4").verdict(0.5)
    Verdict(cosine=0.5, llr=None, posterior=None, same=True)
    """

    def __init__(self, calibration, prior=0.5, threshold=None):
        if not 0 < prior < 1:
            raise AttnError(
                f"prior: want a probability above 0 and below 1, got {prior}."
            )
        self.calibration = calibration
        self.prior = prior
        self.threshold = _cosine_threshold(threshold, calibration)

    @property
    def takes_durations(self):
        """Whether ``verdict`` needs the durations of the two sides."""
        calibration = self.calibration
        return bool(calibration and calibration.duration_term)

    def verdict(self, cosine, durations=None):
        """The ``Verdict`` on a cosine.

        Arguments
        ---------
        cosine : float
        durations : array
            [2], seconds of the two recordings, where they are needed.
        """
        llr = posterior = same = None
        if self.calibration is not None:
            llr = float(self.calibration.llr(cosine, durations))
            posterior = float(Calibration.posterior(llr, self.prior))
            same = bool(Calibration.accept(llr, self.prior))
        if self.threshold is not None:
            same = bool(cosine >= self.threshold)
        return Verdict(float(cosine), llr, posterior, same)

    def explain(self, verdict):
        """Plain sentences on a verdict."""
        said = []
        if verdict.llr is None and verdict.same is None:
            return NO_CALIBRATION
        if verdict.llr is not None:
            likely, other = "one person", "two"
            if verdict.llr < 0:
                likely, other = "two people", "one"
            said += [
                f"The recordings are {_times(abs(verdict.llr))} as probable "
                f"if they are of {likely} as if they are of {other}.",
                f"Where {self.prior:g} of such pairs are of one person, this "
                f"one is with a probability of {verdict.posterior:.4g}.",
                *self._doubts(verdict.llr),
            ]
        if self.threshold is not None:
            said.append(
                f"The threshold decides: {_SAME} from a cosine of "
                f"{self.threshold:.4f} on."
            )
        return " ".join(said)

    def _doubts(self, llr):
        """A sentence if the ratio is one that no trials were there to show."""
        seen, of_whom = self.calibration.targets, "one person"
        if llr > 0:
            seen, of_whom = self.calibration.nontargets, "two people"
        if abs(llr) > math.log(seen):
            yield (
                f"The calibration has seen {seen:,} trials of {of_whom}, too "
                "few to tell so high a ratio: take it as "
                f"{_times(math.log(seen))} or more."
            )


def decision_word(same):
    """A decision in words."""
    return {True: _SAME, False: "different speakers", None: "no decision"}[same]


def _times(log_ratio):
    """A ratio in words, of its natural logarithm, 0 or more."""
    if log_ratio > math.log(1e6):
        return "more than a million times"
    ratio = math.exp(log_ratio)
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def _cosine_threshold(threshold, calibration):
    """The threshold as a cosine; None for none."""
    if threshold is None:
        return None
    if threshold in THRESHOLDS:
        if calibration is None:
            raise AttnError(f"threshold={threshold}: {NO_CALIBRATION}")
        return calibration.thresholds[threshold].score
    try:
        value = float(threshold)
    except ValueError:
        value = math.nan
    if not -1 <= value <= 1:
        raise AttnError(
            f"threshold={threshold}: want a cosine between -1 and 1, or one "
            f"of {', '.join(THRESHOLDS)}, which a calibration has."
        )
    return value
