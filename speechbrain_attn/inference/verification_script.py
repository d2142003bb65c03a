"""What the recipe's verification scripts do: embed lists, score, report."""

import dataclasses
import hashlib
import json
import logging
import os
from pathlib import Path

import speechbrain as sb
import yaml
from speechbrain.utils.distributed import infer_device

from speechbrain_attn.dataio.utterance_files import trial_files, utterance_files
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.fingerprint import (
    file_states_sha256,
    network_sha256,
)
from speechbrain_attn.hub.folder import NETWORK_PARTS
from speechbrain_attn.hub.pretrained import load_pretrained
from speechbrain_attn.inference.extraction import batch_settings
from speechbrain_attn.inference.store_extraction import (
    extract_to_store,
    num_left_out,
)
from speechbrain_attn.scoring.calibrated import read_calibration
from speechbrain_attn.scoring.cohort import cohort_of
from speechbrain_attn.scoring.comparison import read_comparison
from speechbrain_attn.scoring.inputs import Inputs, read_list
from speechbrain_attn.scoring.options import ScoringOptions
from speechbrain_attn.scoring.results_folder import refuse_own_inputs
from speechbrain_attn.scoring.results_page import printed
from speechbrain_attn.scoring.run import run_scoring
from speechbrain_attn.scoring.store import (
    STORE_FILE,
    EmbeddingStore,
    writing,
)

logger = logging.getLogger(__name__)

KEYS = (
    "data_folder",
    "verification_file",
    "output_folder",
    "pretrainer",
    *NETWORK_PARTS,
)
# Keys of SpeechBrain's script that change its scores and that ours lack.
NOT_SUPPORTED = ("score_norm", "voxceleb_source")
_STORES = "embeddings_folder"
_OPTIONS = (
    *(field.name for field in dataclasses.fields(ScoringOptions)),
    _STORES,
)


def verify_lists(arguments, **defaults):
    """Embed and score as the command line and its YAML say; print figures.

    Arguments
    ---------
    arguments : list of str
        YAML file, then overrides of it, options of SpeechBrain's scripts
        (``--device``), those of ``ScoringOptions``, and
        ``--embeddings_folder``.
    **defaults
        Of the script, where they are not those of ``ScoringOptions``.

    Returns
    -------
    dict
        What ``results.json`` holds.

    Raises
    ------
    AttnError
        Whatever the user can mend.
    """
    hparams_file, run_opts, overrides = sb.parse_arguments(arguments)
    own, overrides = _split(yaml.safe_load(overrides) or {})
    refuse_unsupported(overrides)
    hparams = load_hparams(hparams_file, overrides, _OPTIONS)
    check_keys(hparams, hparams_file)
    options, stores_folder = _options({**defaults, **_split(hparams)[0], **own})
    output_folder = hparams["output_folder"]
    refuse_own_inputs(output_folder, options, hparams["verification_file"])
    calibration = read_calibration(options)
    test = read_list(hparams["verification_file"], options)
    development = None
    if options.development_file is not None:
        development = read_list(options.development_file, options)
    compared = read_comparison(options, test)
    files = _files(hparams["data_folder"], test, development, options.cohort)
    load_pretrained(hparams["pretrainer"])
    with writing(output_folder):
        sb.create_experiment_directory(
            experiment_directory=output_folder,
            hyperparams_to_save=hparams_file,
            overrides=overrides,
        )
    embed = Embedder(
        stores_folder or os.path.join(output_folder, "embeddings"),
        [hparams[part] for part in NETWORK_PARTS],
        run_opts.device or infer_device(),
        run_opts.precision,
    )
    inputs = _inputs(embed, files, test, development, options)._replace(
        calibration=calibration, compared=compared
    )
    model = Path(str(hparams.get("pretrain_path", hparams_file)))
    results = run_scoring(
        options, inputs, output_folder, "/".join(model.parts[-2:])
    )
    for line in printed(results):
        logger.debug(line)  # for log.txt alone: info is on the terminal too
        print(line)
    return results


def check_keys(hparams, hparams_file):
    """Raise an AttnError for a key that is missing or would have no effect."""
    missing = [key for key in KEYS if key not in hparams]
    if missing:
        raise AttnError(
            f"{hparams_file}: has no {', '.join(missing)}. Is it one of the "
            "verification_*.yaml files?"
        )
    refuse_unsupported(hparams)


def refuse_unsupported(given):
    """Raise an AttnError for a value of one of ``NOT_SUPPORTED``."""
    for key in NOT_SUPPORTED:
        if given.get(key) is not None:
            raise AttnError(
                f"{key}: {given[key]!r} is not supported by this script; "
                f"switch it off with --{key}=null. Here --cohort gives "
                "normalised scores."
            )


def _split(given):
    """Options of the scripts, and the rest; dashes are underscores."""
    own = {
        key.replace("-", "_"): value
        for key, value in given.items()
        if key.replace("-", "_") in _OPTIONS
    }
    rest = {
        key: value
        for key, value in given.items()
        if key.replace("-", "_") not in own
    }
    return own, rest


def _options(own):
    stores_folder = own.pop(_STORES, None)
    return ScoringOptions(**own), stores_folder


def _files(data_folder, test, development, cohort):
    """Name of each part that has to be embedded to its files."""
    files = {"test": trial_files(test.trials, data_folder)}
    if development is not None:
        files["development"] = trial_files(development.trials, data_folder)
    if cohort is None or _is_store(cohort):
        return files
    if os.path.isdir(cohort):
        return {**files, "cohort": utterance_files(cohort)}
    return {**files, "cohort": utterance_files(data_folder, files=cohort)}


def _is_store(path):
    return (Path(path) / STORE_FILE).exists()


def _inputs(embed, files, test, development, options):
    """The lists with their stores, after what is missing was embedded."""
    cohort, path = None, options.cohort
    if path is not None:
        if "cohort" in files:
            # A file of training data that is broken is no loss for a mean.
            store = embed(files["cohort"], on_error="skip")
        else:
            store = EmbeddingStore.open(path)
        name = os.path.basename(os.path.normpath(path))
        cohort = cohort_of(store, name, options.utt2spk)
    return Inputs(
        test,
        [embed(files["test"])],
        development,
        [embed(files["development"])] if development else None,
        cohort,
    )


class Embedder:
    """Embeds files into a store of their own, unless it is there.

    Arguments
    ---------
    folder : str
        Of the stores. The name of each tells network and files apart, so
        that another checkpoint or list never meets the embeddings of an
        earlier one, and the same ones are not made again.
    network : list
        Features, normalisation and embedding model.
    device, precision
        As for ``extract_to_store``.
    """

    def __init__(self, folder, network, device, precision):
        self.folder, self.network = folder, network
        self.device, self.precision = device, precision
        self._made_by = [
            network_sha256(network),
            batch_settings(device, precision),
        ]

    def __call__(self, files, on_error="stop"):
        """The EmbeddingStore of {utterance: path}."""
        described = json.dumps([*self._made_by, file_states_sha256(files)])
        name = hashlib.sha256(described.encode()).hexdigest()[:16]
        store = extract_to_store(
            os.path.join(self.folder, name),
            files,
            *self.network,
            device=self.device,
            on_error=on_error,
            precision=self.precision,
        )
        missing = num_left_out(store)
        if missing:
            logger.warning(
                "%s: %d of %d files could not be embedded.",
                store.folder,
                missing,
                len(files),
            )
        return store
