"""Cosine scores against the definition, and what is refused."""

import numpy as np
import pytest

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.cosine import cosine_scores


def drawn(num_trials):
    generator = np.random.default_rng(0)
    embeddings = generator.normal(2.0, 3.0, (13, 7)).astype(np.float32)
    enrol, test = generator.integers(0, 13, (2, num_trials))
    return embeddings, enrol, test


@pytest.mark.parametrize("block", [1, 5, 100, 4096])
def test_scores_are_cosines_in_the_order_of_trials(block):
    embeddings, enrol, test = drawn(101)
    scores = cosine_scores(embeddings, enrol, test, block)
    exact = embeddings.astype(np.float64)
    for score, one, other in zip(scores, enrol, test, strict=True):
        a, b = exact[one], exact[other]
        cosine = a @ b / np.sqrt((a @ a) * (b @ b))
        assert score == pytest.approx(cosine, abs=1e-6)  # float32
    assert scores.dtype == np.float32


def test_length_has_no_say():
    embeddings, enrol, test = drawn(101)
    scale = np.float32([1e-30, 1e30, *[3.0] * 11])[:, None]
    scaled = cosine_scores(embeddings * scale, enrol, test)
    plain = cosine_scores(embeddings, enrol, test)
    np.testing.assert_allclose(scaled, plain, rtol=0, atol=1e-6)


def test_no_trial_gives_no_score():
    empty = np.zeros(0, dtype=np.int32)
    assert cosine_scores(np.ones((2, 3)), empty, empty).shape == (0,)


GOOD = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 5.0]])


def with_row(row):
    return np.array([GOOD[0], row, GOOD[2]])


# fmt: off
BAD = [  # id, embeddings, enrolments, tests, what the message must say
    ("zero", with_row([0.0, 0.0]), [0], [2], r"row 1 has norm 0.0"),
    ("nan", with_row([np.nan, 0.0]), [0], [2], r"row 1 has norm nan"),
    ("flat", GOOD[0], [0], [1], r"want \[utterances, .*got \(2,\)"),
    ("table", GOOD, [[0]], [[1]], r"enrol: want \[trials\] .*shape \(1, 1\)"),
    ("no_pair", GOOD, [0, 1], [1], r"got 2 enrolments and 1 tests"),
    ("outside", GOOD, [0, 1], [1, 3], r"test: trial 1 names row 3 of 3"),
    ("negative", GOOD, [-1], [1], r"enrol: trial 0 names row -1 of 3"),
    ("float", GOOD, [0.0], [1], r"enrol: .*got float64"),
]
# fmt: on


@pytest.mark.parametrize(
    "embeddings, enrol, test, says",
    [pytest.param(*row[1:], id=row[0]) for row in BAD],
)
def test_bad_input_is_refused(embeddings, enrol, test, says):
    with pytest.raises(AttnError, match=says):
        cosine_scores(embeddings, enrol, test)


def test_the_good_input_is_accepted():
    assert cosine_scores(GOOD, [0], [2]).shape == (1,)
