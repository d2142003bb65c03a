"""Averages of weights: a running one, and one of the last checkpoints.

Batch norm's running statistics are averaged like the weights that they belong
to: they are means over recent batches already, and the weights whose mean is
taken lie close together.
"""

import itertools

import torch
from speechbrain.utils.checkpoints import (
    average_checkpoints,
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)

from speechbrain_attn.errors import AttnError


@register_checkpoint_hooks
class RunningAverage:
    """Exponential moving average of the weights of some modules.

    Step n = 1, 2, ... keeps the part min(decay, (n - 1) / (n + 8)) of it, so
    that untrained weights are soon forgotten, and takes the rest from the
    weights after that step. The host's checkpointer saves and restores it.

    Arguments
    ---------
    modules : mapping
        Modules by name, on the device that they stay on.
    decay : float
        In (0, 1): about 1 / (1 - decay) steps are averaged.

    Raises
    ------
    AttnError
        ``decay`` lies outside.

    Example
    -------
    >>> layer = torch.nn.Linear(1, 1, bias=False)
    >>> average = RunningAverage({"layer": layer}, decay=0.5)
    >>> for weight in (1.0, 3.0):
    ...     _ = torch.nn.init.constant_(layer.weight, weight)
    ...     average.update()
    >>> average.swap()
    >>> round(layer.weight.item(), 6)
    2.8
    """

    def __init__(self, modules, decay):
        if not isinstance(decay, int | float) or not 0 < decay < 1:
            raise AttnError(
                f"ema_decay={decay}: want a number between 0 and 1, such as "
                "0.999, which averages about 1,000 steps; null for none."
            )
        self.decay = decay
        self.num_steps = 0
        self._weights = {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in itertools.chain(
                module.named_parameters(), module.named_buffers()
            )
            if value.is_floating_point()
        }
        with torch.no_grad():
            self._average = {
                key: value.clone() for key, value in self._weights.items()
            }

    @torch.no_grad()
    def update(self):
        """Take in the present weights; call it after each optimiser step."""
        self.num_steps += 1
        decay = min(self.decay, (self.num_steps - 1) / (self.num_steps + 8))
        torch._foreach_lerp_(
            list(self._average.values()),
            list(self._weights.values()),
            1 - decay,
        )

    @torch.no_grad()
    def swap(self):
        """Exchange the weights and their average, bit for bit."""
        for key, weights in self._weights.items():
            kept = weights.clone()
            weights.copy_(self._average[key])
            self._average[key].copy_(kept)

    @mark_as_saver
    def save(self, path):
        """Write the average; the host's checkpointer calls this."""
        steps = torch.tensor(self.num_steps)
        torch.save({"num_steps": steps, **self._average}, path)

    @mark_as_loader
    def load(self, path, end_of_epoch):
        """Restore the average; the host's checkpointer calls this."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.num_steps = int(state["num_steps"])
        for key, value in self._average.items():
            value.copy_(state[key])


def end_of_epoch_first(checkpoint):
    """Importance of a checkpoint for ``average_last``: the last epochs' ends.

    Key for the host's ``Checkpointer.delete_checkpoints``, which keeps the
    highest.
    """
    return checkpoint.meta["end-of-epoch"], checkpoint.meta["unixtime"]


def average_last(checkpointer, modules, number):
    """Give modules the mean of their weights at the ends of the last epochs.

    Arguments
    ---------
    checkpointer : speechbrain.utils.checkpoints.Checkpointer
    modules : mapping
        Those among the recoverables of the checkpointer are changed.
    number : int
        Checkpoints to average; fewer, if there are fewer.

    Returns
    -------
    int
        How many there were.
    """
    checkpoints = checkpointer.find_checkpoints(
        ckpt_predicate=lambda checkpoint: checkpoint.meta["end-of-epoch"],
        max_num_checkpoints=number,
    )
    for name in set(modules) & set(checkpointer.recoverables):
        modules[name].load_state_dict(average_checkpoints(checkpoints, name))
    return len(checkpoints)
