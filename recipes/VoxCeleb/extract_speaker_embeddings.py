#!/usr/bin/env python3
"""Embed a corpus, or the utterances of a list, into an embedding store.

    python extract_speaker_embeddings.py <output_folder of training>/model \
        --data_folder=/path/to/voxceleb1 --output_folder=results/vox1

The first argument is a model folder (ours, or any of SpeechBrain's
``EncoderClassifier``), or one of ``hparams/verification_*.yaml`` with
``--pretrain_path=...``. Embedded is the whole tree of ``data_folder``, or

- with ``--verification_file=trials.txt`` what a trial list names, and with
  ``--enrol_map=models.txt`` the utterances of its models;
- with ``--files=list.txt`` what a list names, an utterance a line;
- with ``--files=train.csv`` the files of a manifest.

The store is ``<output_folder>/embeddings``; its utterances are named as trial
lists name them. After a kill the same command goes on. Over several processes:

    torchrun --nproc_per_node=4 extract_speaker_embeddings.py ...

on GPUs, and with ``--device=cpu --distributed_backend=gloo`` on CPU.

Files that cannot be used are listed with the reason in the store's
``left_out.csv``, counted on stderr, and the rest goes on; ``--on-error stop``
ends at the first. The exit code is 0 when the store is finished, with or
without such files, and 2, with one sentence on stderr, when it is not.
"""

import os
import sys

import speechbrain as sb
import yaml
from speechbrain.utils.distributed import if_main_process, infer_device

from speechbrain_attn.dataio.utterance_files import utterance_files
from speechbrain_attn.errors import AttnError, exit_on_error
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.folder import NETWORK_PARTS, load_network
from speechbrain_attn.hub.pretrained import load_pretrained
from speechbrain_attn.inference.store_extraction import (
    extract_to_store,
    num_left_out,
)
from speechbrain_attn.processes import end_process
from speechbrain_attn.scoring.store import LEFT_OUT_FILE, writing

# Of a model folder, whose own keys stay as they are.
FOLDER_OPTIONS = ("data_folder", "output_folder", "verification_file")


def split_options(overrides):
    """Options of this script alone, and the overrides of the YAML."""
    given = yaml.safe_load(overrides) or {}
    own = {"files": None, "enrol_map": None, "on_error": "skip"}
    for key in list(given):
        if (name := key.replace("-", "_")) in own:
            own[name] = given.pop(key)
    return own, given


def load_folder(folder, given):
    """Network of a model folder, and the options."""
    unknown = [key for key in given if key not in FOLDER_OPTIONS]
    if unknown:
        raise AttnError(
            f"--{unknown[0]}: is no option for a model folder; these are: "
            f"{', '.join(FOLDER_OPTIONS)}, files, enrol_map, on_error."
        )
    for key in ("data_folder", "output_folder"):
        if given.get(key) is None:
            raise AttnError(f"{key} must be given: add --{key}=...")
    return {**load_network(folder), **given}


def load_yaml(hparams_file, given):
    """What a verification YAML builds, with its weights."""
    # A trial list is a choice here, while the YAML asks for one.
    hparams = load_hparams(hparams_file, {"verification_file": None, **given})
    keys = (*NETWORK_PARTS, "pretrainer", "data_folder", "output_folder")
    missing = [key for key in keys if key not in hparams]
    if missing:
        raise AttnError(
            f"{hparams_file}: has no {', '.join(missing)}. Is it one of the "
            "verification_*.yaml files, or a model folder?"
        )
    load_pretrained(hparams["pretrainer"])
    return hparams


@exit_on_error
def main(arguments):
    """Load, embed, report."""
    model, run_opts, overrides = sb.parse_arguments(arguments)
    own, given = split_options(overrides)
    sb.utils.distributed.ddp_init_group(run_opts)
    if os.path.isdir(model):
        hparams = load_folder(model, given)
        hparams_file, given = os.path.join(model, "hyperparams.yaml"), {}
    else:
        hparams_file, hparams = model, load_yaml(model, given)
        given = {"verification_file": None, **given}
    files = utterance_files(
        hparams["data_folder"],
        hparams.get("verification_file"),
        own["files"],
        own["enrol_map"],
    )
    output_folder = hparams["output_folder"]
    with writing(output_folder):
        sb.create_experiment_directory(
            experiment_directory=output_folder,
            hyperparams_to_save=hparams_file,
            overrides=given,
        )
    store = extract_to_store(
        os.path.join(output_folder, "embeddings"),
        files,
        *(hparams[part] for part in NETWORK_PARTS),
        device=run_opts.device or infer_device(),
        on_error=own["on_error"],
        progress=not run_opts.noprogressbar,
        precision=run_opts.precision,
    )
    if if_main_process():
        num_utterances, size = store.embeddings.shape
        print(
            f"{store.folder}: {num_utterances:,} utterances, "
            f"{store.durations.sum() / 3600:.1f} h, embedding size {size}"
        )
        if num_utterances < len(files):
            print(
                f"{num_left_out(store):,} of {len(files):,} files could not "
                f"be embedded; {store.folder / LEFT_OUT_FILE} says why.",
                file=sys.stderr,
            )
    end_process()


if __name__ == "__main__":
    main(sys.argv[1:])
