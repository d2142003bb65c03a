#!/usr/bin/env python3
"""Score a trial list by LDA and PLDA on speaker embeddings.

    python speaker_verification_plda.py hparams/verification_<system>.yaml \
        --data_folder=/path/to/voxceleb1 --verification_file=veri_test2.txt \
        --cohort=<output_folder of the training>/save/train.csv \
        --pretrain_path=<output_folder of the training>/save/CKPT+...

The back end (LDA to ``--lda_size``, 128 if not given) is trained on the
utterances of ``cohort`` and saved in ``output_folder`` as
``plda.safetensors``; ``--plda=plda.safetensors`` loads one instead. The cosine
scorings are made and reported beside it.

Everything else is as in speaker_verification_cosine.py, whose text tells the
options and what is written; scores.txt holds the scores of PLDA, if
``--scoring`` does not say otherwise.
"""

import sys

from speechbrain_attn.errors import exit_on_error
from speechbrain_attn.inference.verification_script import verify_lists
from speechbrain_attn.scoring.options import TRAIN


@exit_on_error
def main(arguments):
    """Embed, train or load the back end, score, write."""
    verify_lists(arguments, plda=TRAIN, scoring="plda")


if __name__ == "__main__":
    main(sys.argv[1:])
