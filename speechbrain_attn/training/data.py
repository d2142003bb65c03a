"""Rows, crops and speakers of a training run, and how they are loaded."""

import os
from dataclasses import dataclass

from speechbrain.dataio.encoder import CategoricalEncoder
from torch.utils.data import DataLoader, Dataset, Sampler

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.dataio.crops import RandomCrops
from speechbrain_attn.dataio.datasets import (
    TrainingExamples,
    ValidationExamples,
    collate,
    speaker_encoder,
)
from speechbrain_attn.dataio.epochs import EpochBatchSampler
from speechbrain_attn.dataio.rows import ManifestRows
from speechbrain_attn.dataio.sampling import CropDataset
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.dataio.utterance_files import trial_files
from speechbrain_attn.errors import AttnError
from speechbrain_attn.training.speeds import all_speeds


@dataclass
class TrainingData:
    """What a run trains on and is validated with.

    Attributes
    ----------
    rows : ManifestRows
        Of ``train.csv``.
    examples : torch.utils.data.Dataset
        What the training loader reads.
    sampler : torch.utils.data.Sampler
        Makes the batches of it, and shares them out among processes.
    dev : Dataset or DataLoader
        Chunks of the same speakers; an empty loader where there are none.
    encoder : CategoricalEncoder
        Class numbers of the speakers.
    num_speakers : int
        Classes of them; those above are speakers at other speeds.
    crops : RandomCrops
        To be told of each epoch.
    validation : tuple or None
        Trials of held-back speakers, and their files.
    criterion : str or None
        The metric that chooses the best checkpoint.
    """

    rows: ManifestRows
    examples: Dataset
    sampler: Sampler
    dev: Dataset | DataLoader
    encoder: CategoricalEncoder
    num_speakers: int
    crops: RandomCrops
    validation: tuple | None
    criterion: str | None

    def files(self):
        """Paths of the training files, in the order of their utterances.

        Sorted paths would be in another order where they lie in shards.
        """
        return list(self.rows.paths)


def read_training_data(hparams):
    """Build the data that a training YAML describes, from its manifests.

    Arguments
    ---------
    hparams : dict
        A loaded YAML; its manifests are written already.

    Returns
    -------
    TrainingData

    Raises
    ------
    AttnError
        A manifest or trial list cannot be read or holds nothing, or an option
        does not fit the data.
    """
    folder = hparams["data_folder"]
    rows = ManifestRows(hparams["train_annotation"], folder)
    if not len(rows):
        raise AttnError(f"{hparams['train_annotation']}: holds no rows.")
    encoder = speaker_encoder(
        rows,
        os.path.join(hparams["save_folder"], "label_encoder.txt"),
        hparams.get("out_n_neurons"),
    )
    num_speakers = hparams.get("out_n_neurons") or len(encoder)
    speeds = _speeds(hparams, num_speakers)
    num_samples = round(hparams["sentence_len"] * SAMPLE_RATE)
    crops = RandomCrops(num_samples, hparams["seed"], speeds)
    if hparams.get("batch_sampler") is None:
        examples = TrainingExamples(
            rows, encoder, crops, hparams["random_chunk"], num_speakers
        )
        sampler = EpochBatchSampler(
            len(rows),
            hparams["dataloader_options"]["batch_size"],
            hparams["dataloader_options"]["shuffle"],
            hparams["seed"],
            **_place_among_processes(),
            min_steps=hparams.get("min_epoch_steps") or 0,
        )
    else:
        examples = CropDataset(rows, encoder, speeds, num_speakers)
        sampler = hparams["batch_sampler"](
            *examples.speakers_and_files(), **_place_among_processes()
        )
        if not hasattr(sampler, "step_size"):
            raise AttnError(
                f"batch_sampler: a {type(sampler).__name__} has no step_size, "
                "the number of crops of a step over all processes."
            )
    dev = _dev_rows(hparams, encoder)
    validation = _validation_trials(hparams)
    criterion = "ErrorRate" if dev else None
    return TrainingData(
        rows=rows,
        examples=examples,
        sampler=sampler,
        # Without dev rows an empty loader: the host's fit would skip the end
        # of the validation stage, where checkpoints are saved.
        dev=dev or DataLoader([]),
        encoder=encoder,
        num_speakers=num_speakers,
        crops=crops,
        validation=validation,
        criterion="EER" if validation else criterion,
    )


def _speeds(hparams, num_speakers):
    """Percents of all speeds, for which the classifier must have classes."""
    speeds = all_speeds(hparams.get("speaker_speeds") or [])
    if len(speeds) > 1 and hparams.get("speeds"):
        raise AttnError(
            f"speeds={hparams['speeds']} and speaker_speeds={speeds[1:]}: a "
            "crop would be played at the product of two speeds, whoever its "
            "speaker is. Take one: --speeds=[] or --speaker_speeds=[]."
        )
    wanted = num_speakers * len(speeds)
    found = hparams.get("num_classes", num_speakers)
    if "out_n_neurons" in hparams and found != wanted:
        raise AttnError(
            f"num_classes={found}: speaker_speeds={speeds[1:]} make {wanted} "
            f"classes of {num_speakers} speakers; leave num_classes as it is "
            "in hparams/serialized_mha.yaml, and give it to the classifier."
        )
    return speeds


def _place_among_processes():
    return {
        "rank": int(os.environ.get("RANK", 0)),
        "world_size": int(os.environ.get("WORLD_SIZE", 1)),
    }


def _dev_rows(hparams, encoder):
    """Dev rows that have a known speaker; None if the split has no dev rows."""
    if not hparams["split_ratio"][1]:
        return None
    if "error_stats" not in hparams:
        raise AttnError(
            f"split_ratio={hparams['split_ratio']}: dev rows are there to "
            "measure the errors of a classifier, and this YAML has no "
            "error_stats; set --split_ratio=[100,0], and name a list of "
            "held-back speakers with --validation_file."
        )
    rows = ManifestRows(hparams["valid_annotation"], hparams["data_folder"])
    return ValidationExamples(rows, encoder)


def _validation_trials(hparams):
    """Trials of ``validation_file`` and their files; None without it."""
    if hparams.get("validation_file") is None:
        return None
    trials = trials_from_file(hparams["validation_file"])
    return trials, trial_files(trials, hparams["data_folder"])


def loader_options(hparams, data, device_type):
    """Options of the training and of the validation loader.

    Arguments
    ---------
    hparams : dict
        A loaded YAML.
    data : TrainingData
    device_type : str
        Of the training, such as "cuda".
    """
    options = {
        "pin_memory": device_type == "cuda",
        **hparams["dataloader_options"],
        "collate_fn": collate,
    }
    # The sampler has the first two, and never leaves a row out.
    of_batches = ("batch_size", "shuffle", "drop_last")
    shared = {key: options[key] for key in options if key not in of_batches}
    return (
        {**shared, "batch_sampler": data.sampler},
        {**options, "shuffle": False, "drop_last": False},
    )
