"""How often the intervals hold the true figure, and how long they take.

    python benchmarks/confidence.py            # prints the tables
    python benchmarks/confidence.py --write    # and writes them into docs

Data sets are drawn from a law of voices whose true figures are known from a
very large sample. Speaker s has a voice, normal in each dimension, and a
spread of utterances around it that differs between speakers; trials are
cosines of utterances, drawn as in VoxCeleb's lists: each utterance is enrolled
in four target and four nontarget trials. A second, noisier system hears the
same voices, and partly the same noise, for the comparison of systems.
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
from pages import conditions, write_page

from speechbrain_attn.scoring import metrics
from speechbrain_attn.scoring.confidence import SpeakerTrials, bootstrap

SEED = 9
TRIALS_EACH = 4  # target trials of an utterance, and nontarget trials
SPEAKERS_A_BLOCK = 50_000  # of the sample that gives the true figures
LISTS = ((40, 60), (85, 20), (500, 10))  # speakers, utterances of each
TIMED = ((40, 118), (1200, 60))
MEASURES = {
    "eer": metrics.eer,
    "min_dcf_0.01": metrics.min_dcf,
    "auc": metrics.auc,
    "min_cllr": metrics.min_cllr,
    "act_dcf_0.01": metrics.act_dcf,
    "cllr": metrics.cllr,
}
COMPARED = ("eer", "min_dcf_0.01", "min_cllr")
INTRODUCTION = """# How often a confidence interval holds the true figure

Simulated data sets with known true figures: voices are drawn at random, then
utterances, then trials as in VoxCeleb's lists (`benchmarks/confidence.py` has
the law). "Held" is how often the 95 % interval of
`speechbrain_attn.scoring.confidence` holds the true figure, "below" and
"above" how often it lies wholly on either side of it. "Percentiles" is how
often the plain percentiles of the same draws hold it. These are too narrow
for few speakers and, for a minimum over thresholds (minDCF, minCllr), too low,
so the interval takes at each end the wider of Student's t, corrected for bias,
and the mirrored percentiles, both on the log-odds, but goes no further
towards the perfect figure than the best draw. Where few speakers make
most of the errors, the spread of the draws is not well known either: leaving
the speakers out one by one tells how much each matters, and the tails of that
set the degrees of freedom of Student's t.

Four limits remain. Where errors are rare and speakers few, Cllr hangs on a
few bad pairs of speakers that most samples do not hold, so that no draw of the
sample knows of them: its interval misses too often, nearly always below. The
difference of two minDCF is then held less often than their ratio. And for
minDCF and the actual DCF at a prior of 0.01 the intervals of one system are
mostly a little too wide: a nontarget trial is drawn by both its speakers, and
varies three times as much as it should. Less of it, by a second bootstrap of
pairs, was tried: it held minDCF too seldom with 500 speakers. And with few
speakers and an actual DCF near the cost without scores (law "hardest"), its
interval lies above the true figure too often.

The second table compares two systems on the same trials with the same draws,
the third gives the time of 1,000 draws.
"""


class Law(NamedTuple):
    """Voices and utterances; scores are ``slope * cosine + offset``."""

    name: str
    size: int
    noise: float
    slope: float
    offset: float
    spread: float = 0.25  # standard deviation of the logarithm of the noise
    second_noise: float = 1.08  # of the second system, times the first's
    shared: float = 0.7  # correlation of the noise of the two systems


LAWS = (
    Law("harder", 48, 0.85, 25.0, -6.9),
    Law("easier", 72, 0.8, 35.0, -9.4),
    Law("hardest", 24, 1.25, 8.6, -1.7),  # near the cost without scores
)


def draw_speakers(generator, law, count):
    """Voices [count, size] and the spread of each, [count, 1]."""
    voices = generator.standard_normal((count, law.size))
    spreads = np.exp(generator.normal(0.0, law.spread, (count, 1)))
    return voices, law.noise * spreads


def draw_utterances(generator, law, voices, spreads):
    """Unit-length embeddings of both systems, [2, utterances, size]."""
    first, own = generator.standard_normal((2, *voices.shape))
    second = law.shared * first + np.sqrt(1 - law.shared**2) * own
    embeddings = np.stack(
        [
            voices + spreads * first,
            voices + law.second_noise * spreads * second,
        ]
    )
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)


def draw_list(generator, law, speakers, utterances):
    """Scores of both systems, labels and speakers of a list of trials."""
    voices, spreads = draw_speakers(generator, law, speakers)
    owner = np.repeat(np.arange(speakers), utterances)
    embeddings = draw_utterances(generator, law, voices[owner], spreads[owner])
    enrol = np.repeat(np.arange(len(owner)), TRIALS_EACH)
    speaker, number = owner[enrol], enrol % utterances
    # Another utterance of the speaker, and any one of another speaker.
    shift = generator.integers(1, utterances, len(enrol))
    same = speaker * utterances + (number + shift) % utterances
    shift = generator.integers(1, speakers, len(enrol))
    other = (speaker + shift) % speakers * utterances
    other += generator.integers(0, utterances, len(enrol))
    enrol, test = np.tile(enrol, 2), np.append(same, other)
    cosines = np.einsum(
        "ste,ste->st", embeddings[:, enrol], embeddings[:, test]
    )
    scores = law.slope * cosines + law.offset
    return scores, owner[enrol] == owner[test], owner[enrol], owner[test]


def true_figures(law, blocks):
    """Figures of both systems over very many speakers, [2] dicts."""
    generator = np.random.default_rng(SEED)
    targets, nontargets = [], []
    for _ in range(blocks):
        voices = draw_speakers(generator, law, SPEAKERS_A_BLOCK)
        one, two = (draw_utterances(generator, law, *voices) for _ in range(2))
        targets.append(np.einsum("ste,ste->st", one, two))
        nontargets += [
            np.einsum("ste,ste->st", one, np.roll(two, shift, axis=1))
            for shift in (1, 2, 3)
        ]
    targets, nontargets = np.hstack(targets), np.hstack(nontargets)
    scores = law.slope * np.hstack([targets, nontargets]) + law.offset
    labels = np.arange(scores.shape[1]) < targets.shape[1]
    return [
        {name: measure(system, labels) for name, measure in MEASURES.items()}
        for system in scores
    ]


def simulate(law, shape, options):
    """Intervals of many lists, by metric; [sets, 3] value, low and high.

    Returns those of the first system, the plain percentiles of the same
    draws, and those of the difference and of the ratio of the two systems.
    """
    generator = np.random.default_rng([SEED, shape[0], law.size])
    kinds = {"interval": {}, "percentiles": {}, "difference": {}, "ratio": {}}
    for number in range(options.sets):
        scores, *trials = draw_list(generator, law, *shape)
        trials = SpeakerTrials(*trials)
        both = [
            trials.draw(system, MEASURES, options.replicates, number)
            for system in scores
        ]
        for metric, interval in trials.intervals(both[0]).items():
            plain = np.quantile(both[0][metric].draws, [0.025, 0.975])
            kinds["interval"].setdefault(metric, []).append(interval)
            kinds["percentiles"].setdefault(metric, []).append(
                (interval.value, *plain)
            )
        for metric, comparison in trials.comparisons(*both).items():
            for kind, interval in comparison._asdict().items():
                kinds[kind].setdefault(metric, []).append(interval)
    return {
        kind: {name: np.array(rows) for name, rows in of_kind.items()}
        for kind, of_kind in kinds.items()
    }


def coverage(intervals, true):
    """Cells: true figure, mean value and width, held, below and above."""
    value, low, high = intervals.T
    held = np.mean((low <= true) & (true <= high))
    return (
        f"{true:.4f} | {value.mean():.4f} | {(high - low).mean():.4f} "
        f"| {held:.1%} | {(high < true).mean():.1%} "
        f"| {(low > true).mean():.1%}"
    )


def lines_of(law, shape, true, found):
    """Lines of the table of intervals and of the table of comparisons."""
    first, second = true
    single, compared = [], []
    for metric, intervals in found["interval"].items():
        _, low, high = found["percentiles"][metric].T
        plain = np.mean((low <= first[metric]) & (first[metric] <= high))
        single.append(
            f"| {law.name} | {shape[0]} | {metric} "
            f"| {coverage(intervals, first[metric])} | {plain:.1%} |"
        )
    for metric in COMPARED:
        for kind, figure in (
            ("difference", first[metric] - second[metric]),
            ("ratio", first[metric] / second[metric]),
        ):
            compared.append(
                f"| {law.name} | {shape[0]} | {metric} | {kind} "
                f"| {coverage(found[kind][metric], figure)} |"
            )
    return single, compared


def timed(shape):
    """Line of the table of times, for 1,000 draws."""
    generator = np.random.default_rng(SEED)
    scores, *trials = draw_list(generator, LAWS[0], *shape)
    seconds = []
    for measures in (("eer", "min_dcf_0.01", "auc"), ("min_cllr",)):
        began = time.perf_counter()
        bootstrap(scores[0], *trials, measures)
        seconds.append(time.perf_counter() - began)
    return (
        f"| {scores.shape[1]:,} | {shape[0]:,} | {seconds[0]:.2f} "
        f"| {seconds[1]:.2f} |"
    )


def main():
    """Simulate, print and, if asked to, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    figures = "true | mean value | mean width | held | below | above"
    single = [
        f"| law | speakers | metric | {figures} | percentiles |",
        "| --- | ---: | --- |" + " ---: |" * 7,
    ]
    compared = [
        f"| law | speakers | metric | of two systems | {figures} |",
        "| --- | ---: | --- | --- |" + " ---: |" * 6,
    ]
    for law in LAWS:
        true = true_figures(law, options.blocks)
        for shape in LISTS:
            found = simulate(law, shape, options)
            for table, lines in zip(
                (single, compared),
                lines_of(law, shape, true, found),
                strict=True,
            ):
                table += lines
                print("\n".join(lines), flush=True)
    times = [
        "| trials | speakers | EER, minDCF, AUC, s | minCllr, s |",
        "| ---: | ---: | ---: | ---: |",
        *map(timed, TIMED),
    ]
    print("\n".join(times))
    setup = (
        f"Seed {SEED}; {options.sets} data sets of each law and size, "
        f"{options.replicates} draws each; the true figures are of "
        f"{options.blocks * SPEAKERS_A_BLOCK:,} speakers. With "
        f"{options.sets} sets the standard error of a coverage near 95 % is "
        f"{np.sqrt(0.95 * 0.05 / options.sets):.1%}. {conditions()}"
    )
    if options.write:
        lines = [*single, "", *compared, "", *times, "", setup]
        write_page("confidence", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
