#!/usr/bin/env python3
"""Score a VoxCeleb-style trial list by the cosine of speaker embeddings.

    python speaker_verification_cosine.py hparams/verification_<system>.yaml \
        --data_folder=/path/to/voxceleb1 --verification_file=veri_test2.txt \
        --pretrain_path=<output_folder of the training>/save/CKPT+...

A trained model folder is scored with ``hparams/verification_model.yaml``.
Each utterance that the list names is embedded once. Written into
``output_folder``: ``scores.txt`` (a line ``enrolment test label score`` for
each trial), ``results.json`` and ``log.txt``. The YAML is one for this script
and for SpeechBrain's script of the same name; nothing is downloaded.
"""

import json
import logging
import os
import sys
import time

import speechbrain as sb
from speechbrain.utils.checkpoints import (
    DEFAULT_LOAD_HOOKS,
    get_default_hook,
    torch_recovery,
)
from speechbrain.utils.distributed import infer_device

from speechbrain_attn.dataio.trials import trial_files, trials_from_file
from speechbrain_attn.errors import AttnError, exit_on_error
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.weights import load_weights
from speechbrain_attn.inference.extraction import extract_embeddings
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.metrics import eer, min_dcf

logger = logging.getLogger(__name__)

KEYS = (
    "data_folder",
    "verification_file",
    "output_folder",
    "pretrainer",
    "compute_features",
    "mean_var_norm",
    "embedding_model",
)
# Keys of SpeechBrain's script that change its scores and that this one lacks.
NOT_SUPPORTED = ("score_norm", "voxceleb_source")
P_TARGET = 0.01


def check_keys(hparams, hparams_file):
    """Raise an AttnError for a key that is missing or would have no effect."""
    missing = [key for key in KEYS if key not in hparams]
    if missing:
        raise AttnError(
            f"{hparams_file}: has no {', '.join(missing)}. Is it one of the "
            "verification_*.yaml files?"
        )
    for key in NOT_SUPPORTED:
        if hparams.get(key) is not None:
            raise AttnError(
                f"{key}: {hparams[key]!r} is not supported by this script; "
                f"switch it off with --{key}=null, or run SpeechBrain's "
                "script with the same YAML."
            )


def load_pretrained(pretrainer):
    """Load what the YAML's pretrainer names, from where it lies.

    Not by the pretrainer itself: it only warns of parameters that a file
    lacks, keeps using the links of an earlier model in ``save_folder``, and
    takes a folder that is not there for a name on the hub.
    """
    for name, loadable in pretrainer.loadables.items():
        if not pretrainer.is_loadable(name):
            continue
        if name not in pretrainer.paths:
            raise AttnError(f"pretrainer: paths has no entry for {name!r}.")
        path = str(pretrainer.paths[name])
        hook = get_default_hook(loadable, DEFAULT_LOAD_HOOKS)
        if hook is torch_recovery:
            load_weights(loadable, path)
        elif hook is not None and os.path.isfile(path):
            # For example a normaliser, which keeps its own kind of file.
            hook(loadable, path, False)
        else:
            raise AttnError(f"pretrainer: {name!r} cannot be loaded: {path}.")


def score(hparams, trials, files, device, precision):
    """Cosine scores of the trials, [trials]; each file is embedded once."""
    embeddings, _ = extract_embeddings(
        files,
        hparams["compute_features"],
        hparams["mean_var_norm"],
        hparams["embedding_model"],
        device=device,
        precision=precision,
    )
    return cosine_scores(embeddings, trials.enrol, trials.test)


def summarise(hparams, trials, scores, precision):
    """What results.json holds; rates and costs are fractions."""
    labels = trials.labels
    return {
        "trial_list": trials.path,
        "num_trials": len(trials),
        "num_targets": int(labels.sum()),
        "num_utterances": len(trials.utterances),
        "model": str(hparams.get("pretrain_path")),
        "scoring": "cosine",
        "precision": precision,
        "eer": eer(scores, labels),
        "min_dcf": {
            "p_target": P_TARGET,
            "c_miss": 1.0,
            "c_fa": 1.0,
            "normalised": min_dcf(scores, labels, P_TARGET),
            "raw": min_dcf(scores, labels, P_TARGET, normalised=False),
        },
    }


def score_lines(trials, scores):
    """Lines of scores.txt in the form of SpeechBrain's script."""
    names = trials.utterances
    for enrol, test, label, value in zip(
        trials.enrol, trials.test, trials.labels, scores, strict=True
    ):
        yield f"{names[enrol]} {names[test]} {label:d} {value:.6f}\n"


def write_file(path, lines):
    """Write a text file under another name, then rename it."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.replace(temporary, path)
    except OSError as error:
        raise AttnError(
            f"{path}: cannot be written ({error.strerror}); make room, or "
            "choose another output_folder."
        ) from None


def report(results):
    """One line with the figures and what they were measured on."""
    cost = results["min_dcf"]
    return (
        f"{os.path.basename(results['trial_list'])}: "
        f"{results['num_trials']:,} trials, {results['num_targets']:,} of "
        f"them targets: EER {results['eer']:.2%}, "
        f"minDCF({cost['p_target']}) {cost['normalised']:.4f} normalised "
        f"({cost['raw']:.6f} on SpeechBrain's raw scale)"
    )


@exit_on_error
def main(arguments):
    """Load, embed, score, write."""
    started = time.perf_counter()
    hparams_file, run_opts, overrides = sb.parse_arguments(arguments)
    hparams = load_hparams(hparams_file, overrides)
    check_keys(hparams, hparams_file)
    trials = trials_from_file(hparams["verification_file"])
    files = trial_files(trials, hparams["data_folder"])
    load_pretrained(hparams["pretrainer"])
    output_folder = hparams["output_folder"]
    sb.create_experiment_directory(
        experiment_directory=output_folder,
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    device, precision = run_opts.device or infer_device(), run_opts.precision
    scores = score(hparams, trials, files, device, precision)
    results = summarise(hparams, trials, scores, precision)
    results["seconds"] = round(time.perf_counter() - started, 1)
    write_file(
        os.path.join(output_folder, "scores.txt"), score_lines(trials, scores)
    )
    write_file(
        os.path.join(output_folder, "results.json"),
        [json.dumps(results, indent=2), "\n"],
    )
    logger.info(report(results))
    print(report(results))


if __name__ == "__main__":
    main(sys.argv[1:])
