"""Trials of made-up speakers, some of whom are easier to take for others."""

import numpy as np

NUM_SPEAKERS = 40


def simulated_trials(seed=0):
    """Scores, labels, speakers enrolled and tested; a third are targets."""
    generator = np.random.default_rng(seed)
    enrol = generator.integers(NUM_SPEAKERS, size=6000)
    other = generator.integers(1, NUM_SPEAKERS, size=6000)
    labels = np.arange(6000) < 2000
    test = np.where(labels, enrol, (enrol + other) % NUM_SPEAKERS)
    easy = generator.normal(size=NUM_SPEAKERS) * 0.6
    scores = generator.normal(easy[enrol] + easy[test] + 3.0 * labels)
    return scores, labels, enrol, test
