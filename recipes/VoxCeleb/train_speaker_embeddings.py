#!/usr/bin/env python3
"""Train speaker embeddings on VoxCeleb, or on a corpus laid out like it.

> python train_speaker_embeddings.py hparams/serialized_mha.yaml \
      --data_folder=/path/to/VoxCeleb --verification_file=/path/to/trials.txt

Any ``--key=value`` replaces a key of the YAML file. The same command goes on
from the last checkpoint of an interrupted run. Several processes, on GPUs or
(with ``--device=cpu --distributed_backend=gloo``) on CPU:

> torchrun --nproc_per_node=2 train_speaker_embeddings.py hparams/...

What is trained, and how, stands in the YAML file. It holds the keys that
SpeechBrain's own script of this name reads, so that one runs it too, and
optionally

- ``validation_file``: trial list of speakers that are kept out of training;
  its EER is logged after each epoch and decides which checkpoint is kept
- ``tensorboard_folder``: writes the log of each epoch for TensorBoard, too
- ``fea_augment``: callable(features, lengths) on training features
- ``batch_sampler``: called with the speaker and the file of each training row
  makes the batches (``dataio.sampling.SpeakerBatchSampler``), as GE2E needs
- ``compute_cost`` also in ``modules``: a loss with parameters of its own
- ``penalty_factor``: of ``embedding_model.penalty(features, lengths)``, which
  is added to the loss
- ``lr_annealing.on_validation(metric)``: told the metric of each validation
"""

import logging
import os
import random
import re
import sys
import time
import zlib

import speechbrain as sb
import torch
from speechbrain.utils.distributed import (
    if_main_process,
    main_process_only,
    run_on_main,
)
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from voxceleb_prepare import prepare_voxceleb

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.dataio.batching import zero_padding
from speechbrain_attn.dataio.crops import RandomCrops
from speechbrain_attn.dataio.datasets import (
    collate,
    read_manifest,
    set_training_pipeline,
    speaker_encoder,
    validation_rows,
)
from speechbrain_attn.dataio.sampling import CropDataset
from speechbrain_attn.dataio.trials import trial_files, trials_from_file
from speechbrain_attn.errors import AttnError, exit_on_error
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.checkpoints import recover, set_torn_aside
from speechbrain_attn.hub.folder import write_model_folder
from speechbrain_attn.inference.extraction import extract_embeddings
from speechbrain_attn.lobes.features import batch_features
from speechbrain_attn.nnet.schedules import regroup, set_learning_rate
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.metrics import eer

logger = logging.getLogger(__name__)

# Training files behind the mean of mean_var_norm_emb: the mean of so many
# embeddings differs little from that of all.
NORM_FILES = 1000


class SpeakerBrain(sb.Brain):
    """Trains an embedding network by a loss on its batches."""

    def compute_forward(self, batch, stage):
        """Predictions [batch, 1, speakers], lengths [batch] and a penalty."""
        padded = bool((batch.sig.lengths < 1).any())
        wavs, lengths = batch.to(self.device).sig
        if stage == sb.Stage.TRAIN and self.option("wav_augment"):
            wavs, lengths = self.hparams.wav_augment(wavs, lengths)
        # Crops of one length have no padding: no masks, and no cost of them.
        known = lengths if padded else None
        if padded:
            wavs = zero_padding(wavs, lengths)
        feats = batch_features(self.modules.compute_features, wavs, known)
        feats = self.modules.mean_var_norm(feats, known)
        if stage == sb.Stage.TRAIN and self.option("fea_augment"):
            feats = self.hparams.fea_augment(feats, lengths)
        penalty = 0.0
        if stage == sb.Stage.TRAIN and self.option("penalty_factor"):
            embeddings, penalty = self.modules.embedding_model(
                feats, known, with_penalty=True
            )
            penalty = self.hparams.penalty_factor * penalty
        else:
            embeddings = self.modules.embedding_model(feats, known)
        return self.modules.classifier(embeddings), lengths, penalty

    def compute_objectives(self, predictions, batch, stage):
        """Loss of a batch; moves the learning rate on while training."""
        predictions, lengths, penalty = predictions
        speakers = batch.spk_id_encoded.unsqueeze(1)
        if stage == sb.Stage.TRAIN and self.option("wav_augment"):
            speakers = self.hparams.wav_augment.replicate_labels(speakers)
        # In modules it has parameters, and may be wrapped for DDP.
        wrapped = "compute_cost" in self.modules
        losses = self.modules if wrapped else self.hparams
        loss = losses.compute_cost(predictions, speakers, lengths) + penalty
        if stage != sb.Stage.TRAIN:
            self.error_metrics.append(batch.id, predictions, speakers, lengths)
        elif hasattr(self.hparams.lr_annealing, "on_batch_end"):
            self.hparams.lr_annealing.on_batch_end(self.optimizer)
        return loss

    def option(self, key):
        """Value of a key that the YAML file may leave out or set to null."""
        return getattr(self.hparams, key, None)

    def on_fit_start(self):
        """As in the host, but goes on from the last *whole* checkpoint."""
        self._compile()
        self._wrap_distributed()
        self.init_optimizers()
        run_on_main(set_torn_aside, args=[self.checkpointer])
        recover(self.checkpointer)
        if self._optimizer_step_limit_exceeded:
            # The host would log and save one more epoch, of no batches.
            counter = self.hparams.epoch_counter
            counter.limit = counter.current

    def _wrap_distributed(self):
        if not self.distributed_launch or self.device_type != "cpu":
            super()._wrap_distributed()
            return
        # The host turns batch norm into SyncBatchNorm, which runs on GPUs
        # only. On CPU each process normalises by its own crops, and the
        # running statistics are those of the first process.
        for name, module in self.modules.items():
            if any(p.requires_grad for p in module.parameters()):
                self.modules[name] = DistributedDataParallel(
                    module, find_unused_parameters=self.find_unused_parameters
                )

    def _train_loader_specifics(self, dataset, loader_kwargs):
        # A sampler of batches shares them out among processes by itself.
        sampler = loader_kwargs.get("batch_sampler")
        if sampler is None:
            return super()._train_loader_specifics(dataset, loader_kwargs)
        self.train_sampler = sampler  # the host tells it each epoch
        return loader_kwargs

    def init_optimizers(self):
        """As in the host, and with the groups that modules ask for."""
        super().init_optimizers()
        # hparams.modules, since those of the Brain may be wrapped for DDP.
        for module in self.hparams.modules.values():
            if hasattr(module, "parameter_groups"):
                regroup(self.optimizer, module.parameter_groups())

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        # Gradients are not saved: never between two steps of the optimiser.
        if self.step % self.grad_accumulation_factor:
            return False
        return super()._should_save_intra_epoch_ckpt(
            last_ckpt_time, steps_since_ckpt
        )

    def on_stage_start(self, stage, epoch=None):
        """Choose the crops of the epoch and start the clock."""
        if stage != sb.Stage.TRAIN:
            error_stats = self.option("error_stats")
            self.error_metrics = error_stats and error_stats()
            return
        self.epoch = epoch
        self.hparams.crops.set_epoch(epoch)
        self.data_wait_s, self.num_batches = 0.0, 0
        self.batch_ended = time.perf_counter()

    def on_fit_batch_start(self, batch, should_step):
        """Seed the step by its number, and count the wait for its data."""
        self.data_wait_s += time.perf_counter() - self.batch_ended
        self.num_batches += 1
        # Augmentation and dropout follow from seed, epoch, step and process
        # alone, so a resumed run draws what the unbroken one would have.
        rank = os.environ.get("RANK", "0")
        key = f"{self.hparams.seed} {self.epoch} {self.step} {rank}"
        torch.manual_seed(zlib.crc32(key.encode()))
        random.seed(key)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """From here on the next batch is waited for."""
        self.batch_ended = time.perf_counter()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log the epoch, move the learning rate on, save a checkpoint."""
        if stage == sb.Stage.TRAIN:
            wait = 1000 * self.data_wait_s / max(1, self.num_batches)
            self.train_stats = {"loss": stage_loss, "data_wait_ms": wait}
            return
        stats, criterion = {}, self.hparams.criterion
        if self.error_metrics and self.error_metrics.ids:
            stats["loss"] = stage_loss
            stats["ErrorRate"] = self.error_metrics.summarize("average")
        if self.hparams.validation is not None:
            stats["EER"] = main_process_only(self.validation_eer)()
        schedule = self.hparams.lr_annealing
        if criterion and hasattr(schedule, "on_validation"):
            schedule.on_validation(stats[criterion])
        old_lr, new_lr = schedule(epoch)
        set_learning_rate(self.optimizer, new_lr)
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "lr": old_lr},
            train_stats=self.train_stats,
            valid_stats=stats or None,
        )
        if self.hparams.tensorboard is not None:
            write_scalars(
                self.hparams.tensorboard,
                epoch,
                {"train": {"lr": old_lr, **self.train_stats}, "valid": stats},
            )
        keys = [criterion] if criterion else []
        self.checkpointer.save_and_keep_only(
            meta={key: stats[key] for key in keys}, min_keys=keys
        )

    def validation_eer(self):
        """Equal error rate in [0, 1] of the list ``validation_file``."""
        trials, files = self.hparams.validation
        scores = cosine_scores(self.embed(files), trials.enrol, trials.test)
        return float(eer(scores, trials.labels))

    def embed(self, files):
        """Embeddings [utterances, embedding_size] of {utterance: path}."""
        # hparams.modules, since those of the Brain may be wrapped for DDP,
        # where a forward pass waits for the other processes.
        modules = self.hparams.modules
        embeddings, _ = extract_embeddings(
            files,
            modules["compute_features"],
            modules["mean_var_norm"],
            modules["embedding_model"],
            device=self.device,
            progress=False,
            precision=self.eval_precision,
        )
        return embeddings


def tensorboard_writer(folder):
    """Writer of the main process; None if ``folder`` is, or elsewhere."""
    if folder is None or not if_main_process():
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise AttnError(
            f"tensorboard_folder={folder}: TensorBoard is not installed; "
            "pip install tensorboard, or set --tensorboard_folder=null."
        ) from None
    return SummaryWriter(folder)


def write_scalars(writer, epoch, stages):
    """Hand the statistics of each stage to TensorBoard."""
    for stage, stats in stages.items():
        for name, value in stats.items():
            writer.add_scalar(f"{stage}/{name}", value, epoch)
    writer.flush()


def loader_options(hparams, brain, train_data, sampler):
    """Options of the training and of the validation loader."""
    options = {
        "pin_memory": brain.device_type == "cuda",
        **hparams["dataloader_options"],
        "collate_fn": collate,
    }
    if sampler is not None:
        warn_of_schedule(hparams, brain, len(sampler))
        return {**options, "batch_sampler": sampler}, options
    num_processes = int(os.environ.get("WORLD_SIZE", 1))
    share = -(-len(train_data) // num_processes)  # rows of one process
    if share < 2:
        raise AttnError(
            f"{hparams['train_annotation']}: {len(train_data)} rows for "
            f"{num_processes} processes; each needs two at least. Are all "
            "speakers of data_folder in the trial lists?"
        )
    # Batch norm after the pooling cannot train on a batch of one.
    batch_size = options["batch_size"]
    if batch_size < 2:
        raise AttnError(f"batch_size={batch_size}: want two crops at least.")
    options["drop_last"] = share % batch_size == 1
    warn_of_schedule(hparams, brain, -(-share // batch_size))
    return options, {**options, "shuffle": False, "drop_last": False}


def warn_of_schedule(hparams, brain, num_batches):
    """Say so if the schedule is planned for another number of batches."""
    planned = getattr(hparams["lr_annealing"], "total_steps", None)
    if planned is None:
        return
    steps = hparams["epoch_counter"].limit * num_batches
    if brain.optimizer_step_limit is not None:
        limit = brain.optimizer_step_limit * brain.grad_accumulation_factor
        steps = min(steps, limit)
    if abs(planned - steps) > 0.1 * steps:
        logger.warning(
            "total_steps=%d plans the learning rate, and this run has about "
            "%d steps; set --total_steps=%d to have the rate come down.",
            planned,
            steps,
            steps,
        )


def prepare(hparams):
    """Write the manifests of the corpus, if they are not there yet."""
    if hparams["sample_rate"] != SAMPLE_RATE:
        raise AttnError(
            f"sample_rate={hparams['sample_rate']}: want {SAMPLE_RATE}, to "
            "which files of any rate are converted as they are read."
        )
    lists = {}
    for key in ("verification_file", "validation_file"):
        lists[key] = hparams.get(key)
        if "://" in str(lists[key]):
            raise AttnError(
                f"{key}={lists[key]}: nothing is downloaded here; fetch the "
                f"list yourself and set --{key}=/path/to/list.txt."
            )
    prepare_voxceleb(
        data_folder=hparams["data_folder"],
        save_folder=hparams["save_folder"],
        verification_pairs_file=lists["verification_file"],
        validation_pairs_file=lists["validation_file"],
        splits=["train", "dev"] if hparams["split_ratio"][1] else ["train"],
        split_ratio=hparams["split_ratio"],
        seg_dur=hparams["sentence_len"],
        keep_short=True,  # a crop repeats them
        skip_prep=hparams["skip_prep"],
    )


def datasets(hparams):
    """Training rows, dev rows and the encoder of speakers.

    Adds to ``hparams`` what the Brain needs: the ``crops`` that a new epoch
    is told to, the ``validation`` trials with their files or None, and the
    ``criterion``, the metric that chooses the best checkpoint, or None.
    """
    folder = hparams["data_folder"]
    train_data = read_manifest(hparams["train_annotation"], folder)
    dev_data = None
    if hparams["split_ratio"][1] and "error_stats" not in hparams:
        raise AttnError(
            f"split_ratio={hparams['split_ratio']}: dev rows are there to "
            "measure the errors of a classifier, and this YAML has no "
            "error_stats; set --split_ratio=[100,0], and name a list of "
            "held-back speakers with --validation_file."
        )
    if hparams["split_ratio"][1]:
        dev_data = read_manifest(hparams["valid_annotation"], folder)
    if train_data is None:
        raise AttnError(f"{hparams['train_annotation']}: holds no rows.")
    encoder = speaker_encoder(
        train_data,
        os.path.join(hparams["save_folder"], "label_encoder.txt"),
        hparams.get("out_n_neurons"),
    )
    num_samples = round(hparams["sentence_len"] * SAMPLE_RATE)
    crops = hparams["crops"] = RandomCrops(num_samples, hparams["seed"])
    set_training_pipeline(train_data, encoder, crops, hparams["random_chunk"])
    if dev_data is not None:
        dev_data = validation_rows(dev_data, encoder)
    hparams["criterion"] = "ErrorRate" if dev_data else None
    hparams["validation"] = None
    if hparams.get("validation_file") is not None:
        trials = trials_from_file(hparams["validation_file"])
        hparams["validation"] = trials, trial_files(trials, folder)
        hparams["criterion"] = "EER"
    # Without dev rows an empty loader: the host's fit would skip the end of
    # the validation stage, where checkpoints are saved.
    return train_data, dev_data or DataLoader([]), encoder


def batch_sampler(hparams, train_data):
    """What the YAML's ``batch_sampler`` makes of the rows; None without it."""
    if hparams.get("batch_sampler") is None:
        return None
    rows = [train_data.data[item] for item in train_data.data_ids]
    return hparams["batch_sampler"](
        [row["spk_id"] for row in rows],
        [row["wav"] for row in rows],
        rank=int(os.environ.get("RANK", 0)),
        world_size=int(os.environ.get("WORLD_SIZE", 1)),
    )


def write_model(brain, hparams_file, overrides, train_data, encoder):
    """Write the best network as ``<output_folder>/model``."""
    rows = [train_data.data[item]["wav"] for item in train_data.data_ids]
    paths = sorted(set(rows))
    paths = paths[:: -(-len(paths) // NORM_FILES)]
    write_model_folder(
        os.path.join(brain.hparams.output_folder, "model"),
        hparams_file=hparams_file,
        overrides=overrides,
        modules=brain.hparams.modules,
        label_encoder=encoder,
        mean_var_norm_emb_embeddings=brain.embed({p: p for p in paths}),
    )


@exit_on_error
def main():
    """Prepare, train, and write the model folder."""
    # Crops have one length, so the search for the fastest kernels pays.
    torch.backends.cudnn.benchmark = True
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams = load_hparams(hparams_file, overrides)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=hparams_file,
        overrides=overrides,
    )
    run_on_main(prepare, args=[hparams])
    train_data, dev_data, encoder = datasets(hparams)
    hparams["tensorboard"] = tensorboard_writer(
        hparams.get("tensorboard_folder")
    )
    brain = SpeakerBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    if brain.optimizer_step_limit is not None:
        # From the command line the host takes it as text.
        brain.optimizer_step_limit = int(brain.optimizer_step_limit)
    sampler = batch_sampler(hparams, train_data)
    train_options, valid_options = loader_options(
        hparams, brain, train_data, sampler
    )
    train_set = train_data
    if sampler is not None:
        train_set = CropDataset(train_data, encoder)
    try:
        brain.fit(
            hparams["epoch_counter"],
            train_set,
            dev_data,
            train_loader_kwargs=train_options,
            valid_loader_kwargs=valid_options,
        )
    except AttnError as error:
        # A worker of the loader puts its traceback before the message.
        raise AttnError(re.split(r"\n[\w.]+Error: ", str(error))[-1]) from None
    recover(brain.checkpointer, min_key=hparams["criterion"])
    run_on_main(
        write_model, args=[brain, hparams_file, overrides, train_data, encoder]
    )


if __name__ == "__main__":
    main()
