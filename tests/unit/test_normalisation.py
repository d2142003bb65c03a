"""Score normalisation by hand, against a loop, and what is refused."""

import logging

import numpy as np
import pytest

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring import normalisation
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.normalisation import (
    CohortStatistics,
    cohort_statistics,
    s_norm,
    shared_speakers,
    speaker_means,
    subtract_mean,
    t_norm,
    z_norm,
)

AXES = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])


def drawn():
    """Embeddings, a cohort of another number, trials."""
    generator = np.random.default_rng(0)
    embeddings = generator.normal(1.0, 2.0, (37, 7)).astype(np.float32)
    cohort = generator.normal(1.0, 2.0, (23, 7)).astype(np.float32)
    enrol, test = generator.integers(0, 37, (2, 101))
    return embeddings, cohort, enrol, test


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def s_norm_by_the_trial(embeddings, cohort, enrol, test, top):
    """What SpeechBrain's script does, in float64: all anew for each trial."""
    embeddings, cohort = embeddings.astype("f8"), cohort.astype("f8")
    scores = []
    for sides in zip(enrol, test, strict=True):
        raw = cosine(*embeddings[list(sides)])
        relative = []
        for side in sides:
            others = [cosine(embeddings[side], other) for other in cohort]
            highest = sorted(others)[-top:]
            std = np.std(highest, ddof=1)
            relative.append((raw - np.mean(highest)) / std)
        scores.append(sum(relative) / 2)
    return scores


def test_statistics_by_hand():
    # Cosines of the first row: 0.6, 0.8, -0.6; of the second 0, 1, 0.
    statistics = cohort_statistics(np.array([[3, 4], [0, 2]]), AXES)
    np.testing.assert_allclose(statistics.means, [0.8 / 3, 1 / 3], rtol=1e-6)
    deviations = np.array([0.6, 0.8, -0.6]) - 0.8 / 3
    expected = np.sqrt([deviations @ deviations / 2, 1 / 3])
    np.testing.assert_allclose(statistics.stds, expected, rtol=1e-6)


def test_statistics_of_the_highest_by_hand():
    statistics = cohort_statistics(np.array([[3, 4], [0, 2]]), AXES, top=2)
    np.testing.assert_allclose(statistics.means, [0.7, 0.5], rtol=1e-6)
    expected = [0.1 * np.sqrt(2), np.sqrt(0.5)]
    np.testing.assert_allclose(statistics.stds, expected, rtol=1e-6)


def test_norms_by_hand():
    statistics = CohortStatistics(np.array([0.1, 0.4]), np.array([0.2, 0.5]))
    enrol, test = np.array([0, 0]), np.array([1, 0])
    scores = [0.5, 0.3]
    z = z_norm(scores, statistics, enrol)
    np.testing.assert_allclose(z, [2.0, 1.0], rtol=1e-6)
    t = t_norm(scores, statistics, test)
    np.testing.assert_allclose(t, [0.2, 1.0], rtol=1e-6)
    s = s_norm(scores, statistics, enrol, test)
    np.testing.assert_allclose(s, [1.1, 1.0], rtol=1e-6)
    assert s.dtype == np.float32


@pytest.mark.parametrize("top", [2, 11, 23])
def test_s_norm_is_that_of_a_loop_over_trials(top):
    embeddings, cohort, enrol, test = drawn()
    statistics = cohort_statistics(embeddings, cohort, top)
    scores = cosine_scores(embeddings, enrol, test)
    normalised = s_norm(scores, statistics, enrol, test)
    expected = s_norm_by_the_trial(embeddings, cohort, enrol, test, top)
    # Two cosines of nearly the same size may part by 1e-3 only.
    np.testing.assert_allclose(normalised, expected, rtol=1e-3, atol=1e-5)


def test_all_of_the_cohort_is_the_default():
    embeddings, cohort, _, _ = drawn()
    all_of_it = cohort_statistics(embeddings, cohort)
    counted = cohort_statistics(embeddings, cohort, len(cohort))
    np.testing.assert_array_equal(all_of_it, counted)


def test_blocks_have_no_say(monkeypatch):
    embeddings, cohort, _, _ = drawn()
    whole = cohort_statistics(embeddings, cohort, 5)
    monkeypatch.setattr(normalisation, "BLOCK_SCORES", 1)  # 16 rows at a time
    parts = cohort_statistics(embeddings, cohort, 5)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_mean_of_a_speaker_is_that_of_directions():
    embeddings, _, _, _ = drawn()
    names = np.array(["carol", "alice", "bob"])[np.arange(37) % 3]
    means = speaker_means(embeddings, names)
    for mean, name in zip(means, ["alice", "bob", "carol"], strict=True):
        rows = embeddings[names == name]
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(mean, unit.mean(axis=0), atol=1e-6)
    numbers = np.unique(names, return_inverse=True)[1]
    np.testing.assert_array_equal(speaker_means(embeddings, numbers), means)


def test_the_mean_of_the_reference_is_subtracted():
    embeddings, cohort, _, _ = drawn()
    centred = subtract_mean(embeddings, cohort)
    np.testing.assert_allclose(
        centred, embeddings - cohort.mean(axis=0), rtol=1e-5, atol=1e-6
    )
    assert np.abs(subtract_mean(cohort, cohort).mean(axis=0)).max() < 1e-6


def test_shared_speakers_are_named_in_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert shared_speakers(["d", "a", "b"], {"b", "c", "d"}) == ["b", "d"]
    assert "share 2 speakers (b, d)" in caplog.text


def test_no_shared_speaker_no_warning(caplog):
    assert shared_speakers(np.array([1, 2]), np.array([3])) == []
    assert not caplog.records


STATISTICS = CohortStatistics(np.zeros(3), np.ones(3))
ONES = np.ones((4, 2))

# fmt: off
BAD = [  # id, what is called, what the message must say
    ("size", lambda: cohort_statistics(np.ones((2, 3)), AXES),
        r"cohort: have size 2, but .* has size 3"),
    ("flat", lambda: cohort_statistics(AXES, AXES[0]),
        r"cohort: want \[utterances, .*got \(2,\)"),
    ("zero_row", lambda: cohort_statistics(AXES * [[1], [1], [0]], AXES),
        r"embeddings: row 2 has norm 0.0"),
    ("zero_cohort", lambda: cohort_statistics(AXES, AXES * [[1], [0], [1]]),
        r"cohort: row 1 has norm 0.0"),
    ("top_one", lambda: cohort_statistics(AXES, AXES, 1),
        r"want the top 2 to 3 of a cohort of 3, got 1"),
    ("top_many", lambda: cohort_statistics(AXES, AXES, 4), r"got 4"),
    ("one_voice", lambda: cohort_statistics(AXES, ONES),
        r"row 0 has nearly the same cosine, 0.707107, with all 4 of"),
    ("outside", lambda: z_norm([0.5], STATISTICS, [3]),
        r"enrol: trial 0 names row 3 of 3"),
    ("no_pair", lambda: s_norm([0.5], STATISTICS, [0], [1, 2]),
        r"got 1 enrolments and 2 tests"),
    ("no_score", lambda: t_norm([0.5], STATISTICS, [0, 1]),
        r"one for each of 2 trials, got shape \(1,\)"),
    ("no_speaker", lambda: speaker_means(AXES, ["a", "b"]),
        r"one for each of 3 embeddings, got shape \(2,\)"),
    ("no_size", lambda: subtract_mean(AXES, np.ones((2, 5))),
        r"reference: have size 5, but an embedding has size 2"),
]
# fmt: on


@pytest.mark.parametrize(
    "call, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(AttnError, match=says):
        call()


def test_the_row_of_a_bad_embedding_is_counted_over_blocks(monkeypatch):
    monkeypatch.setattr(normalisation, "BLOCK_SCORES", 1)
    embeddings = np.ones((40, 2))
    embeddings[33] = np.nan
    with pytest.raises(AttnError, match="row 33 has norm nan"):
        cohort_statistics(embeddings, AXES)
