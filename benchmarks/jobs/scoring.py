"""The measurements of ``benchmarks/scoring.py``, one a process.

    python benchmarks/jobs/scoring.py cosine 550894 4708

prints the seconds and the peak memory in MB as JSON. Arguments are the job,
its trials, and the utterances that they are among (or, to load a list, its
path).
"""

import importlib.util
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SEED = 9
SIZE, COHORT, TOP = 192, 5994, 300
SPEAKERS, DRAWS = 1_251, 100  # as in VoxCeleb1-E, of the bootstrap
# SpeechBrain's minDCF takes 13 bytes for each pair of trials.
MIN_DCF_TRIALS = 10_000


def drawn(num_trials, num_rows):
    """Embeddings, a cohort, and the two rows of each trial."""
    generator = np.random.default_rng(SEED)
    embeddings = generator.standard_normal((num_rows, SIZE), dtype="f4")
    cohort = generator.standard_normal((COHORT, SIZE), dtype="f4")
    trials = generator.integers(0, num_rows, (2, num_trials), dtype="i4")
    return embeddings, cohort, *trials


def drawn_scores(num_trials):
    """Scores with an EER of about 2 %, half of them of targets."""
    generator = np.random.default_rng(SEED)
    labels = generator.random(num_trials, dtype="f4") < 0.5
    scores = generator.standard_normal(num_trials, dtype="f4")
    scores[labels] += 4
    return scores, labels


def timed(call):
    """Least seconds of up to three calls, and what the last one gave."""
    seconds = []
    while not seconds or (len(seconds) < 3 and sum(seconds) < 4):
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return min(seconds), result


def cosine(num_trials, num_rows):
    """Seconds of our cosine scores."""
    from speechbrain_attn.scoring.cosine import cosine_scores

    embeddings, _, enrol, test = drawn(num_trials, num_rows)
    return timed(lambda: cosine_scores(embeddings, enrol, test))


def s_norm(num_trials, num_rows):
    """Seconds of our adaptive s-norm, the cosine scores included."""
    from speechbrain_attn.scoring import normalisation
    from speechbrain_attn.scoring.cosine import cosine_scores

    embeddings, cohort, enrol, test = drawn(num_trials, num_rows)

    def normalised():
        statistics = normalisation.cohort_statistics(embeddings, cohort, TOP)
        scores = cosine_scores(embeddings, enrol, test)
        return normalisation.s_norm(scores, statistics, enrol, test)

    return timed(normalised)


def plda(num_trials, num_rows):
    """Seconds of our PLDA scores, LDA to 128."""
    from speechbrain_attn.scoring.plda import PLDABackend

    embeddings, _, enrol, test = drawn(num_trials, num_rows)
    lda = np.linalg.qr(np.random.default_rng(SEED).normal(size=(SIZE, 128)))[0]
    noise = np.diag(np.linspace(0.5, 2, 128))
    backend = PLDABackend(
        np.zeros(SIZE), lda, np.zeros(128), np.eye(128), noise
    )
    return timed(lambda: backend.scores(embeddings, enrol, test))


def metrics(num_trials, _):
    """Seconds of our EER and minDCF."""
    from speechbrain_attn.scoring.metrics import eer, min_dcf

    scores, labels = drawn_scores(num_trials)
    seconds, rate = timed(lambda: eer(scores, labels))
    more, cost = timed(lambda: min_dcf(scores, labels, normalised=False))
    return (seconds, more), (rate, cost)


def bootstrap(num_trials, _):
    """Seconds of our intervals of EER, minDCF and AUC."""
    from speechbrain_attn.scoring import confidence

    scores, labels = drawn_scores(num_trials)
    generator = np.random.default_rng(SEED)
    enrol = generator.integers(0, SPEAKERS, num_trials)
    others = generator.integers(1, SPEAKERS, num_trials)
    test = np.where(labels, enrol, (enrol + others) % SPEAKERS)
    trials = scores, labels, enrol, test
    return timed(lambda: confidence.bootstrap(*trials, replicates=DRAWS))


def load(_, path):
    """Seconds until a trial list is read."""
    from speechbrain_attn.dataio.trials import trials_from_file

    return timed(lambda: len(trials_from_file(path)))


def host_metrics(num_trials, _):
    """Seconds of SpeechBrain's EER and, where it can run, minDCF."""
    import torch
    from speechbrain.utils.metric_stats import EER, minDCF

    scores, labels = drawn_scores(num_trials)
    kinds = torch.tensor(scores[labels]), torch.tensor(scores[~labels])
    seconds, (rate, _) = timed(lambda: EER(*kinds))
    if num_trials > MIN_DCF_TRIALS:
        return (seconds, None), (rate, None)
    more, (cost, _) = timed(lambda: minDCF(*kinds))
    return (seconds, more), (rate, cost)


def host_cosine(num_trials, num_rows):
    """Seconds of SpeechBrain's loop."""
    return host_loop(num_trials, num_rows, {})


def host_s_norm(num_trials, num_rows):
    """Seconds of SpeechBrain's loop with adaptive s-norm."""
    normalised = {"score_norm": "s-norm", "cohort_size": TOP}
    return host_loop(num_trials, num_rows, normalised)


def host_loop(num_trials, num_rows, params):
    """Seconds and scores of a loop over the lines of a trial list."""
    import torch

    embeddings, cohort, enrol, test = drawn(num_trials, num_rows)
    # Names and shapes as the script makes them: [1, embedding_size] each.
    names = [f"id{row // 50:05}/session/{row:06}" for row in range(num_rows)]
    tensors = torch.from_numpy(embeddings)[:, None]
    by_name = dict(zip(names, tensors, strict=True))
    others = dict(enumerate(torch.from_numpy(cohort)[:, None]))
    # All are "targets", so that the script gives them back in their order.
    lines = [
        f"1 {names[a]}.wav {names[b]}.wav"
        for a, b in zip(enrol, test, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        params = {**params, "output_folder": folder}
        clone = os.environ.get("SPEECHBRAIN_REPO")
        if clone is None:
            seconds, scores = timed(
                lambda: one_by_one(lines, by_name, others, params)
            )
        else:
            script = script_of(clone)
            script.params, script.train_dict = params, others
            script.enrol_dict = script.test_dict = by_name
            seconds, (scores, _) = timed(
                lambda: script.get_verification_scores(lines)
            )
    return seconds, torch.stack(scores).flatten()


def script_of(clone):
    """SpeechBrain's cosine script as a module."""
    folder = Path(clone, "recipes", "VoxCeleb", "SpeakerRec")
    path = folder / "speaker_verification_cosine.py"
    spec = importlib.util.spec_from_file_location("host_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one_by_one(lines, embeddings, cohort, params):
    """The steps of SpeechBrain's script for each trial, in its order."""
    import torch

    similarity = torch.nn.CosineSimilarity(dim=-1, eps=1e-6)
    normalise = "score_norm" in params
    others = torch.stack(list(cohort.values())) if normalise else None

    def relative(score, embedding):
        repeated = embedding.repeat(len(others), 1, 1)
        highest = similarity(repeated, others).topk(TOP, dim=0)[0]
        return (score - highest.mean(dim=0)) / highest.std(dim=0)

    scores = []
    path = Path(params["output_folder"], "scores.txt")
    with open(path, "w", encoding="utf-8") as file:
        for line in lines:
            label, enrol, test = line.split(" ")
            sides = [
                embeddings[side.split(".")[0].strip()] for side in (enrol, test)
            ]
            score = similarity(*sides)[0]
            if normalise:
                score = 0.5 * sum(relative(score, side) for side in sides)
            file.write(f"{enrol} {test} {int(label)} {float(score):f}\n")
            scores.append(score)
    return scores


def peak_megabytes():
    """Peak memory of this process, without that of its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (
            line
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM")
        )
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


JOBS = {
    job.__name__: job
    for job in (
        cosine,
        s_norm,
        plda,
        metrics,
        bootstrap,
        load,
        host_metrics,
        host_cosine,
        host_s_norm,
    )
}


def main(name, num_trials, where):
    """Do one measurement and print what it took."""
    num_trials = int(num_trials)
    where = int(where) if where.isdigit() else where
    seconds, result = JOBS[name](num_trials, where)
    found = {"seconds": seconds, "peak": peak_megabytes()}
    if "metrics" in name:
        found["figures"] = result
    elif name.startswith("host_"):
        _, ours = JOBS[name.removeprefix("host_")](num_trials, where)
        found["difference"] = float(abs(result.numpy() - ours).max())
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
