"""Score a trial list from stored embeddings of any origin.

    python -m speechbrain_attn.scoring --embeddings STORE --trials LIST \\
        [--cohort STORE] [--plda train] [--compare OTHER] \\
        [--development LIST | --calibration calibration.json]

``recipes/VoxCeleb/extract_speaker_embeddings.py`` writes stores, and so does
``speechbrain_attn.scoring.store.EmbeddingStore.create``.
"""

import argparse
import dataclasses
import sys

from speechbrain_attn.errors import exit_on_error
from speechbrain_attn.scoring.calibrated import read_calibration
from speechbrain_attn.scoring.cohort import cohort_of
from speechbrain_attn.scoring.comparison import read_comparison
from speechbrain_attn.scoring.inputs import Inputs, read_list
from speechbrain_attn.scoring.options import ScoringOptions
from speechbrain_attn.scoring.results_folder import refuse_own_inputs
from speechbrain_attn.scoring.results_page import printed
from speechbrain_attn.scoring.run import run_scoring
from speechbrain_attn.scoring.store import EmbeddingStore
from speechbrain_attn.scoring.systems import TITLES


def parse(arguments, prog):
    """The command line, as a namespace; names as in ``ScoringOptions``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Score a trial list from stored embeddings.",
    )
    add = parser.add_argument
    add(
        "--embeddings",
        nargs="+",
        required=True,
        metavar="STORE",
        help="stores that hold the utterances of the lists",
    )
    add("--trials", required=True, metavar="LIST")
    add(
        "--output",
        default="results/scoring",
        metavar="FOLDER",
        help="where results go",
    )
    add("--scoring", choices=TITLES, help="what scores.txt holds")
    add("--cohort", metavar="STORE", help="store of other speakers")
    add(
        "--cohort-utterances",
        action="store_true",
        help="compare with its utterances, not with the means of its speakers",
    )
    add("--cohort-top", type=int, metavar="N", help="for adaptive s-norm")
    add("--plda", metavar="FILE", help="saved, or `train`: on the cohort")
    add("--lda-size", type=int, metavar="N", help="where PLDA is trained")
    add(
        "--development",
        "--development-file",
        dest="development_file",
        metavar="LIST",
        help="list of other speakers, for calibration and fusion",
    )
    add(
        "--duration-term",
        action="store_true",
        help="calibrate with durations too",
    )
    add(
        "--calibration",
        metavar="FILE",
        help="calibration.json of an earlier run, for these scores",
    )
    add(
        "--p-target",
        type=float,
        metavar="P",
        help="prior of a decision; None: the calibration's, or 0.05",
    )
    add("--compare", metavar="OTHER", help="scores.txt of the list, or a store")
    add("--enrol-map", metavar="FILE", help="lines `model utterance ...`")
    add("--utt2spk", metavar="FILE", help="lines `utterance speaker`")
    add("--replicates", type=int, metavar="N", help="of intervals")
    fields = dataclasses.fields(ScoringOptions)
    parser.set_defaults(**{field.name: field.default for field in fields})
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    if arguments is None:
        arguments = sys.argv[1:]
    return parser.parse_args([_with_dashes(one) for one in arguments])


def _with_dashes(argument):
    """``--enrol_map=x`` as ``--enrol-map=x``: scripts and YAML have both."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


@exit_on_error
def main(arguments=None, prog="python -m speechbrain_attn.scoring"):
    """Read, score, print; ``prog`` is how its help calls the command."""
    given = parse(arguments, prog)
    fields = dataclasses.fields(ScoringOptions)
    options = ScoringOptions(
        **{field.name: getattr(given, field.name) for field in fields}
    )
    refuse_own_inputs(given.output, options, given.trials)
    calibration = read_calibration(options)
    stores = [EmbeddingStore.open(folder) for folder in given.embeddings]
    test = read_list(given.trials, options)
    development = cohort = None
    if options.development_file:
        development = read_list(options.development_file, options)
    if options.cohort:
        store = EmbeddingStore.open(options.cohort)
        cohort = cohort_of(store, store.folder.name, options.utt2spk)
    results = run_scoring(
        options,
        Inputs(
            test,
            stores,
            development,
            stores if development else None,
            cohort,
            calibration,
            read_comparison(options, test),
        ),
        given.output,
        made_by=", ".join(store.folder.name for store in stores),
    )
    print("\n".join(printed(results)))
    print(f"results: {given.output}")


if __name__ == "__main__":
    main()
