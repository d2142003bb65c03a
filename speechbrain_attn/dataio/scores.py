"""Scores of trials in SpeechBrain's text format, ``scores.txt``."""

import itertools

import numpy as np

from speechbrain_attn.dataio.manifest import csv_lines, write_together
from speechbrain_attn.dataio.trial_formats import read_columns
from speechbrain_attn.dataio.trials import trials_from_columns
from speechbrain_attn.errors import AttnError

_BLOCK = 1 << 16  # trials


def write_scores(path, trials, scores):
    """Write ``enrolment test label score`` for each trial.

    The score has six decimals, as SpeechBrain writes it. The file appears
    whole or not at all.

    Arguments
    ---------
    path : str or Path
    trials : Trials
    scores : numpy.ndarray
        [trials], finite.

    Raises
    ------
    AttnError
        The scores do not fit the trials or are not finite, or the file cannot
        be written.

    Example
    -------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from speechbrain_attn.dataio.trials import trials_from_file
    >>> folder = Path(tempfile.mkdtemp())
    >>> text = "1 a/1.wav a/2.wav\\n0 a/1.wav b/1.wav\\n"
    >>> _ = (folder / "trials.txt").write_text(text)
    >>> trials = trials_from_file(folder / "trials.txt")
    >>> write_scores(folder / "scores.txt", trials, [0.75, -0.5])
    >>> print((folder / "scores.txt").read_text(), end="")
    a/1 a/2 1 0.750000
    a/1 b/1 0 -0.500000
    >>> read_scores(folder / "scores.txt")[1]
    array([ 0.75, -0.5 ])
    """
    scores = np.asarray(scores)
    if scores.shape != (len(trials),):
        raise AttnError(
            f"scores: want one for each of the {len(trials):,} trials of "
            f"{trials.path}, got an array of shape {scores.shape}."
        )
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        names = trials.names
        raise AttnError(
            f"scores: {scores[bad[0]]} for {trials.path} line {bad[0] + 1} "
            f"({names[trials.enrol[bad[0]]]} and "
            f"{names[trials.test[bad[0]]]}), and so {len(bad):,} of "
            f"{len(scores):,}; want finite ones."
        )
    write_together(
        {path: map("%s %s %d %.6f\n".__mod__, _rows(trials, scores))}
    )


def write_decisions(path, trials, scores, llrs, p_target, posteriors, accepted):
    """Write a CSV file with what was decided on each trial, and by what.

    Its columns are ``enrolment``, ``test``, ``label`` and ``score`` as in
    ``scores.txt``, ``llr`` (natural log), ``posterior_at_<p_target>`` and
    ``same_speaker`` (0 or 1). The file appears whole or not at all.

    Arguments
    ---------
    path : str or Path
    trials : Trials
    scores, llrs, posteriors : numpy.ndarray
        [trials].
    p_target : float
        Prior of the posteriors.
    accepted : numpy.ndarray
        [trials] bool.

    Raises
    ------
    AttnError
        The file cannot be written.
    """
    head = ("enrolment", "test", "label", "score", "llr")
    head += (f"posterior_at_{p_target:g}", "same_speaker")
    rows = (
        (*trial, f"{score:.6f}", f"{llr:.6f}", f"{posterior:.6g}", int(same))
        for *trial, score, llr, posterior, same in _rows(
            trials, scores, llrs, posteriors, accepted
        )
    )
    write_together({path: csv_lines(itertools.chain([head], rows))})


def _rows(trials, *columns):
    """Yield names, label and further columns of each trial."""
    name_of = trials.names.__getitem__
    for start in range(0, len(trials), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield from zip(
            map(name_of, trials.enrol[part].tolist()),
            map(name_of, trials.test[part].tolist()),
            trials.labels[part].astype(int).tolist(),
            *(column[part].tolist() for column in columns),
            strict=True,
        )


def read_scores(path, enrol_map=None):
    """Read the trials and scores of a ``scores.txt``.

    Arguments
    ---------
    path : str or Path
        Lines ``enrolment test label score``, plain or gzip.
    enrol_map : str or Path or None
        As in ``trials_from_file``.

    Returns
    -------
    trials : Trials
    scores : numpy.ndarray
        [trials] float64.

    Raises
    ------
    AttnError
        As ``trials_from_file`` does, or a score is missing or not finite.
    """
    columns = read_columns(path, "score file")
    if columns.scores is None:
        raise AttnError(
            f'{path} line 1: want "enrolment test label score", got 3 fields; '
            "a trial list without scores is read by trials_from_file."
        )
    trials = trials_from_columns(path, columns, enrol_map)
    return trials, columns.scores
