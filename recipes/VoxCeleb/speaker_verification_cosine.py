#!/usr/bin/env python3
"""Score a trial list by the cosine of speaker embeddings.

    python speaker_verification_cosine.py hparams/verification_<system>.yaml \
        --data_folder=/path/to/voxceleb1 --verification_file=veri_test2.txt \
        --pretrain_path=<output_folder of the training>/save/CKPT+...

A trained model folder is scored with ``hparams/verification_model.yaml``. The
YAML is one for this script and for SpeechBrain's script of the same name;
nothing is downloaded.

Options, on the command line or as keys of the YAML (more of each in
``speechbrain_attn.scoring.options``):

--cohort=save/train.csv     utterances of other speakers (a list, a manifest, a
                            folder or a store): adds mean subtraction, s-norm
                            and adaptive s-norm; --cohort_top, and
                            --cohort_utterances=True against single utterances
--development_file=dev.txt  list of other speakers: adds calibration and fusion;
                            --duration_term=True calibrates with durations too
--calibration=calibration.json
                            of an earlier run, in place of a development list;
                            refused for another scoring, model or cohort
--p_target=0.01             prior at which trials are decided on
--scoring=as-norm           whose scores go into scores.txt; else the cosine
--plda=plda.safetensors     adds a back end of speaker_verification_plda.py
--compare=scores.txt        another system's scores of the list, or its store
--enrol_map=, --utt2spk=    utterances of each model, speaker of each utterance
--embeddings_folder=        where embeddings are kept, for several runs

Written into ``output_folder``: ``scores.txt`` (a line ``enrolment test label
score`` for each trial), ``results.md`` and ``results.json`` with confidence
intervals, pictures and ``log.txt``; with a calibration ``calibration.json`` and
``decisions.csv`` (log-likelihood ratio, posterior and decision of each trial),
with a development list ``fusion.json``. Each utterance is embedded once; after
a kill, and for other options, the same embeddings are used again.
"""

import sys

from speechbrain_attn.errors import exit_on_error
from speechbrain_attn.inference.verification_script import verify_lists


@exit_on_error
def main(arguments):
    """Embed, score, write."""
    verify_lists(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
