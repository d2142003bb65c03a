"""From which cosine on the nearest voice is accepted as the speaker.

A recording of somebody who is not enrolled meets every enrolled voice, so of
n voices it has n chances to be accepted. The rate that a user states is of
such recordings: at most that part of them shall be given anybody's name. No
threshold is made up: without data there is none.
"""

import math
from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.thresholds import FALSE_ACCEPTANCES


class Rule(NamedTuple):
    """When the nearest voice is accepted."""

    # A cosine above it is accepted; None where nothing tells.
    threshold: float | None
    basis: str  # where it comes from and what it assumes, or what is missing
    notes: list  # of str: what the data behind it are too small for

    def accepts(self, cosine):
        """True or False; None where there is no threshold."""
        return None if self.threshold is None else cosine > self.threshold


def open_set_rule(search, registry, calibration, far):
    """The rule for a registry, by the best data that there are.

    Arguments
    ---------
    search : ExactSearch or IndexSearch
        Of the registry.
    registry : Registry
        Its cohort is used, if it has one.
    calibration : Calibration or None
        Of the model; used where there is no cohort.
    far : float
        False-accept rate, in (0, 1).

    Returns
    -------
    Rule

    Raises
    ------
    AttnError
        The rate is out of range, the cohort is too small for it, or nobody is
        enrolled.
    """
    if not 0 < far < 1:
        raise AttnError(
            f"far: want a false-accept rate between 0 and 1, got {far}."
        )
    registry.refuse_empty()
    cohort = registry.cohort()
    if len(cohort):
        nearest = search.search(cohort, top=1)
        return rule_from_cohort([first.cosine for first, *_ in nearest], far)
    if calibration is None:
        return _no_rule(
            "the model has no calibration.json, and the registry no cohort. "
            "Calibrate the model on trials like yours (--development_file of "
            "the verification script), or"
        )
    try:
        calibration.refuse_others("cosine", registry.model_sha256)
    except AttnError as error:
        return _no_rule(f"the model's calibration.json {error} Or")
    return rule_from_calibration(calibration, len(registry), far)


def _no_rule(reason):
    """The rule that decides nothing, for a reason that ends in "or"."""
    return Rule(
        None,
        f"no decision: {reason} give recordings of people who are not "
        "enrolled (speechbrain-attn speakers cohort).",
        [],
    )


def rule_from_cohort(cosines, far):
    """Rule from people who are not enrolled, as met by all voices at once.

    With m recordings, the threshold is the k-th highest of their cosines to
    the nearest voice, k = floor(far * (m + 1)). Another recording like them is
    as likely to take any of the m + 1 places in their order, so it lies above
    the k-th with a probability of k / (m + 1), at most ``far``. Nothing is
    assumed of voices or scores; only that recordings to come are as those of
    the cohort, one of each person.

    Arguments
    ---------
    cosines : array
        [recordings], of each to the nearest enrolled voice.
    far : float
        In (0, 1).

    Raises
    ------
    AttnError
        There are too few recordings for the rate.

    Example
    -------
    >>> rule_from_cohort([0.1, 0.5, 0.3, 0.2], far=0.4).threshold
    0.3
    """
    highest = np.sort(cosines)[::-1]
    num = len(highest)
    # The margin is for the rounding of, say, 0.001 * 3000.
    place = math.floor(far * (num + 1) * (1 + 1e-9))
    if place < 1:
        lowest = math.ceil(1e4 / (num + 1)) / 1e4
        raise AttnError(
            f"far={far:g}: the registry's cohort of {num:,} recordings tells "
            f"of rates from {lowest:g} on. Give that, or a cohort of "
            f"{math.ceil(1 / far) - 1:,} recordings or more."
        )
    return Rule(
        float(highest[place - 1]),
        f"of {num:,} recordings of people who are not enrolled, "
        f"{place - 1:,} come nearer to an enrolled voice; for speakers who "
        "are like them",
        [],
    )


def rule_from_calibration(calibration, num_voices, far):
    """Rule from the model's calibration, corrected for the number of voices.

    A sum of probabilities is no less than that of any of the events, whether
    they depend on each other or not. So it is enough that each of n voices is
    wrongly accepted with a probability of far / n at most. Where the
    development list shows a threshold for that rate or a lower one, it is
    taken. Beyond, a log-likelihood ratio helps: of trials of different
    speakers, no more than exp(-t) have one above t, whatever its distribution
    (its likelihood ratio has a mean of 1 there), so the threshold is where it
    is ln(n / far). This is on the safe side, and rejects more than is needed.
    Both assume trials like those of the development list (a voice of several
    utterances takes higher cosines than one of a single utterance), the second
    also that the calibration holds far above its scores.

    Arguments
    ---------
    calibration : Calibration
    num_voices : int
        n, 1 or more.
    far : float
        In (0, 1).
    """
    each = far / num_voices
    like = f"trials like those of {calibration.trial_list or 'its list'}"
    shown = [
        rate
        for rate in FALSE_ACCEPTANCES
        # Less than one nontarget says nothing of a rate.
        if rate <= each * (1 + 1e-9) and calibration.nontargets * rate >= 1
    ]
    if shown:
        rate = max(shown)
        return Rule(
            calibration.thresholds[f"fa_{rate}"].score,
            f"the model's threshold for a false-accept rate of {rate:g} a "
            f"voice, with {num_voices:,} voices {num_voices * rate:g} at "
            f"most; for {like}",
            calibration.notes,
        )
    if calibration.duration_term is not None:
        return _no_rule(
            f"a rate of {each:.2g} a voice ({far:g} for {num_voices:,} "
            "voices) is lower than the model's thresholds are for, and its "
            "calibration takes durations, which a registry does not keep. "
            "Give a higher false-accept rate, or"
        )
    llr = math.log(num_voices / far)
    threshold = (llr - calibration.offset) / calibration.slope
    notes = list(calibration.notes)
    if threshold >= 1:
        notes.append(
            f"No cosine is above {threshold:.3g}, so everybody is rejected: "
            "the model does not tell speakers apart as well as that. Give a "
            "higher false-accept rate, or recordings of people who are not "
            "enrolled (speechbrain-attn speakers cohort), which need no bound."
        )
    return Rule(
        threshold,
        f"a log-likelihood ratio of ln({num_voices:,} / {far:g}) = "
        f"{llr:.2f} by the model's calibration: a bound that holds for "
        f"{like}, if they follow it that far",
        notes,
    )
