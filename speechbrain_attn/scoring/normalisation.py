"""Scores relative to a cohort of other speakers.

A raw score s of enrolment e and test t becomes (s - mean) / std, where mean
and standard deviation are those of the scores of one side against a cohort:
of e (z-norm), of t (t-norm), or the half sum of both (s-norm). Adaptive s-norm
(Matejka et al., Interspeech 2017) takes for each side its highest cohort
scores only. A side's statistics do not depend on the trial, so that they are
computed once for each row of the embeddings.
"""

import logging
from typing import NamedTuple

import numpy as np
from scipy import sparse

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.rows import (
    blocks,
    checked_embeddings,
    same_size,
    trial_rows,
    unit_rows,
)

logger = logging.getLogger(__name__)

# Cohort scores at a time: 8 MB, which stay in the cache while they are sorted.
BLOCK_SCORES = 2**21


class CohortStatistics(NamedTuple):
    """Cohort scores of each row of the embeddings, summed up.

    Arguments
    ---------
    means, stds : numpy.ndarray
        [rows] float32: mean and standard deviation (with ``n - 1``, as in
        SpeechBrain's script) of the row's cosines with the cohort.
    """

    means: np.ndarray
    stds: np.ndarray


def cohort_statistics(embeddings, cohort, top=None):
    """Mean and deviation of the cosines of each row with a cohort.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [rows, embedding_size].
    cohort : numpy.ndarray
        [cohort_size, embedding_size]: embeddings of utterances, or of
        speakers (``speaker_means``), best of speakers who are in no trial
        (``shared_speakers``). Its order has no say.
    top : int
        Take the so many highest cosines of each row, which makes s-norm
        adaptive; None takes all.

    Returns
    -------
    CohortStatistics

    Raises
    ------
    AttnError
        Shapes do not fit, an embedding is zero or not finite, ``top`` is not
        in [2, cohort_size], or the cosines of a row are all the same.

    Example
    -------
    >>> cohort = np.array([[1, 0], [0, 1], [-1, 0]])
    >>> cohort_statistics(np.array([[2.0, 0.0]]), cohort)
    CohortStatistics(means=array([0.], dtype=float32), \
stds=array([1.], dtype=float32))
    """
    embeddings = checked_embeddings(embeddings)
    cohort = checked_embeddings(cohort, "cohort")
    same_size(cohort, embeddings.shape[1], "cohort", "a trial's embedding")
    size = len(cohort)
    top = size if top is None else top
    if size < 2:
        raise AttnError(f"cohort: want at least 2 embeddings, got {size}.")
    if not 2 <= top <= size:
        raise AttnError(
            f"want the top 2 to {size:,} of a cohort of {size:,}, got {top}."
        )
    cohort = unit_rows(cohort, "cohort").T
    means, stds = np.empty((2, len(embeddings)), dtype=np.float32)
    for part in blocks(len(embeddings), max(16, BLOCK_SCORES // size)):
        scores = unit_rows(embeddings[part], first=part.start) @ cohort
        if top < size:
            scores.partition(size - top, axis=1)
            scores = scores[:, size - top :]
        means[part] = scores.mean(axis=1)
        stds[part] = scores.std(axis=1, ddof=1)
    # Cosines are rounded to about 1e-7.
    flat = np.flatnonzero(stds < 1e-6)
    if len(flat):
        raise AttnError(
            f"row {flat[0]} has nearly the same cosine, {means[flat[0]]:.6f}, "
            f"with all {top:,} of the cohort; is the cohort one utterance "
            "repeated?"
        )
    return CohortStatistics(means, stds)


def z_norm(scores, statistics, enrol):
    """Scores relative to the cohort scores of their enrolment, [trials].

    Arguments
    ---------
    scores : numpy.ndarray
        [trials], cosines.
    statistics : CohortStatistics
        Of the embeddings that the trials are among.
    enrol : numpy.ndarray
        [trials] integers, rows of those embeddings.

    Returns
    -------
    numpy.ndarray
        [trials] float32, in standard deviations.

    Raises
    ------
    AttnError
        Shapes do not fit or an index lies outside.

    Example
    -------
    >>> z_norm([0.5], CohortStatistics(np.array([0.1]), np.array([0.2])), [0])
    array([2.], dtype=float32)
    """
    return _half_sum(scores, statistics, enrol, enrol)


def t_norm(scores, statistics, test):
    """Scores relative to the cohort scores of their test, [trials].

    As ``z_norm``, with the rows of the test side.
    """
    return _half_sum(scores, statistics, test, test)


def s_norm(scores, statistics, enrol, test):
    """Half sum of z-norm and t-norm, [trials]; symmetric in the two sides.

    As ``z_norm``, with the rows of both sides. With the statistics of the
    highest cohort scores this is adaptive s-norm.
    """
    return _half_sum(scores, statistics, enrol, test)


def _half_sum(scores, statistics, enrol, test):
    """Half the sum of the scores relative to each of two rows."""
    means, stds = statistics
    enrol, test = trial_rows(enrol, test, len(means))
    scores = np.asarray(scores, dtype=np.float32)
    if scores.shape != enrol.shape:
        raise AttnError(
            f"scores: want one for each of {len(enrol):,} trials, got shape "
            f"{scores.shape}."
        )
    normalised = np.empty_like(scores)
    for part in blocks(len(scores), 2**16):
        raw, one, other = scores[part], enrol[part], test[part]
        normalised[part] = 0.5 * (
            (raw - means[one]) / stds[one] + (raw - means[other]) / stds[other]
        )
    return normalised


def speaker_means(embeddings, speakers):
    """Mean of the unit-length embeddings of each speaker.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [utterances, embedding_size].
    speakers : list or numpy.ndarray
        [utterances], a name or number each.

    Returns
    -------
    numpy.ndarray
        [speakers, embedding_size] float32, in the order of
        ``numpy.unique(speakers)``.

    Raises
    ------
    AttnError
        There is not one speaker for each row, or an embedding is zero or not
        finite.

    Example
    -------
    >>> speaker_means(np.array([[0, 9], [1, 0], [4, 0]]), ["b", "a", "a"])
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    embeddings = checked_embeddings(embeddings)
    _, numbers, counts = unique_speakers(speakers, len(embeddings))
    # A sparse matrix [speakers, utterances] of 1 / count: one product.
    utterances = np.arange(len(numbers))
    weights = (1 / counts[numbers]).astype(np.float32)
    average = sparse.csr_array((weights, (numbers, utterances)))
    return average @ unit_rows(embeddings)


def unique_speakers(speakers, num_utterances):
    """Names once, then a number for each utterance, then how many it has."""
    speakers = np.asarray(speakers)
    if speakers.shape != (num_utterances,):
        raise AttnError(
            f"speakers: want one for each of {num_utterances:,} embeddings, "
            f"got shape {speakers.shape}."
        )
    return np.unique(speakers, return_inverse=True, return_counts=True)


def subtract_mean(embeddings, reference):
    """Embeddings less the mean of a reference set, best the cohort.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [rows, embedding_size].
    reference : numpy.ndarray
        [utterances, embedding_size], of the same model. Subtract its mean
        from the cohort too where that is used.

    Returns
    -------
    numpy.ndarray
        [rows, embedding_size] float32.

    Raises
    ------
    AttnError
        Shapes do not fit.

    Example
    -------
    >>> subtract_mean(np.array([[3, 1]]), np.array([[1, 0], [3, 0]]))
    array([[1., 1.]], dtype=float32)
    """
    embeddings = checked_embeddings(embeddings)
    reference = checked_embeddings(reference, "reference")
    same_size(reference, embeddings.shape[1], "reference", "an embedding")
    mean = reference.mean(axis=0, dtype=np.float64)
    centred = np.empty(embeddings.shape, dtype=np.float32)
    np.subtract(embeddings, mean, out=centred, casting="same_kind")
    return centred


def shared_speakers(cohort_speakers, trial_speakers):
    """Speakers who are in the cohort and in a trial; warns if there are any.

    A speaker of the cohort raises their own cohort scores, so that their
    trials look harder than those of others.

    Arguments
    ---------
    cohort_speakers, trial_speakers : iterable
        Names (of one corpus, where two corpora share names by chance).

    Returns
    -------
    list
        The shared names, sorted.

    Example
    -------
    >>> shared_speakers(["id1", "id2"], ["id3", "id4"])
    []
    """
    shared = sorted(set(cohort_speakers) & set(trial_speakers))
    if shared:
        named = ", ".join(map(str, shared[:3]))
        logger.warning(
            "cohort and trials share %d speakers (%s%s): normalised scores "
            "of their trials come out too low. Take a cohort of others.",
            len(shared),
            named,
            ", ..." if len(shared) > 3 else "",
        )
    return shared
