"""Manifests (CSV files) of VoxCeleb1, VoxCeleb2 or both.

    python voxceleb_prepare.py DATA_FOLDER SAVE_FOLDER --verification-file LIST

``prepare_voxceleb`` takes what SpeechBrain's function of that name takes, so
that its scripts run with this file beside them. The work is done by
``speechbrain_attn.dataio.corpus``.
"""

import argparse
import os
import sys

from speechbrain_attn.dataio.corpus import prepare_corpus
from speechbrain_attn.dataio.corpus_options import SPLITS, CorpusOptions
from speechbrain_attn.errors import AttnError


def prepare_voxceleb(
    data_folder,
    save_folder,
    verification_pairs_file,
    splits=SPLITS,
    split_ratio=(90, 10),
    seg_dur=3.0,
    amp_th=0.0,
    source=None,
    split_speaker=False,
    random_segment=False,
    skip_prep=False,
    validation_pairs_file=None,
    keep_short=False,
    seed=0,
):
    """Write the manifests of a corpus into ``save_folder`` and say what.

    Arguments
    ---------
    data_folder : str or list of str
        Folder of a VoxCeleb-like tree; several as a list or as "a,b".
    source : None
        Not supported: the archives are to be unpacked beforehand.
    skip_prep : bool
        Return at once.
    save_folder, verification_pairs_file, validation_pairs_file, ...
        As in ``speechbrain_attn.dataio.corpus.CorpusOptions``.

    Raises
    ------
    AttnError
        As ``speechbrain_attn.dataio.corpus.prepare_corpus``.
    """
    if skip_prep:
        return
    if source is not None:
        raise AttnError(
            f"source={source}: archives are not unpacked here; unpack them "
            "into data_folder, and leave source (voxceleb_source) out."
        )
    if verification_pairs_file is None:
        raise AttnError(
            "verification_file must be given: a trial list, whose speakers "
            "are left out of training."
        )
    options = CorpusOptions(
        data_folders=_folders(data_folder),
        save_folder=str(save_folder),
        verification_file=str(verification_pairs_file),
        validation_file=validation_pairs_file and str(validation_pairs_file),
        splits=tuple(splits),
        split_ratio=tuple(split_ratio),
        seg_dur=seg_dur,
        amp_th=amp_th,
        split_speaker=split_speaker,
        random_segment=random_segment,
        keep_short=keep_short,
        seed=seed,
    )
    for sentence in prepare_corpus(options):
        print(sentence)


def _folders(data_folder):
    if isinstance(data_folder, (list, tuple)):
        folders = data_folder
    elif os.path.isdir(data_folder):  # its name may hold a comma
        folders = [data_folder]
    else:
        folders = [part.strip() for part in str(data_folder).split(",")]
    return tuple(os.path.abspath(folder) for folder in folders)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        description="Write train, dev, enrol and test manifests of a corpus.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("data_folder", help='VoxCeleb-like tree; several as "a,b"')
    add("save_folder", help="where the manifests go")
    add("--verification-file", required=True, help="trial list of the test")
    add("--validation-file", help="trial list of held-back speakers")
    add("--splits", nargs="+", choices=SPLITS, default=SPLITS)
    add("--split-ratio", nargs=2, type=float, default=(90, 10))
    add("--seg-dur", type=float, default=3.0, help="seconds of a chunk")
    add("--amp-th", type=float, default=0.0, help="mean amplitude of silence")
    add("--split-speaker", action="store_true", help="dev has own speakers")
    add("--random-segment", action="store_true", help="one row a file")
    add("--keep-short", action="store_true", help="keep short files whole")
    add("--seed", type=int, default=0, help="of the draw of dev")
    return vars(parser.parse_args(arguments))


def main(arguments=None):
    """Run the command; returns its exit code."""
    options = _parse(arguments)
    options["verification_pairs_file"] = options.pop("verification_file")
    options["validation_pairs_file"] = options.pop("validation_file")
    try:
        prepare_voxceleb(**options)
    except AttnError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
