"""Cosine scores of trials, a block at a time."""

from speechbrain_attn.scoring.rows import (
    checked_embeddings,
    pair_products,
    trial_rows,
    unit_rows,
)


def cosine_scores(embeddings, enrol, test, block=1024):
    """Cosine of the angle between the two embeddings of each trial.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [rows, embedding_size].
    enrol, test : numpy.ndarray
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
    >>> import numpy as np
    >>> cosine_scores(np.array([[3, 0], [1, 1], [0, 5]]), [0, 0], [1, 2])
    array([0.70710677, 0.        ], dtype=float32)
    """
    embeddings = checked_embeddings(embeddings)
    enrol, test = trial_rows(enrol, test, len(embeddings))
    return pair_products(unit_rows(embeddings), enrol, test, block)
