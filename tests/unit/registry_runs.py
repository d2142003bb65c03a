"""A process that enrols speakers and says so, to be watched and killed.

    python registry_runs.py FOLDER WRITER COUNT

enrols WRITER-0, WRITER-1, ... with two utterances each, in one change each,
and prints the number of each when it is done.
"""

import sys

import numpy as np

from speechbrain_attn.inference.registry import Registry

MODEL, SIZE = "ab" * 32, 7


def utterances(speaker, count=2):
    """Embeddings of a made-up speaker, [count, SIZE]; always the same."""
    draw = np.random.default_rng(list(speaker.encode()))
    voice = draw.normal(size=SIZE)
    return (voice + 0.3 * draw.normal(size=(count, SIZE))).astype(np.float32)


def main(folder, writer, count):
    with Registry.create(folder, MODEL, SIZE) as registry:
        for number in range(int(count)):
            name = f"{writer}-{number}"
            registry.add([name] * 2, utterances(name))
            print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
