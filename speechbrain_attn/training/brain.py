"""The host's Brain for runs that may be killed, on GPUs or on CPUs."""

import itertools
import logging
import os
import random
import time
import zlib

import speechbrain as sb
import torch
import yaml
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import run_on_main
from torch.nn.parallel import DistributedDataParallel

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.checkpoints import recover, set_torn_aside
from speechbrain_attn.nnet.schedules import (
    regroup,
    scale_queries,
    spare_from_decay,
)
from speechbrain_attn.precision import warn_if_slow
from speechbrain_attn.training.averaging import (
    RunningAverage,
    average_last,
    end_of_epoch_first,
)
from speechbrain_attn.training.statistics import share_running_statistics

logger = logging.getLogger(__name__)


@register_checkpoint_hooks
class ResumableBrain(sb.Brain):
    """Trains so that a killed run ends with the weights of an unbroken one.

    What it reads from the YAML beside the host's keys may be left out there:
    ``no_decay``, ``query_scale``, ``ema_decay`` and ``average_checkpoints``.
    It counts the time that steps wait for their data: ``data_wait_ms``.

    Raises
    ------
    AttnError
        ``max_grad_norm``, ``query_scale`` or an option of averaging that
        cannot be met.
    """

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        warn_if_slow(self.precision, self.device)
        self.shares_statistics = False
        self.average = None
        if self.optimizer_step_limit is not None:
            # From the command line the host takes it as text.
            self.optimizer_step_limit = int(self.optimizer_step_limit)
        bound = self.max_grad_norm
        if not isinstance(bound, int | float) or not bound > 0:
            raise AttnError(
                f"max_grad_norm={bound}: want a number above 0, the longest "
                "gradient; 1000 hardly ever shortens one."
            )
        self.num_averaged = self.option("average_checkpoints")
        if self.num_averaged is None:
            self.num_averaged = 1
        if not isinstance(self.num_averaged, int) or self.num_averaged < 1:
            raise AttnError(
                f"average_checkpoints={self.num_averaged}: want a whole "
                "number, 1 or more; 1 takes the best checkpoint as it is."
            )
        if self.num_averaged != 1 and self.option("ema_decay") is not None:
            raise AttnError(
                f"average_checkpoints={self.num_averaged} and ema_decay="
                f"{self.hparams.ema_decay}: both average the weights; take "
                "one, with --average_checkpoints=1 or --ema_decay=null."
            )

    def begin_from(self, start, *arguments):
        """Call ``start.begin`` for a run that has no whole checkpoint.

        ``start`` None: the YAML has no start. To be called before ``fit`` in
        any case, since torn checkpoints are set aside here.
        """
        # The host registers the optimiser after all else.
        run_on_main(set_torn_aside, args=[self.checkpointer, "optimizer"])
        if start is not None and self.checkpointer.find_checkpoint() is None:
            run_on_main(start.begin, args=arguments)

    def option(self, key):
        """Value of a key that the YAML file may leave out or set to null."""
        return getattr(self.hparams, key, None)

    def on_fit_start(self):
        """As in the host, but goes on from the last *whole* checkpoint."""
        if self.option("query_scale") is not None:
            # A checkpoint, if there is one, has its own values.
            scale_queries(
                self.trained_modules().values(), self.hparams.query_scale
            )
        self._compile()
        self._wrap_distributed()
        if self.option("ema_decay") is not None:
            self.average = RunningAverage(
                self.trained_modules(), self.hparams.ema_decay
            )
            self.checkpointer.add_recoverable("average", self.average)
        self.init_optimizers()
        self.begins_epoch_anew = False
        found = recover(self.checkpointer)
        if self.begins_epoch_anew:
            # The host would pass over so many batches of the new order.
            loader = self.checkpointer.recoverables["dataloader-TRAIN"]
            loader._speechbrain_recovery_skip_to = None
        ended = found is not None and found.meta["end-of-epoch"]
        if ended and self._optimizer_step_limit_exceeded:
            # The host would log and save one more epoch, of no batches.
            counter = self.hparams.epoch_counter
            counter.limit = counter.current

    def trained_modules(self):
        """Modules with parameters by name, none of them wrapped for DDP."""
        return {
            name: module
            for name, module in self.hparams.modules.items()
            if any(True for _ in module.parameters())
        }

    def _wrap_distributed(self):
        if not self.distributed_launch or self.device_type != "cpu":
            super()._wrap_distributed()
            return
        # The host turns batch norm into SyncBatchNorm, which runs on GPUs
        # only. On CPU each process normalises by its own crops, and the
        # running statistics are those of all: see on_fit_batch_end.
        self.shares_statistics = True
        for name, module in self.modules.items():
            if any(p.requires_grad for p in module.parameters()):
                self.modules[name] = DistributedDataParallel(
                    module, find_unused_parameters=self.find_unused_parameters
                )

    def _train_loader_specifics(self, dataset, loader_kwargs):
        # A sampler of batches shares them out among processes by itself.
        self.train_sampler = loader_kwargs["batch_sampler"]
        # What the batches of an epoch follow from, beside seed and number.
        rows = getattr(dataset, "rows", None)  # of a manifest, if it is of one
        self.epoch_facts = {
            "step_size": self.train_sampler.step_size,
            "rows": None if rows is None else rows.fingerprint(),
        }
        return loader_kwargs

    def init_optimizers(self):
        """As in the host, and with the groups that modules ask for."""
        super().init_optimizers()
        modules = self.trained_modules().values()
        for module in modules:
            if hasattr(module, "parameter_groups"):
                regroup(self.optimizer, module.parameter_groups())
        if self.option("no_decay"):
            spare_from_decay(self.optimizer, modules)

    @mark_as_saver
    def _save(self, path):
        super()._save(path)
        with open(path, "a", encoding="utf-8") as file:
            yaml.dump(self.epoch_facts, file)

    @mark_as_loader
    def _recover(self, path, end_of_epoch):
        super()._recover(path, end_of_epoch)
        if end_of_epoch:
            return
        with open(path, encoding="utf-8") as file:
            saved = yaml.safe_load(file)
        before, now = saved.get("step_size"), self.epoch_facts["step_size"]
        if saved.get("rows") != self.epoch_facts["rows"]:
            logger.warning(
                "The epoch was begun on other rows of train.csv, or by an "
                "earlier version of this package, and begins anew: what was "
                "heard in its first %d steps is heard again. The learning "
                "rate goes on from where it was.",
                self.step,
            )
            self.begins_epoch_anew = True
            self.step, self.avg_train_loss = 0, 0.0
        elif before != now:
            logger.warning(
                "The epoch was begun with %d crops a step, over all "
                "processes, and goes on with %d in step %d: some utterances "
                "are heard twice or not at all until the next one. To avoid "
                "that keep processes x batch size.",
                before,
                now,
                self.step + 1,
            )

    def optimizers_step(self):
        """As in the host, but clips the gradients of all groups together."""
        self.scaler.unscale_(self.optimizer)
        clipped = itertools.chain.from_iterable(
            group["params"] for group in self.optimizer.param_groups
        )
        torch.nn.utils.clip_grad_norm_(clipped, self.max_grad_norm)
        if not self.scaler.is_enabled() and self.skip_nonfinite_grads:
            self.check_gradients()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        # Gradients are not saved: never between two steps of the optimiser.
        if self.step % self.grad_accumulation_factor:
            return False
        return super()._should_save_intra_epoch_ckpt(
            last_ckpt_time, steps_since_ckpt
        )

    def on_stage_start(self, stage, epoch=None):
        """Start the clock; validation is of the averaged weights."""
        if stage == sb.Stage.TRAIN:
            self.epoch = epoch
            self.data_wait_s, self.num_batches = 0.0, 0
            self.batch_ended = time.perf_counter()
        elif self.average is not None:
            self.average.swap()

    def data_wait_ms(self):
        """Milliseconds that a step of this epoch has waited for its data."""
        return 1000 * self.data_wait_s / max(1, self.num_batches)

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
        if self.shares_statistics:
            share_running_statistics(self.hparams.modules.values())
        if should_step and self.average is not None:
            self.average.update()
        self.batch_ended = time.perf_counter()

    def save_epoch(self, metrics):
        """Save a checkpoint and keep the best and the last of them.

        ``metrics`` {name: value}, lower is better, are saved with it. With
        ``average_checkpoints`` so many of each kind are kept.
        """
        if self.average is not None:
            self.average.swap()  # back to the weights that are trained
        self.checkpointer.save_and_keep_only(
            meta=metrics,
            num_to_keep=self.num_averaged,
            keep_recent=False,
            importance_keys=[end_of_epoch_first],
            min_keys=list(metrics),
        )

    def load_final_weights(self, criterion):
        """Give the modules the weights that go into the model folder.

        Those of the checkpoint with the lowest ``criterion`` (None: of the
        last one), or their running average at that time, or the mean of the
        last ``average_checkpoints``.
        """
        if self.num_averaged > 1:
            found = average_last(
                self.checkpointer, self.hparams.modules, self.num_averaged
            )
            logger.info("The model is the mean of the last %d epochs.", found)
            return
        recover(self.checkpointer, min_key=criterion)
        if self.average is not None:
            self.average.swap()

    def warn_of_schedule(self, num_batches):
        """Say so if the schedule is planned for another number of batches.

        ``num_batches`` are those of an epoch on one process.
        """
        planned = getattr(self.hparams.lr_annealing, "total_steps", None)
        if planned is None:
            return
        steps = self.hparams.epoch_counter.limit * num_batches
        mend = f"--total_steps={steps}"
        if self.optimizer_step_limit is not None:
            factor = self.grad_accumulation_factor
            steps = min(steps, self.optimizer_step_limit * factor)
            mend = f"--total_steps={steps}"
            if factor > 1:  # where the limit may be a reference to the plan
                mend = f"--optimizer_step_limit={planned // factor}"
        if abs(planned - steps) > 0.1 * steps:
            logger.warning(
                "total_steps=%d plans the learning rate, and this run has "
                "about %d steps; set %s to have the rate come down.",
                planned,
                steps,
                mend,
            )
