"""Rows of embeddings: what is refused, unit length, products of pairs."""

import numpy as np

from speechbrain_attn.errors import AttnError

# Rows at a time where embeddings are copied: 1.6 MB at size 192 in float64,
# which stay in the cache.
ROWS = 1024
NO_DIRECTION = "so it has no direction to compare"


def blocks(num_rows, block=ROWS):
    """Slices that cover ``num_rows`` rows, ``block`` at a time."""
    for start in range(0, num_rows, block):
        yield slice(start, min(start + block, num_rows))


def checked_embeddings(embeddings, name="embeddings"):
    """Embeddings as an array [rows, embedding_size]; not copied."""
    if not isinstance(embeddings, np.ndarray):
        embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2:
        raise AttnError(
            f"{name}: want [utterances, embedding_size], got "
            f"{embeddings.shape}."
        )
    return embeddings


def same_size(embeddings, size, name, other):
    """Check that embeddings have the size of what they are compared with."""
    if embeddings.shape[1] != size:
        raise AttnError(
            f"{name}: have size {embeddings.shape[1]}, but {other} has size "
            f"{size}. Are both from the same model?"
        )


def unit_rows(embeddings, name="embeddings", first=0):
    """Embeddings as float32 rows of length one.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [rows, embedding_size].
    name : str
        What messages call them.
    first : int
        Number of the first row, for messages, where these are a part.

    Returns
    -------
    numpy.ndarray
        [rows, embedding_size] float32.

    Raises
    ------
    AttnError
        A row is zero or not finite; the message names it.
    """
    unit = np.empty(embeddings.shape, dtype=np.float32)
    for part in blocks(len(unit)):
        # float64 for the norm: squares of float32 overflow above 1e19.
        rows = embeddings[part].astype(np.float64)
        norms = np.sqrt(np.einsum("re,re->r", rows, rows))
        bad = without_direction(norms)
        if len(bad):
            raise AttnError(
                f"{name}: row {first + part.start + bad[0]} has norm "
                f"{norms[bad[0]]}, {NO_DIRECTION}; was its utterance empty, or "
                "the network not trained?"
            )
        rows *= (1 / norms)[:, None]
        unit[part] = rows
    return unit


def row_lengths(embeddings):
    """Lengths of the rows, [rows] float64, however many a store has."""
    lengths = np.empty(len(embeddings))
    for part in blocks(len(lengths)):
        # float64: squares of float32 overflow above 1e19.
        rows = embeddings[part].astype(np.float64)
        lengths[part] = np.linalg.norm(rows, axis=1)
    return lengths


def without_direction(lengths):
    """Rows whose embedding is zero or not finite, by their lengths."""
    return np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))


def trial_rows(enrol, test, num_rows):
    """Checked rows of both sides of trials, [trials] each."""
    enrol = _index(enrol, "enrol", num_rows)
    test = _index(test, "test", num_rows)
    if len(enrol) != len(test):
        raise AttnError(
            f"want a test for each enrolment, got {len(enrol)} enrolments "
            f"and {len(test)} tests."
        )
    return enrol, test


def _index(index, name, num_rows):
    """A checked index array, [trials]."""
    index = np.asarray(index)
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise AttnError(
            f"{name}: want [trials] integers, got {index.dtype} of shape "
            f"{index.shape}."
        )
    if len(index) and not (0 <= index.min() and index.max() < num_rows):
        bad = np.flatnonzero((index < 0) | (index >= num_rows))[0]
        raise AttnError(
            f"{name}: trial {bad} names row {index[bad]} of {num_rows} "
            "embeddings."
        )
    return index


def pair_products(vectors, enrol, test, block):
    """Dot product of the two vectors of each trial, [trials].

    Two buffers of ``block`` rows are all the memory that it takes beside the
    result: gathered rows that stay in the cache are read from it.
    """
    products = np.empty(len(enrol), dtype=vectors.dtype)
    shape = (min(block, len(products)), vectors.shape[1])
    left, right = np.empty((2, *shape), dtype=vectors.dtype)
    for part in blocks(len(products), block):
        out = products[part]
        one, other = left[: len(out)], right[: len(out)]
        # mode: by default numpy fills another buffer first and copies it.
        np.take(vectors, enrol[part], axis=0, out=one, mode="clip")
        np.take(vectors, test[part], axis=0, out=other, mode="clip")
        np.einsum("te,te->t", one, other, out=out)
    return products
