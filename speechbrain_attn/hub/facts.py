"""What a training run and its evaluations left behind, for a model's card."""

import csv
import json
import os
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from speechbrain_attn import __version__
from speechbrain_attn.errors import AttnError


class Evaluation(NamedTuple):
    """A folder that a verification script wrote, and its results."""

    folder: Path
    results: dict

    @property
    def name(self):
        """Name of the trial list."""
        return Path(self.results["trial_list"]).stem


class RunFacts(NamedTuple):
    """How a model was trained."""

    recipe: str  # name of the training YAML
    data: list  # names of the data folders
    seed: int | None
    loss: str  # class of the loss
    augmentation: list  # kinds of it that were switched on
    speakers: int
    utterances: int
    hours: float
    median_s: float  # of an utterance, in seconds
    epochs: int
    versions: dict


def run_facts(output_folder):
    """Facts of a training run.

    Arguments
    ---------
    output_folder : str or Path
        Of ``train_speaker_embeddings.py``.

    Returns
    -------
    RunFacts

    Raises
    ------
    AttnError
        The run lacks its YAML or its manifest.
    """
    folder = Path(output_folder)
    path = _needed(folder / "hyperparams.yaml")
    text = path.read_text(encoding="utf-8")
    # Not built, only read: what stands behind a tag is a plain mapping.
    keys = YAML().load(text)
    manifest = keys.get("train_annotation") or folder / "save" / "train.csv"
    if not Path(manifest).exists():
        # The run was moved, and its YAML names its old place.
        manifest = folder / "save" / "train.csv"
    seconds, speakers = _manifest(_needed(Path(manifest)))
    return RunFacts(
        recipe=_recipe(text),
        data=[Path(p).name for p in str(keys.get("data_folder")).split(",")],
        seed=keys.get("seed"),
        loss=_loss(keys.get("compute_cost")),
        augmentation=[
            word
            for key, word in (
                ("noise_folder", "noise"),
                ("rir_folder", "rooms"),
                ("speeds", "speed"),
                ("speaker_speeds", "speeds as other speakers"),
                ("spec_masks", "masks in the features"),
            )
            if keys.get(key)
        ],
        speakers=len(speakers),
        utterances=len(seconds),
        hours=sum(seconds.values()) / 3600,
        median_s=statistics.median(seconds.values()),
        epochs=_epochs(folder / "train_log.txt"),
        versions={
            "speechbrain_attn": __version__,
            "speechbrain": version("speechbrain"),
            "torch": version("torch"),
        },
    )


def find_evaluations(output_folder, more=()):
    """Evaluations in a run's folder, up to two folders down, and in others.

    Arguments
    ---------
    output_folder : str or Path
    more : sequence of str or Path
        Output folders of the verification scripts; each must be one.

    Returns
    -------
    list of Evaluation
        By the names of their lists; none twice.

    Raises
    ------
    AttnError
        One of ``more`` holds no results, results cannot be read, or two are
        of lists of one name.
    """
    folder = Path(output_folder)
    # As deep as the demo has them, in verification/<list>.
    patterns = ("results.json", "*/results.json", "*/*/results.json")
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    paths += [_needed(Path(other) / "results.json") for other in more]
    by_place = {path.resolve(): path for path in paths}
    found = [Evaluation(p.parent, _results(p)) for p in by_place.values()]
    # The model folder of an earlier export holds a list of results.
    found = [one for one in found if one.results is not None]
    places = {}
    for one in found:
        what = one.name, one.results["scoring"]
        if what in places:
            raise AttnError(
                f"{one.folder} and {places[what]}: are both of a list "
                f"{one.name} and its {what[1]} scores; leave one out, or "
                "rename its list and score it again."
            )
        places[what] = one.folder
    return sorted(found, key=lambda one: (one.name, str(one.folder)))


def _results(path):
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AttnError(f"{path}: is not JSON ({error}).") from None
    if isinstance(results, list):
        return None
    wanted = ("trial_list", "num_trials", "trials", "scoring", "systems")
    missing = [key for key in wanted if key not in results]
    if missing:
        raise AttnError(
            f"{path}: has no {', '.join(missing)}. Score the list again with "
            "this version's scripts."
        )
    return results


def _needed(path):
    if not path.exists():
        raise AttnError(
            f"{path}: is missing. Give the output folder of the script that "
            "writes it."
        )
    return path


def _manifest(path):
    """Seconds by file, and speakers, of a training manifest."""
    seconds, speakers = {}, set()
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            # Several rows are chunks of one file, whose length each gives.
            seconds[row["wav"]] = float(row["duration"])
            speakers.add(row["spk_id"])
    if not seconds:
        raise AttnError(f"{path}: holds no rows.")
    return seconds, speakers


def _recipe(text):
    """Name of the YAML that the host notes in the second line of its copy."""
    lines = text.split("\n", 2)
    if len(lines) > 1 and lines[1].startswith("# "):
        return os.path.basename(lines[1][2:].strip())
    return "hyperparams.yaml"


def _loss(node):
    """Class of a YAML's loss; of the inner one where the host's wraps it."""
    if isinstance(node, dict):
        node = node.get("loss_fn", node)
    tag = getattr(node, "tag", None)
    return str(getattr(tag, "value", None) or "a loss").rpartition(".")[2]


def _epochs(path):
    """Epochs that a run has logged."""
    if not path.exists():
        return 0
    lines = path.read_text(encoding="utf-8").splitlines()
    return sum(line.startswith("epoch") for line in lines)
