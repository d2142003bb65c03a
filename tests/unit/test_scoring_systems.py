"""Every scoring of made-up trials."""

import dataclasses

import numpy as np
import pytest

from speechbrain_attn.scoring.normalisation import speaker_means
from speechbrain_attn.scoring.systems import (
    Backend,
    TrialEmbeddings,
    score_trials,
)


@pytest.mark.parametrize("of_speakers", [True, False])
@pytest.mark.parametrize("scoring", ["z-norm", "t-norm"])
def test_the_scale_of_embeddings_changes_no_score(scoring, of_speakers):
    generator = np.random.default_rng(5)
    rows = generator.normal(1, 1, (20, 6))
    utterances = generator.normal(1, 1, (60, 6))
    enrol, test = generator.integers(20, size=(2, 80))
    data = TrialEmbeddings(
        rows,
        enrol,
        test,
        enrol % 4 == test % 4,
        np.arange(20) % 4,
        np.linalg.norm(rows, axis=1),
    )

    def scores(scale):
        cohort = scale * utterances
        if of_speakers:
            cohort = speaker_means(cohort, np.arange(60) // 3)
        scaled = dataclasses.replace(data, embeddings=scale * rows)
        return score_trials(scaled, Backend(cohort, 9), scoring).of

    once, louder = scores(1), scores(20)
    names = ["cosine", "centred", scoring, "s-norm", "as-norm"]
    assert sorted(once) == sorted(louder) == sorted(names)
    for name, made in once.items():
        np.testing.assert_allclose(
            louder[name], made, rtol=0, atol=1e-4, err_msg=name
        )
