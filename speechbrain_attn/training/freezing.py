"""Pretrained modules that stay as they are at first, then learn slowly."""

from torch import nn

from speechbrain_attn.errors import AttnError


class FrozenStart:
    """Keeps modules of a network fixed for the first batches.

    Then they are trained, at a learning rate of their own. Batch norm of
    theirs goes on with the statistics that it came with: those of few or
    alike recordings would spoil what the weights are used to.

    Arguments
    ---------
    network : torch.nn.Module
        Its forward passes while training tell that a batch begins.
    start : object
        ``parts`` are the names of the modules that are meant, each without
        its submodules: ``hub.adapt.PretrainedStart``.
    schedule : object
        Counts batches in ``step``: ``nnet.schedules.WarmupCosine``.
    frozen_steps : int
        Batches in which the parts are fixed.
    lr_factor : float
        Multiplies their learning rate.

    Raises
    ------
    AttnError
        The schedule does not count batches, or ``frozen_steps`` is no whole
        number.
    """

    def __init__(self, network, start, schedule, frozen_steps, lr_factor):
        if not hasattr(schedule, "step"):
            raise AttnError(
                f"lr_annealing: {type(schedule).__name__} does not count "
                f"batches, so nobody would know when frozen_steps="
                f"{frozen_steps} are over; take nnet.schedules.WarmupCosine."
            )
        if not isinstance(frozen_steps, int) or frozen_steps < 0:
            raise AttnError(
                f"frozen_steps={frozen_steps}: want a whole number of "
                "batches, 0 to train all from the first one on."
            )
        self.network = network
        self.parts = start.parts
        self.schedule = schedule
        self.frozen_steps = frozen_steps
        self.lr_factor = lr_factor
        self.parameters = [
            parameter
            for name in self.parts
            for parameter in network.get_submodule(name).parameters(False)
        ]
        network.register_forward_pre_hook(self._begin_batch)
        # Where the training script looks for groups of the optimiser.
        network.parameter_groups = self.parameter_groups

    def parameter_groups(self):
        """The parts' parameters as a group, for ``schedules.regroup``."""
        return [{"params": self.parameters, "lr_factor": self.lr_factor}]

    def _begin_batch(self, network, inputs):
        if not network.training:
            return
        learns = int(self.schedule.step) >= self.frozen_steps
        for parameter in self.parameters:
            parameter.requires_grad_(learns)
        # By name: for several GPUs the host puts other modules in the place
        # of batch norm. Anew each time: an epoch begins with train().
        for name in self.parts:
            module = network.get_submodule(name)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
