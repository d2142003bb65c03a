"""What a finished run of the demo is: its data, figures and machine."""

import csv
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from speechbrain_attn import __version__
from speechbrain_attn.dataio.tree import find_utterances
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.demo.results import shown_cost, shown_rate
from speechbrain_attn.errors import AttnError


def read_results(path):
    """Figures of the verification script, named as the page names them."""
    if not Path(path).exists():
        raise AttnError(
            f"{path}: the verification script wrote no results; see its log."
        )
    results = json.loads(Path(path).read_text(encoding="utf-8"))
    figures = results["systems"][results["scoring"]]
    eer, min_dcf = figures["eer"], figures["min_dcf_0.01"]
    return {
        "list": Path(results["trial_list"]).stem,
        "trials": results["num_trials"],
        "targets": results["trials"]["targets"],
        "eer": eer["value"],
        "eer_interval": [eer["low"], eer["high"]],
        "min_dcf": min_dcf["value"],
        "min_dcf_interval": [min_dcf["low"], min_dcf["high"]],
    }


def training_data(folder):
    """Speakers, utterances and hours of a run's ``save/train.csv``."""
    seconds, speakers = {}, set()
    with open(Path(folder, "save", "train.csv"), newline="") as file:
        for row in csv.DictReader(file):
            # Several rows are chunks of one file, whose length each gives.
            seconds[row["wav"]] = float(row["duration"])
            speakers.add(row["spk_id"])
    return len(speakers), len(seconds), sum(seconds.values()) / 3600


def load_and_verify(model, data, trials):
    """Load a model folder as SpeechBrain's users do and verify two pairs.

    Arguments
    ---------
    model : Path
        Model folder.
    data : str or Path
        Recordings in VoxCeleb's layout.
    trials : str or Path
        Trial list; its first target and first nontarget are verified.

    Returns
    -------
    int
        Parameters of the embedding model.
    """
    from speechbrain.inference import EncoderClassifier, SpeakerRecognition

    classifier = EncoderClassifier.from_hparams(source=str(model))
    verifier = SpeakerRecognition.from_hparams(source=str(model))
    paths = {u.utterance_id: u.path for u in find_utterances(data).utterances}
    trials = trials_from_file(trials)
    for label in (True, False):
        index = int((trials.labels == label).argmax())
        names = [
            trials.utterances[side[index]]
            for side in (trials.enrol, trials.test)
        ]
        one, other = (paths[name] for name in names)
        embedding = classifier.encode_batch(classifier.load_audio(one))
        score, decision = verifier.verify_files(one, other)
        kind = "same speaker" if label else "two speakers"
        print(
            f"{names[0]} and {names[1]} ({kind}): score {float(score):.3f}, "
            f"decision {bool(decision)}"
        )
    print(f"embedding of {names[0]}: {list(embedding.shape)}")
    network = classifier.mods.embedding_model
    return sum(parameter.numel() for parameter in network.parameters())


def describe_machine():
    """Processor model, number of cores, and what torch uses of it."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    used = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {os.cpu_count()} cores, {used}"


def versions():
    """Versions of what the figures depend on."""
    return {
        "speechbrain_attn": __version__,
        "speechbrain": version("speechbrain"),
        "torch": version("torch"),
        "Python": platform.python_version(),
    }


def print_table(records):
    """Print the figures of one system, a column for each list."""
    first = records[0]
    rows = [
        ("system", first["system"]),
        ("parameters", f"{first['parameters']:,}"),
        ("train speakers", f"{first['train_speakers']:,}"),
        ("train utterances", f"{first['train_utterances']:,}"),
        ("training (s)", f"{first['train_seconds']:.0f}"),
    ]
    rows += [
        ("list", *(record["list"] for record in records)),
        ("trials", *(f"{record['trials']:,}" for record in records)),
        ("EER (%)", *(shown_rate(record) for record in records)),
        ("minDCF(0.01)", *(shown_cost(record) for record in records)),
    ]
    print()
    for title, *cells in rows:
        print(f"{title:<18}" + "".join(f"{cell:<24}" for cell in cells))
    print()
