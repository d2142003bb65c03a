"""What must hold of normalised scores for any embeddings."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.normalisation import (
    CohortStatistics,
    cohort_statistics,
    s_norm,
    t_norm,
    z_norm,
)

SEEDS = st.integers(0, 10**6)
once = settings(derandomize=True, deadline=None, max_examples=100)


def drawn(seed, cohort_size):
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(0.5, 1.0, (13, 5)).astype(np.float32)
    cohort = generator.normal(0.5, 1.0, (cohort_size, 5)).astype(np.float32)
    enrol, test = generator.integers(0, 13, (2, 29))
    return embeddings, cohort, enrol, test


@once
@given(SEEDS, st.integers(5, 40), st.data())
def test_the_order_of_the_cohort_has_no_say(seed, cohort_size, data):
    embeddings, cohort, enrol, test = drawn(seed, cohort_size)
    top = data.draw(st.integers(4, cohort_size))
    order = data.draw(st.permutations(range(cohort_size)))
    scores = cosine_scores(embeddings, enrol, test)

    def normalised(others):
        statistics = cohort_statistics(embeddings, others, top)
        return s_norm(scores, statistics, enrol, test)

    np.testing.assert_allclose(
        normalised(cohort[order]), normalised(cohort), rtol=1e-3, atol=1e-3
    )


@once
@given(SEEDS, st.integers(5, 40))
def test_swapping_the_sides_changes_nothing(seed, cohort_size):
    embeddings, cohort, enrol, test = drawn(seed, cohort_size)
    statistics = cohort_statistics(embeddings, cohort)
    scores = cosine_scores(embeddings, enrol, test)
    np.testing.assert_array_equal(
        s_norm(scores, statistics, enrol, test),
        s_norm(scores, statistics, test, enrol),
    )


@once
@given(SEEDS, st.floats(0.1, 10), st.floats(-5, 5))
def test_a_shift_and_scale_of_all_scores_drops_out(seed, scale, shift):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=29)
    means, stds = generator.normal(size=13), generator.uniform(0.5, 2, 13)
    enrol, test = generator.integers(0, 13, (2, 29))
    plain = CohortStatistics(means, stds)
    moved = CohortStatistics(scale * means + shift, scale * stds)
    for norm, rows in (
        (z_norm, [enrol]),
        (t_norm, [test]),
        (s_norm, [enrol, test]),
    ):
        np.testing.assert_allclose(
            norm(scale * scores + shift, moved, *rows),
            norm(scores, plain, *rows),
            rtol=1e-4,
            atol=1e-4,
        )
