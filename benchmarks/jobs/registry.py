"""The measurements of ``benchmarks/registry.py``, one a process.

    python benchmarks/jobs/registry.py enrol 1000 FOLDER

prints what it measured as JSON. Arguments are the job, the number of voices,
and the folder of the registry, which ``enrol`` makes and the others read.
"""

import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from speechbrain_attn.inference.registry import Registry
from speechbrain_attn.inference.voice_index import (
    CANDIDATES,
    INDEX_FILE,
    ExactSearch,
    IndexSearch,
)

SEED = 9
SIZE = 192
GROUPS, GROUP_PART = 16, 0.5  # groups of voices, and their length to a voice's
NOISE = 0.7  # length of what an utterance adds, to that of a voice
DECAY = 0.3  # of the deviation with the number of the direction
QUERIES = 500  # of enrolled speakers, and as many of others
TIMED = 100  # of them, one at a time
BLOCK = 50_000  # voices that are drawn, and enrolled, at a time
MEMORY_GB = 6  # of a process, which fails beyond
MODEL = f"{SEED:064x}"
KINDS = (  # name for faiss, what is set, and its values with the candidates
    (f"PQ{SIZE // 2}x4fs", None, ((None, CANDIDATES // 8), (None, CANDIDATES))),
    ("IVF1024,SQ8", "nprobe", ((32, CANDIDATES), (256, CANDIDATES))),
    ("HNSW32_SQ8", "efSearch", ((CANDIDATES, CANDIDATES), (1000, CANDIDATES))),
)


class Law:
    """From which voices and utterances are drawn."""

    def __init__(self):
        draw = np.random.default_rng(SEED)
        turn = np.linalg.qr(draw.normal(size=(SIZE, SIZE)))[0]
        deviations = np.arange(1, SIZE + 1) ** -DECAY
        deviations /= np.linalg.norm(deviations)
        self._shape = (turn * deviations).T.astype(np.float32)
        self._groups = GROUP_PART * self._normal(draw, GROUPS)

    def _normal(self, draw, count):
        """Vectors of a mean squared length of one."""
        return draw.standard_normal((count, SIZE), dtype="f4") @ self._shape

    def voices(self, draw, count):
        """Directions of speakers, [count, SIZE]."""
        group = draw.integers(0, GROUPS, count)
        return unit(self._normal(draw, count) + self._groups[group])

    def utterances(self, draw, voices):
        """An embedding of each voice."""
        return unit(voices + NOISE * self._normal(draw, len(voices)))


def unit(rows):
    """Rows of length one."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def enrol(num_voices, folder):
    """Seconds to enrol, and cosines of the same and of different voices.

    Leaves queries: half of them of speakers who are spread over those that
    are enrolled, half of others.
    """
    law, draw = Law(), np.random.default_rng(SEED)
    seconds, queries, same = 0.0, [], []
    with Registry.create(folder, MODEL, SIZE) as registry:
        for start in range(0, num_voices, BLOCK):
            count = min(BLOCK, num_voices - start)
            voices = law.voices(draw, count)
            enrolled = law.utterances(draw, voices)
            names = [f"speaker {start + n}" for n in range(count)]
            began = time.perf_counter()
            registry.add(names, enrolled)
            seconds += time.perf_counter() - began
            some = np.arange(start, start + count) % (num_voices // QUERIES)
            some = np.flatnonzero(some == 0)
            queries.append(law.utterances(draw, voices[some]))
            same.append((queries[-1] * enrolled[some]).sum(axis=1))
    known = np.concatenate(queries)[:QUERIES]
    others = law.utterances(draw, law.voices(draw, QUERIES))
    np.save(f"{folder}/queries.npy", np.concatenate([known, others]))
    same, different = np.concatenate(same), others @ enrolled.T
    return {
        "seconds": seconds,
        "file": os.path.getsize(f"{folder}/registry.sqlite") / 1e6,
        "same": [float(same.mean()), float(same.std())],
        "different": [float(different.mean()), float(different.std())],
    }


def exact(num_voices, folder):
    """Time of a product with all voices."""
    return searched(ExactSearch, folder)


def index(num_voices, folder):
    """Time to make the index, and its size."""
    began = time.perf_counter()
    with Registry.open(folder) as registry:
        IndexSearch(registry).search(np.ones((1, SIZE)))
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "file": os.path.getsize(f"{folder}/{INDEX_FILE}") / 1e6,
    }


def index_again(num_voices, folder):
    """Time with an index that is there, in a new process."""
    return searched(IndexSearch, folder)


def searched(kind, folder):
    """Seconds to load and for one identification, and the best of each."""
    queries = np.load(f"{folder}/queries.npy")
    with Registry.open(folder) as registry:
        began = time.perf_counter()
        search = kind(registry)
        search.search(queries[:1])
        loaded = time.perf_counter() - began
        seconds, _ = one_by_one(
            search.search, queries[:: len(queries) // TIMED]
        )
        best = [first.name for first, *_ in search.search(queries)]
    return {"loaded": loaded, "seconds": seconds, "best": best}


def kinds(num_voices, folder):
    """Kinds of index: their time, and how often they propose the best."""
    import faiss

    queries = np.load(f"{folder}/queries.npy")
    with Registry.open(folder) as registry:
        voices = np.concatenate([block for _, block in registry.voices()])
    best = np.argmax(queries @ voices.T, axis=1)
    rows = []
    for name, setting, cases in KINDS:
        found = faiss.index_factory(SIZE, name, faiss.METRIC_INNER_PRODUCT)
        faiss.omp_set_num_threads(1 if setting is None else os.cpu_count())
        began = time.perf_counter()
        found.train(voices)
        found.add(voices)
        made = time.perf_counter() - began
        for value, count in cases:
            label = "all" if setting is None else f"{setting} {value}"
            if setting is not None:
                setattr(getattr(found, "hnsw", found), setting, value)
            seconds, ids = one_by_one(
                lambda row, top=count, of=found: of.search(row, top)[1], queries
            )
            hit = (np.concatenate(ids) == best[:, None]).any(axis=1)
            halves = float(hit[:QUERIES].mean()), float(hit[QUERIES:].mean())
            rows.append([name, label, count, made, seconds, *halves])
    return {"rows": rows}


def one_by_one(search, queries):
    """Median seconds of a search for one query, and what all gave."""
    seconds, found = [], []
    for row in range(len(queries)):
        began = time.perf_counter()
        found.append(search(queries[row : row + 1]))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), found


def peak_megabytes():
    """Peak resident memory of this process, without that of its parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


JOBS = {job.__name__: job for job in (enrol, exact, index, index_again, kinds)}


def main(name, num_voices, folder):
    """Do one measurement and print what it took."""
    limit = int(MEMORY_GB * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    found = JOBS[name](int(num_voices), folder)
    print(json.dumps({**found, "peak": peak_megabytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
