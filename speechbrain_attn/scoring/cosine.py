"""Cosine scores of trials, a block at a time."""

import numpy as np

from speechbrain_attn.errors import AttnError


def cosine_scores(embeddings, enrol_index, test_index, block=4096):
    """Cosine of the angle between the two embeddings of each trial.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [utterances, embedding_size].
    enrol_index, test_index : numpy.ndarray
        [trials] integers, rows of ``embeddings``.
    block : int
        Trials at a time; the default keeps a block within the cache.

    Returns
    -------
    numpy.ndarray
        [trials] float32, in [-1, 1] up to rounding.

    Raises
    ------
    AttnError
        Shapes do not fit, an index lies outside, or an embedding is zero or
        not finite; the message names its row.

    Example
    -------
    >>> cosine_scores(np.array([[3, 0], [1, 1], [0, 5]]), [0, 0], [1, 2])
    array([0.70710677, 0.        ], dtype=float32)
    """
    unit = _unit_rows(np.asarray(embeddings))
    enrol = _rows(enrol_index, "enrol_index", len(unit))
    test = _rows(test_index, "test_index", len(unit))
    if enrol.shape != test.shape:
        raise AttnError(
            f"want a test for each enrolment, got {len(enrol)} enrolments "
            f"and {len(test)} tests."
        )
    scores = np.empty(len(enrol), dtype=np.float32)
    for start in range(0, len(scores), block):
        part = slice(start, start + block)
        np.einsum(
            "te,te->t", unit[enrol[part]], unit[test[part]], out=scores[part]
        )
    return scores


def _unit_rows(embeddings):
    """Embeddings as float32 rows of length one."""
    if embeddings.ndim != 2:
        raise AttnError(
            "embeddings: want [utterances, embedding_size], got "
            f"{embeddings.shape}."
        )
    # float64 for the norm: squares of float32 overflow above 1e19.
    norms = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise AttnError(
            f"embeddings: row {bad[0]} has norm {norms[bad[0]]}, so it has no "
            "direction to compare; was its utterance empty, or the network "
            "not trained?"
        )
    return (embeddings / norms[:, None]).astype(np.float32)


def _rows(index, name, num_rows):
    """A checked index array, [trials]."""
    index = np.asarray(index)
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise AttnError(
            f"{name}: want [trials] integers, got {index.dtype} of shape "
            f"{index.shape}."
        )
    bad = np.flatnonzero((index < 0) | (index >= num_rows))
    if len(bad):
        raise AttnError(
            f"{name}: trial {bad[0]} names row {index[bad[0]]} of "
            f"{num_rows} embeddings."
        )
    return index
