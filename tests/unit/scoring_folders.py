"""Stores and lists of made-up speakers, and the command that scores them."""

import json

import numpy as np

from speechbrain_attn.scoring.__main__ import main
from speechbrain_attn.scoring.store import EmbeddingStore

SIZE, NUM_UTTERANCES = 7, 5
MODEL = {"model_sha256": "5b" * 32}


def make_store(folder, speakers, generator, noise=0.8):
    """Normal speakers with normal noise; a store of their utterances."""
    names, rows = [], []
    for speaker in speakers:
        voice = generator.normal(size=SIZE)
        for number in range(NUM_UTTERANCES):
            names.append(f"{speaker}/s/{number}")
            rows.append(voice + noise * generator.normal(size=SIZE))
    seconds = generator.uniform(1, 9, len(names))
    return EmbeddingStore.create(folder, names, np.array(rows), seconds, MODEL)


def make_list(path, speakers, generator):
    """All trials within speakers, and as many others."""
    names = [f"{s}/s/{n}" for s in speakers for n in range(NUM_UTTERANCES)]
    lines = [
        f"{int(a[:4] == b[:4])} {a}.wav {b}.wav\n"
        for i, a in enumerate(names)
        for b in names[:i]
        if a[:4] == b[:4] or generator.random() < 0.2
    ]
    path.write_text("".join(lines))
    return path


def make_data(folder):
    """Three stores of disjoint speakers, and a list of each."""
    generator = np.random.default_rng(3)
    for name, numbers in {
        "test": range(10, 22),
        "dev": range(30, 40),
        "cohort": range(50, 73),
    }.items():
        speakers = [f"id{number}" for number in numbers]
        make_store(folder / name, speakers, generator)
        make_list(folder / f"{name}.txt", speakers, generator)
    return folder


def copy_store(folder, store, rows=None, seconds=None, settings=None):
    """Write a store anew with other rows, durations or settings."""
    return EmbeddingStore.create(
        folder,
        store.ids,
        store.embeddings if rows is None else rows,
        store.durations if seconds is None else seconds,
        store.settings if settings is None else settings,
    )


class Runner:
    """Runs the command on the lists; returns results and what was printed."""

    def __init__(self, data, folder, capsys):
        self.data, self.folder, self.capsys = data, folder, capsys

    def __call__(self, *more, output="out", embeddings=("test", "dev")):
        main(
            [
                "--embeddings",
                *(str(self.data / name) for name in embeddings),
                f"--trials={self.data / 'test.txt'}",
                f"--output={self.folder / output}",
                "--replicates=40",
                *map(str, more),
            ]
        )
        text = (self.folder / output / "results.json").read_text()
        return json.loads(text), self.capsys.readouterr().out
