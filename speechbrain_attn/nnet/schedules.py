"""Learning-rate and margin schedules for the host's ``lr_annealing`` key.

The host's training script calls ``schedule.on_batch_end(optimizer)`` once a
batch, where the method exists, and ``old, new = schedule(epoch)`` after each
validation. A schedule here is a Module, so that the host's checkpointer saves
and restores its buffers like those of any network.
"""

import math

import torch
from torch import nn

from speechbrain_attn.errors import AttnError

# How names of learned queries end: of heads, and of the hops of self-attention.
QUERIES = ("query", "pooling.scorer.2.weight")
# And that of the layer which makes serialized attention's queries of frames.
QUERY_LAYERS = ("query.weight",)


def set_learning_rate(optimizer, lr):
    """Give every parameter group ``lr`` times its own ``lr_factor``, if any.

    Example
    -------
    >>> weight, bias = torch.zeros(1), torch.zeros(1)
    >>> optimizer = torch.optim.SGD([weight, bias], lr=0.1)
    >>> regroup(optimizer, [{"params": [bias], "lr_factor": 10.0}])
    >>> set_learning_rate(optimizer, 0.2)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.2, 2.0]
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def regroup(optimizer, groups):
    """Move parameters of an optimiser into groups of their own.

    Arguments
    ---------
    optimizer : torch.optim.Optimizer
        Holds the parameters already; that it has not stepped yet.
    groups : list of dict
        ``params`` and what differs for them; ``lr_factor`` multiplies the
        learning rate.
    """
    for group in groups:
        moved = {id(parameter) for parameter in group["params"]}
        for other in optimizer.param_groups:
            other["params"] = [
                parameter
                for parameter in other["params"]
                if id(parameter) not in moved
            ]
        optimizer.add_param_group({"lr_factor": 1.0, **group})
        new = optimizer.param_groups[-1]
        new["lr"] *= new["lr_factor"]


def spare_from_decay(optimizer, modules):
    """Take weight decay off the parameters that it does no good to.

    Biases, the weights of norms and temperatures, which are vectors or single
    numbers, and the learned queries of attention (``QUERIES``): their size is
    the sharpness of the softmax, and decay would draw it towards plain
    averaging. They get groups of their own, with the ``lr_factor`` of the group
    that they were in.

    Arguments
    ---------
    optimizer : torch.optim.Optimizer
        As for ``regroup``.
    modules : iterable of torch.nn.Module
        Whose parameters it holds.

    Example
    -------
    >>> layer = nn.Linear(2, 3)
    >>> optimizer = torch.optim.SGD(layer.parameters(), 0.1, weight_decay=0.5)
    >>> spare_from_decay(optimizer, [layer])
    >>> for group in optimizer.param_groups:
    ...     print(list(group["params"][0].shape), group["weight_decay"])
    [3, 2] 0.5
    [3] 0.0
    """
    spared = {
        id(parameter)
        for module in modules
        for name, parameter in module.named_parameters()
        if parameter.dim() < 2 or name.endswith(QUERIES)
    }
    for group in list(optimizer.param_groups):
        moved = [one for one in group["params"] if id(one) in spared]
        if moved:
            factor = group.get("lr_factor", 1.0)
            new = {"params": moved, "lr_factor": factor, "weight_decay": 0.0}
            regroup(optimizer, [new])


def scale_queries(modules, factor):
    """Multiply what the scores of attention are proportional to.

    To be called before training: with 0 it begins as plain averaging, with a
    large factor each head begins with few frames of its own.

    Arguments
    ---------
    modules : iterable of torch.nn.Module
        Changed in place.
    factor : float
        0 or more.

    Raises
    ------
    AttnError
        The factor is none, or no module has a query.

    Example
    -------
    >>> from speechbrain_attn.nnet.pooling import MultiHeadAttentionPooling
    >>> pooling = MultiHeadAttentionPooling(64, num_heads=8)
    >>> scale_queries([pooling], 0.0)
    >>> pooling.attention(torch.rand(1, 4, 64))[0, 0].tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    if not isinstance(factor, int | float) or not 0 <= factor < math.inf:
        raise AttnError(f"query_scale={factor}: want a number, 0 or more.")
    queries = [
        parameter
        for module in modules
        for name, parameter in module.named_parameters()
        if name.endswith(QUERIES + QUERY_LAYERS)
    ]
    if not queries:
        raise AttnError(
            f"query_scale={factor}: the network has no attention with a query "
            "of its own; leave the key out, or set it to null."
        )
    with torch.no_grad():
        for query in queries:
            query.mul_(factor)


class MarginRamp:
    """Raises the margin of an additive angular margin loss from 0, linearly.

    Large margins from the first step keep an untrained network from learning.
    Driven by ``WarmupCosine``, which counts (and saves) the steps.

    Arguments
    ---------
    loss : object
        With an attribute ``margin``, in radians where it is angular; of the
        host's ``AdditiveAngularMargin`` what is derived from it is set, too.
    final_margin : float
        In radians; reached after ``warmup_steps`` batches.
    warmup_steps : int
        Length of the ramp in batches; 0 sets the final margin at once.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> loss = SimpleNamespace()
    >>> MarginRamp(loss, final_margin=0.2, warmup_steps=100).set_step(50)
    >>> loss.margin
    0.1
    """

    def __init__(self, loss, final_margin, warmup_steps):
        self.loss = loss
        self.final_margin = final_margin
        self.warmup_steps = warmup_steps

    def set_step(self, step):
        """Give the loss the margin that holds after ``step`` batches."""
        part = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        margin = part * self.final_margin
        self.loss.margin = margin
        if not hasattr(self.loss, "cos_m"):
            return
        self.loss.cos_m = math.cos(margin)
        self.loss.sin_m = math.sin(margin)
        # Beyond pi - margin the angle plus margin would wrap round.
        self.loss.th = math.cos(math.pi - margin)
        self.loss.mm = math.sin(math.pi - margin) * margin


class WarmupCosine(nn.Module):
    """Linear warm-up to a peak, then half a cosine down; a rate per batch.

    Arguments
    ---------
    peak_lr : float
        Learning rate at the end of the warm-up.
    warmup_steps : int
        Batches of warm-up; the first has ``peak_lr / warmup_steps``.
    total_steps : int
        Batches after which ``final_lr`` is reached; it holds from there on.
    final_lr : float
        Learning rate at the end.
    margin_ramp : MarginRamp
        Moved on with each batch; None leaves the loss alone.

    Raises
    ------
    AttnError
        ``warmup_steps`` exceeds ``total_steps``.

    Example
    -------
    >>> schedule = WarmupCosine(1e-3, warmup_steps=10, total_steps=110)
    >>> [f"{schedule.rate(step):.1e}" for step in (1, 10, 60, 110, 500)]
    ['1.0e-04', '1.0e-03', '5.0e-04', '0.0e+00', '0.0e+00']
    """

    def __init__(
        self, peak_lr, warmup_steps, total_steps, final_lr=0.0, margin_ramp=None
    ):
        super().__init__()
        if warmup_steps > total_steps:
            raise AttnError(
                f"warmup_steps={warmup_steps} exceeds "
                f"total_steps={total_steps}: the peak would not be reached."
            )
        self.peak_lr = peak_lr
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.final_lr = final_lr
        self.margin_ramp = margin_ramp
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._move_margin()

    def rate(self, step):
        """Learning rate of batch ``step``, counted from 1."""
        if step < self.warmup_steps:
            return self.peak_lr * step / self.warmup_steps
        falling_steps = max(1, self.total_steps - self.warmup_steps)
        part = min(1.0, (step - self.warmup_steps) / falling_steps)
        height = 0.5 * (1 + math.cos(math.pi * part))
        return self.final_lr + (self.peak_lr - self.final_lr) * height

    def on_batch_end(self, optimizer):
        """Count a batch, and set the rate of its update.

        The host calls this after the loss and before the optimiser's step.
        """
        self.step += 1
        set_learning_rate(optimizer, self.rate(int(self.step)))
        self._move_margin()

    def forward(self, epoch):
        """The present rate twice: an epoch's end changes nothing."""
        rate = self.rate(max(1, int(self.step)))
        return rate, rate

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Restore the step, and with it the margin of the loss."""
        result = super().load_state_dict(state_dict, *args, **kwargs)
        self._move_margin()
        return result

    def _move_margin(self):
        if self.margin_ramp is not None:
            self.margin_ramp.set_step(int(self.step))


class PlateauHalving(nn.Module):
    """Cuts the learning rate after validations without gain.

    Our training script hands it the metric of each validation
    (``on_validation``). The host's script does not know that method: there
    the rate stays as it is.

    Arguments
    ---------
    lr : float
        Learning rate at the start.
    factor : float
        Multiplies the rate; 0.5 halves it.
    patience : int
        Validations in a row that may bring no lower metric; the last of them
        cuts the rate and starts the count anew.

    Example
    -------
    >>> schedule = PlateauHalving(lr=1.0, patience=2)
    >>> for eer in (0.3, 0.2, 0.2, 0.25):
    ...     schedule.on_validation(eer)
    >>> schedule(4)
    (1.0, 0.5)
    """

    def __init__(self, lr, factor=0.5, patience=15):
        super().__init__()
        self.factor = factor
        self.patience = patience
        # float64, as Python's numbers: in float32 an equal metric could be
        # less than the best one, which rounding had lifted.
        for name, value in (("old_lr", lr), ("lr", lr), ("best", math.inf)):
            buffer = torch.tensor(value, dtype=torch.float64)
            self.register_buffer(name, buffer)
        self.register_buffer("waited", torch.zeros((), dtype=torch.int64))

    def on_validation(self, metric):
        """Take the metric of a validation; lower is better."""
        self.old_lr.copy_(self.lr)
        if metric < self.best:
            self.best.fill_(metric)
            self.waited.zero_()
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.lr *= self.factor
            self.waited.zero_()

    def forward(self, epoch):
        """Rates before and after the last validation."""
        return float(self.old_lr), float(self.lr)
