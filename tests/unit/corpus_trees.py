"""Small VoxCeleb-like trees of noise, for the tests of preparation."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import soundfile

RECIPE = Path(__file__).parents[2] / "recipes" / "VoxCeleb"


def load_recipe(name):
    """Module of a script beside the recipe, which is no package."""
    spec = importlib.util.spec_from_file_location(name, RECIPE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_audio(path, seconds=0.5, rate=16000, channels=1, level=0.1):
    """Noise; the extension tells the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (round(seconds * rate), channels)
    samples = level * np.random.default_rng(7).uniform(-1, 1, shape)
    kind = {"format": "OGG", "subtype": "OPUS"}
    soundfile.write(
        path, samples, rate, **(kind if path.suffix == ".opus" else {})
    )
    return path


def make_tree(root, speakers=("s1", "s2", "s3", "t1", "t2"), files=3):
    """``files`` utterances of 0.5 s in one session of each speaker."""
    for speaker in speakers:
        for number in range(files):
            write_audio(root / speaker / "x.y" / f"{number}.wav")
    return root


def write_list(path, *pairs):
    """Trial list; pairs with equal speakers are targets."""
    lines = [f"{int(a[:2] == b[:2])} {a} {b}\n" for a, b in pairs]
    path.write_text("".join(lines))
    return path


def rows(folder, name):
    """Rows of a manifest as dicts."""
    with open(folder / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def speakers(folder, *names):
    """Speakers in one or more manifests."""
    return {row["spk_id"] for name in names for row in rows(folder, name)}


def reported(folder):
    """File name to (reason, left out) in the preparation report."""
    return {
        Path(row["path"]).name: (row["reason"], row["left_out"])
        for row in rows(folder, "preparation_report")
    }
