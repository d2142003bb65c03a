"""Confidence intervals of metrics, by drawing speakers again.

The trials of a speaker share a voice, so they are not independent: what is
drawn again, with replacement, is speakers. Where speaker s is drawn c_s times,
a target trial of s weighs c_s and a nontarget trial of a and b weighs c_a c_b.
``intervals`` tells what is made of the draws.
"""

import itertools
import numbers
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.intervals import (
    Drawn,
    Interval,
    interval_of,
    largest,
    scale_of,
)
from speechbrain_attn.scoring.metrics import checked
from speechbrain_attn.scoring.weighted_metrics import weighted_metrics

METRICS = ("eer", "min_dcf_0.01", "auc")
MOST_LEFT_OUT = 300  # one by one; of more speakers, so many tell the tails


class Comparison(NamedTuple):
    """A metric of system A minus that of system B, and divided by it."""

    difference: Interval
    ratio: Interval


def bootstrap(
    scores,
    labels,
    enrol_speakers,
    test_speakers,
    metrics=METRICS,
    replicates=1000,
    level=0.95,
    seed=0,
):
    """Metrics of one system with confidence intervals.

    Arguments
    ---------
    scores, labels : array or tensor
        [trials] each, as for ``metrics.eer``.
    enrol_speakers, test_speakers : array
        [trials] each, numbers or names of the speakers of both sides.
    metrics : sequence of str
        Any of ``eer``, ``auc``, ``min_cllr``, ``min_dcf_<p_target>`` (costs
        of 1, normalised) and, of scores that are natural log-likelihood
        ratios, ``cllr`` and ``act_dcf_<p_target>``.
    replicates : int
        Draws of the speakers, at least 2.
    level : float
        Probability that an interval holds the figure of all speakers of whom
        these are a sample, in (0, 1).
    seed : int
        Of the draws.

    Returns
    -------
    dict
        Metric to Interval. Where no draw changes the value, as on a list that
        is separated without an error, the interval has width zero: such a
        list says nothing of the errors that a longer one would have.

    Raises
    ------
    AttnError
        As ``metrics.eer``; speakers contradict labels; a metric is not known
        or a setting lies outside its range.

    Example
    -------
    >>> scores, labels = [0.9, 0.4, 0.8, 0.6, 0.1, 0.3], [1, 1, 1, 0, 0, 0]
    >>> enrol, test = list("abcabc"), list("abcbca")
    >>> interval = bootstrap(scores, labels, enrol, test, ["eer"])["eer"]
    >>> round(interval.value, 3), interval.low < interval.high
    (0.333, True)
    """
    trials = SpeakerTrials(labels, enrol_speakers, test_speakers)
    drawn = trials.draw(scores, metrics, replicates, seed)
    return trials.intervals(drawn, level)


def paired_bootstrap(
    scores_a,
    scores_b,
    labels,
    enrol_speakers,
    test_speakers,
    metrics=METRICS,
    replicates=1000,
    level=0.95,
    seed=0,
):
    """Compare two systems on the same trials, with the same draws for both.

    What is hard in a list is hard for both, so that the interval of the
    difference is narrower than the intervals of the two suggest.

    Arguments
    ---------
    scores_a, scores_b : array or tensor
        [trials] each, of the same trials in the same order.
    labels, enrol_speakers, test_speakers, metrics, replicates, level, seed
        As for ``bootstrap``.

    Returns
    -------
    dict
        Metric to Comparison: A minus B, and A over B. The systems differ at
        this level where the interval of the difference leaves out 0. Where one
        of them makes no error, be it in a draw, half an error is added to all
        figures of both for the ratio.

    Raises
    ------
    AttnError
        As ``bootstrap``.

    Example
    -------
    >>> labels, enrol, test = [1, 1, 1, 0, 0, 0], list("abcabc"), list("abcbca")
    >>> a, b = [0.9, 0.4, 0.8, 0.6, 0.1, 0.3], [0.9, 0.2, 0.2, 0.6, 0.1, 0.3]
    >>> compared = paired_bootstrap(a, b, labels, enrol, test, ["eer"])
    >>> compared["eer"].ratio.value
    0.5
    """
    trials = SpeakerTrials(labels, enrol_speakers, test_speakers)
    both = (
        trials.draw(scores, metrics, replicates, seed)
        for scores in (scores_a, scores_b)
    )
    return trials.comparisons(*both, level)


class SpeakerTrials:
    """Trials whose speakers can be drawn again.

    Arguments
    ---------
    labels : array or tensor
        [trials], 1 or True for targets.
    enrol_speakers, test_speakers : array
        [trials] each, numbers or names of the speakers of both sides.

    Raises
    ------
    AttnError
        Shapes differ; there are not both kinds of trial; or speakers and
        labels contradict each other.
    """

    def __init__(self, labels, enrol_speakers, test_speakers):
        enrol, test = np.asarray(enrol_speakers), np.asarray(test_speakers)
        # Any scores do: what is checked are the labels.
        _, self.labels = checked(np.zeros(np.shape(labels)), labels)
        if not enrol.shape == test.shape == self.labels.shape:
            raise AttnError(
                "labels, enrol_speakers and test_speakers: want [trials] three "
                f"times, got shapes {self.labels.shape}, {enrol.shape} and "
                f"{test.shape}."
            )
        bad = np.flatnonzero((enrol == test) != self.labels)
        if len(bad):
            kind = "target" if self.labels[bad[0]] else "nontarget"
            raise AttnError(
                f"speakers: {len(bad):,} of {len(enrol):,} trials contradict "
                f"their labels; trial {bad[0]} is a {kind} of "
                f"{enrol[bad[0]]!s} and {test[bad[0]]!s}. Are the speakers "
                "those of the trials, in their order?"
            )
        names, rows = np.unique([enrol, test], return_inverse=True)
        self.num_speakers = len(names)
        self.enrol, self.test = rows.reshape(2, -1)

    def draw(self, scores, metrics=METRICS, replicates=1000, seed=0):
        """Metrics of the trials, of draws of their speakers, without each.

        Arguments
        ---------
        scores, metrics, replicates, seed
            As for ``bootstrap``. What is drawn hangs on the seed and not on
            the scores: the same for every system.

        Returns
        -------
        dict
            Metric to Drawn.

        Raises
        ------
        AttnError
            As ``bootstrap``.
        """
        scores, labels = checked(scores, self.labels)
        order = np.argsort(scores)
        of_target, of_nontarget = order[labels[order]], order[~labels[order]]
        measure = weighted_metrics(
            metrics, scores[of_target], scores[of_nontarget]
        )
        speaker = self.enrol[of_target]
        first, second = self.enrol[of_nontarget], self.test[of_nontarget]
        figures = np.array(
            [
                measure(times[speaker], times[first] * times[second])
                for times in itertools.chain(
                    self.times_drawn(replicates, seed), self._times_left_out()
                )
            ]
        )
        return {
            metric: Drawn(*np.split(column, [1, 1 + replicates]))
            for metric, column in zip(metrics, figures.T, strict=True)
        }

    def times_drawn(self, replicates, seed=0):
        """Yield how often each speaker counts, int64 [speakers].

        Once each at first, which gives the trials as they are; then as often
        as the speaker is drawn.

        Raises
        ------
        AttnError
            ``replicates`` is below 2 or no whole number.
        """
        if not isinstance(replicates, numbers.Integral) or replicates < 2:
            raise AttnError(
                "replicates: want a whole number of at least 2, got "
                f"{replicates!r}."
            )
        yield np.ones(self.num_speakers, dtype=np.int64)
        generator = np.random.default_rng(seed)
        chances = np.full(self.num_speakers, 1 / self.num_speakers)
        while replicates:
            times = generator.multinomial(self.num_speakers, chances)
            # A draw of few speakers can leave no trial of a kind: draw again.
            if self._both_kinds(times):
                yield times
                replicates -= 1

    def _times_left_out(self):
        """Yield the same without one speaker, for each or for many."""
        speakers = np.arange(self.num_speakers)
        if len(speakers) > MOST_LEFT_OUT:
            generator = np.random.default_rng(0)
            speakers = generator.choice(speakers, MOST_LEFT_OUT, replace=False)
        for speaker in speakers:
            times = np.ones(self.num_speakers, dtype=np.int64)
            times[speaker] = 0
            if self._both_kinds(times):
                yield times

    def _both_kinds(self, times):
        """Whether trials of both kinds are left."""
        (speaker, _), (first, second) = self._pairs
        return times[speaker].any() and (times[first] * times[second]).any()

    @cached_property
    def _pairs(self):
        """Speakers of both sides, each pair once: of targets, of nontargets."""
        pairs = np.unique(self.enrol * self.num_speakers + self.test)
        pairs = np.stack(np.divmod(pairs, self.num_speakers))
        same = pairs[0] == pairs[1]
        return pairs[:, same], pairs[:, ~same]

    def intervals(self, drawn, level=0.95):
        """Intervals of what ``draw`` returned, as ``bootstrap`` does."""
        return {
            metric: interval_of(
                figures,
                self.num_speakers,
                level,
                *scale_of(metric, self._unit(metric)),
            )
            for metric, figures in drawn.items()
        }

    def comparisons(self, drawn_a, drawn_b, level=0.95):
        """Comparisons of two such, as ``paired_bootstrap`` does.

        Both drawn with the same metrics, replicates and seed.
        """
        compared, count = {}, self.num_speakers
        for metric, a in drawn_a.items():
            b, most = drawn_b[metric], largest(metric)
            pairs = list(zip(a, b, strict=True))
            least = min(np.concatenate(drawn).min() for drawn in (a, b))
            half = self._unit(metric) / 2 if least == 0 else 0.0
            difference = Drawn(*(one - other for one, other in pairs))
            log_ratio = Drawn(
                *(np.log((one + half) / (other + half)) for one, other in pairs)
            )
            ratio = np.exp(interval_of(log_ratio, count, level))
            if a.value > 0 and b.value > 0:
                # The half units moved the interval, perhaps off this value.
                value = (a.value / b.value).item()
                low, high = min(ratio[1], value), max(ratio[2], value)
                ratio = np.array([value, low, high])
            compared[metric] = Comparison(
                difference=interval_of(
                    difference,
                    count,
                    level,
                    back=partial(np.clip, a_min=-most, a_max=most),
                ),
                ratio=Interval(*ratio.tolist()),
            )
        return compared

    def _unit(self, metric):
        """The least step of a rate: one trial, or one pair of them for AUC."""
        targets = np.count_nonzero(self.labels)
        nontargets = len(self.labels) - targets
        if metric == "auc":
            return 1 / (targets * nontargets)
        return 1 / min(targets, nontargets)
