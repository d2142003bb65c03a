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
optionally those of docs/training_options.md and

- ``validation_file``: trial list of speakers that are kept out of training;
  its EER is logged after each epoch and decides which checkpoint is kept
- ``tensorboard_folder``: writes the log of each epoch for TensorBoard, too
- ``fea_augment``: callable(features, lengths) on training features
- ``batch_sampler``: called with the speaker and the file of each training row,
  ``rank`` and ``world_size`` makes the batches, as GE2E needs; see
  ``dataio.sampling.SpeakerBatchSampler`` for what it must have
- ``compute_cost`` also in ``modules``: a loss with parameters of its own
- ``penalty_factor``: of ``embedding_model.penalty(features, lengths)``, which
  is added to the loss
- ``pretrained_start``: a pretrained model to start from (``hub.adapt``)
- ``lr_annealing.on_validation(metric)``: told the metric of each validation
"""

import os
import re
import sys

import speechbrain as sb
import torch
from speechbrain.utils.distributed import main_process_only, run_on_main
from voxceleb_prepare import prepare_voxceleb

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.dataio.batching import zero_padding
from speechbrain_attn.errors import AttnError, exit_on_error
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.folder import write_model_folder
from speechbrain_attn.inference.extraction import extract_embeddings
from speechbrain_attn.lobes.features import batch_features
from speechbrain_attn.nnet.schedules import set_learning_rate
from speechbrain_attn.processes import end_process
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.metrics import eer
from speechbrain_attn.training.allocator import keep_freed_memory
from speechbrain_attn.training.brain import ResumableBrain
from speechbrain_attn.training.data import loader_options, read_training_data
from speechbrain_attn.training.speeds import classifier_of_real_speakers
from speechbrain_attn.training.tensorboard import (
    tensorboard_writer,
    write_scalars,
)

# Training files behind the mean of mean_var_norm_emb: the mean of so many
# embeddings differs little from that of all.
NORM_FILES = 1000


class SpeakerBrain(ResumableBrain):
    """Trains an embedding network by a loss on its batches."""

    def __init__(self, data, **host_arguments):
        super().__init__(**host_arguments)
        self.data = data
        self.tensorboard = tensorboard_writer(self.option("tensorboard_folder"))

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
        predictions = self.modules.classifier(embeddings)
        if stage != sb.Stage.TRAIN:
            # Without the classes of speakers at other speeds.
            predictions = predictions[..., : self.data.num_speakers]
        return predictions, lengths, penalty

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

    def on_stage_start(self, stage, epoch=None):
        """Choose the crops of the epoch."""
        super().on_stage_start(stage, epoch)
        if stage == sb.Stage.TRAIN:
            self.data.crops.set_epoch(epoch)
        else:
            error_stats = self.option("error_stats")
            self.error_metrics = error_stats and error_stats()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log the epoch, move the learning rate on, save a checkpoint."""
        if stage == sb.Stage.TRAIN:
            self.train_stats = {
                "loss": stage_loss,
                "data_wait_ms": self.data_wait_ms(),
            }
            return
        stats, criterion = {}, self.data.criterion
        if self.error_metrics and self.error_metrics.ids:
            stats["loss"] = stage_loss
            stats["ErrorRate"] = self.error_metrics.summarize("average")
        if self.data.validation is not None:
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
        if self.tensorboard is not None:
            write_scalars(
                self.tensorboard,
                epoch,
                {"train": {"lr": old_lr, **self.train_stats}, "valid": stats},
            )
        self.save_epoch(
            {key: stats[key] for key in ([criterion] if criterion else [])}
        )

    def validation_eer(self):
        """Equal error rate in [0, 1] of the list ``validation_file``."""
        trials, files = self.data.validation
        scores = cosine_scores(self.embed(files), trials.enrol, trials.test)
        return float(eer(scores, trials.labels))

    def embed(self, files, modules=None):
        """Embeddings [utterances, embedding_size] of {utterance: path}."""
        # hparams.modules, since those of the Brain may be wrapped for DDP,
        # where a forward pass waits for the other processes.
        modules = modules or self.hparams.modules
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


def write_model(brain, hparams_file, overrides):
    """Write the trained network as ``<output_folder>/model``."""
    data, modules = brain.data, dict(brain.hparams.modules)
    if len(data.crops.speeds) > 1 and "num_classes" in vars(brain.hparams):
        modules["classifier"], overrides = classifier_of_real_speakers(
            modules["classifier"], hparams_file, overrides, data.num_speakers
        )
    paths = data.files()
    paths = paths[:: -(-len(paths) // NORM_FILES)]
    write_model_folder(
        os.path.join(brain.hparams.output_folder, "model"),
        hparams_file=hparams_file,
        overrides=overrides,
        modules=modules,
        label_encoder=data.encoder,
        mean_var_norm_emb_embeddings=brain.embed({p: p for p in paths}),
    )


@exit_on_error
def main():
    """Prepare, train, and write the model folder."""
    # Crops have one length, with GE2E some 40, so the search for the fastest
    # kernels pays.
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
    data = read_training_data(hparams)
    brain = SpeakerBrain(
        data,
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    if brain.device_type == "cpu":
        keep_freed_memory()
    train_options, valid_options = loader_options(
        hparams, data, brain.device_type
    )
    brain.warn_of_schedule(len(data.sampler))
    brain.begin_from(brain.option("pretrained_start"), data, brain.embed)
    try:
        brain.fit(
            hparams["epoch_counter"],
            data.examples,
            data.dev,
            train_loader_kwargs=train_options,
            valid_loader_kwargs=valid_options,
        )
    except AttnError as error:
        # A worker of the loader puts its traceback before the message.
        raise AttnError(re.split(r"\n[\w.]+Error: ", str(error))[-1]) from None
    brain.load_final_weights(data.criterion)
    run_on_main(write_model, args=[brain, hparams_file, overrides])
    end_process()


if __name__ == "__main__":
    main()
