"""Every scoring of a trial list that a cohort and a back end allow."""

import dataclasses
from typing import NamedTuple

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.fusion import Fusion, quality_measures
from speechbrain_attn.scoring.normalisation import (
    cohort_statistics,
    s_norm,
    subtract_mean,
    t_norm,
    z_norm,
)
from speechbrain_attn.scoring.plda import PLDABackend
from speechbrain_attn.scoring.rows import unit_rows

TITLES = {
    "cosine": "cosine",
    "centred": "cosine, mean subtracted",
    "z-norm": "z-norm",
    "t-norm": "t-norm",
    "s-norm": "s-norm",
    "as-norm": "adaptive s-norm",
    "plda": "LDA + PLDA",
    "fusion": "fusion",
}
# Lengths that differ by less than this part are those of unit vectors.
_SAME_LENGTH = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class TrialEmbeddings:
    """Embeddings of the rows of a trial list, and what is known of them.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [rows, embedding_size].
    enrol, test : numpy.ndarray
        [trials] integers, rows.
    labels : numpy.ndarray
        [trials] bool.
    speakers : numpy.ndarray
        [rows], numbers or names.
    norms : numpy.ndarray
        [rows], lengths of the embeddings; of a model, the mean of those of
        its utterances.
    durations : numpy.ndarray or None
        [rows], seconds; None where they are not known.
    """

    embeddings: np.ndarray
    enrol: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    norms: np.ndarray
    durations: np.ndarray | None = None

    @property
    def trial_speakers(self):
        """Speakers of both sides of each trial, [trials] each."""
        return self.speakers[self.enrol], self.speakers[self.test]

    @property
    def trial_durations(self):
        """Seconds of both sides of each trial, [trials, 2], or None."""
        if self.durations is None:
            return None
        return self.durations[np.column_stack([self.enrol, self.test])]

    def quality(self):
        """What tells the quality of the rows: name to [rows]."""
        found = {}
        if self.durations is not None:
            found["durations"] = self.durations
        if np.ptp(self.norms) > _SAME_LENGTH * self.norms.max():
            found["norms"] = self.norms
        return found


class Backend(NamedTuple):
    """What scores are made with beside the embeddings.

    ``cohort`` [cohort_size, embedding_size] or None, ``top`` of its scores
    for adaptive s-norm, ``plda``, a PLDABackend or None, and ``cohort_said``,
    which tells the cohort from others.
    """

    cohort: np.ndarray | None = None
    top: int = 300
    plda: PLDABackend | None = None
    cohort_said: str | None = None

    def made_with(self, scoring):
        """What tells the scores of a scoring from those of another backend.

        None where nothing does: of cosines and of a fusion, and where cohort
        or PLDA do not say what they are.
        """
        if scoring == "plda":
            return self.plda.trained_on
        if scoring in ("cosine", "fusion") or self.cohort_said is None:
            return None
        if scoring == "as-norm":
            return f"the top {self.top:,} of {self.cohort_said}"
        return self.cohort_said

    @property
    def scorings(self):
        """Those that can be had, fusion apart, in the order of ``TITLES``."""
        names = ["cosine"]
        if self.cohort is not None:
            names += ["centred", "z-norm", "t-norm", "s-norm"]
            if self.top < len(self.cohort):
                names.append("as-norm")
        if self.plda is not None:
            names.append("plda")
        return names


class Scores(NamedTuple):
    """Name of a scoring to its scores [trials], and quality of the rows.

    ``quality`` is what ``quality_measures`` takes: name to [rows].
    """

    of: dict
    quality: dict


def score_trials(data, backend, scoring="cosine"):
    """Score the trials in every way.

    Arguments
    ---------
    data : TrialEmbeddings
    backend : Backend
    scoring : str
        One of ``TITLES``; z-norm and t-norm are made only if it names them.

    Returns
    -------
    Scores

    Raises
    ------
    AttnError
        ``scoring`` cannot be had, or as the scorings raise.

    Example
    -------
    >>> speakers = np.array([0, 0, 1])
    >>> rows = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 5.0]])
    >>> data = TrialEmbeddings(
    ...     rows, np.array([0, 0]), np.array([1, 2]), np.array([True, False]),
    ...     speakers, norms=np.array([3.0, 1.0, 5.0]),
    ... )
    >>> score_trials(data, Backend()).of
    {'cosine': array([1., 0.], dtype=float32)}
    """
    names = backend.scorings
    if scoring not in (*names, "fusion"):
        raise AttnError(
            f"scoring: {scoring} cannot be had, only {', '.join(names)}; "
            "adaptive s-norm wants a cohort larger than its cohort_top "
            f"({backend.top})."
        )
    sides = data.enrol, data.test
    cosines = cosine_scores(data.embeddings, *sides)
    quality, made = data.quality(), {"cosine": cosines}
    if backend.cohort is not None:
        # Unit length: a cohort of speaker means has another scale than the
        # embeddings, and its mean would move them by next to nothing.
        centred = subtract_mean(
            unit_rows(data.embeddings), unit_rows(backend.cohort, "cohort")
        )
        made["centred"] = cosine_scores(centred, *sides)
        whole = cohort_statistics(data.embeddings, backend.cohort)
        if scoring == "z-norm":
            made["z-norm"] = z_norm(cosines, whole, data.enrol)
        if scoring == "t-norm":
            made["t-norm"] = t_norm(cosines, whole, data.test)
        made["s-norm"] = s_norm(cosines, whole, *sides)
        quality["cohort_means"] = whole.means
        if "as-norm" in names:
            highest = cohort_statistics(
                data.embeddings, backend.cohort, backend.top
            )
            made["as-norm"] = s_norm(cosines, highest, *sides)
            quality["cohort_means"] = highest.means
    if backend.plda is not None:
        made["plda"] = backend.plda.scores(data.embeddings, *sides)
    return Scores(made, quality)


def fuse(data, scores, development, development_scores, trial_list=""):
    """Fuse scores and quality, learnt on a development list.

    What goes in is the most normalised cosine, PLDA where there is one, and
    the quality that is known of both lists.

    Arguments
    ---------
    data, development : TrialEmbeddings
    scores, development_scores : Scores
        Their ``of`` gains "fusion": log-likelihood ratios.
    trial_list : str
        Name of the development list.

    Returns
    -------
    Fusion

    Raises
    ------
    AttnError
        As ``Fusion.fit``.
    """
    known = scores.quality.keys() & development_scores.quality.keys()
    inputs = [
        _fusion_inputs(*pair, known)
        for pair in ((data, scores), (development, development_scores))
    ]
    fusion = Fusion.fit(inputs[1], development.labels, trial_list=trial_list)
    scores.of["fusion"] = fusion.llr(inputs[0])
    development_scores.of["fusion"] = fusion.llr(inputs[1])
    return fusion


def _fusion_inputs(data, scores, known):
    cosines = ("as-norm", "s-norm", "cosine")
    best = next(name for name in cosines if name in scores.of)
    inputs = {
        name: scores.of[name] for name in (best, "plda") if name in scores.of
    }
    quality = {name: scores.quality[name] for name in known}
    return {**inputs, **quality_measures(data.enrol, data.test, **quality)}
