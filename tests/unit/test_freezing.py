"""Pretrained modules are fixed for the first batches, then learn slowly."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.schedules import (
    PlateauHalving,
    WarmupCosine,
    regroup,
)
from speechbrain_attn.training.freezing import FrozenStart

FROZEN_STEPS = 3
LR, FACTOR = 0.01, 0.1


def network_and_schedule():
    """A trunk that counts as pretrained, and a layer that does not."""
    trunk = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout())
    network = nn.Sequential(trunk, nn.Linear(7, 3), nn.BatchNorm1d(3))
    schedule = WarmupCosine(LR, warmup_steps=1, total_steps=1000)
    start = SimpleNamespace(parts=["0.0", "0.1"])
    return (
        network,
        schedule,
        FrozenStart(network, start, schedule, FROZEN_STEPS, FACTOR),
    )


def step(network, schedule, optimizer):
    """One batch, as the training script goes about it."""
    network.train()
    loss = network(torch.randn(8, 5) + 2).square().sum()
    schedule.on_batch_end(optimizer)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def snapshot(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def changed(before, network):
    now = network.state_dict()
    return {name for name in now if not torch.equal(before[name], now[name])}


TRUNK = {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"}
STATISTICS = {"0.1.running_mean", "0.1.running_var", "0.1.num_batches_tracked"}


def test_fixed_then_trained_with_the_statistics_that_came_with_it():
    network, schedule, _ = network_and_schedule()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.5)
    regroup(optimizer, network.parameter_groups())
    for number in range(1, 6):
        before = snapshot(network)
        step(network, schedule, optimizer)
        moved = changed(before, network)
        assert moved & TRUNK == (TRUNK if number > FROZEN_STEPS else set())
        assert not moved & STATISTICS
        assert {"1.weight", "2.running_mean"} <= moved
    first, second = optimizer.param_groups
    assert second["lr"] == pytest.approx(FACTOR * first["lr"])
    assert len(second["params"]) == 4 and len(first["params"]) == 4


def test_a_resumed_run_knows_from_its_schedule_that_the_time_is_over():
    network, schedule, _ = network_and_schedule()
    state = schedule.state_dict()
    state["step"] = torch.tensor(FROZEN_STEPS)
    schedule.load_state_dict(state)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    before = snapshot(network)
    step(network, schedule, optimizer)
    assert TRUNK <= changed(before, network)


def test_dropout_of_what_is_pretrained_goes_on_and_eval_is_left_alone():
    network, _, _ = network_and_schedule()
    network.train()
    network(torch.randn(8, 5))
    assert not network[0][1].training and network[0][2].training
    parameters = list(network[0].parameters())
    assert not any(p.requires_grad for p in parameters)
    network.eval()
    for parameter in parameters:
        parameter.requires_grad_(True)
    network(torch.randn(8, 5))
    assert all(p.requires_grad for p in parameters)


def test_batch_norm_that_was_put_in_its_place_stays_frozen_too():
    """As the host does for several GPUs."""
    network, _, _ = network_and_schedule()
    network[0] = nn.SyncBatchNorm.convert_sync_batchnorm(network[0])
    network.train()
    network(torch.randn(8, 5))
    assert isinstance(network[0][1], nn.SyncBatchNorm)
    assert not network[0][1].training


def test_a_schedule_that_counts_no_batches_is_refused():
    network, start = nn.Linear(2, 2), SimpleNamespace(parts=[""])
    with pytest.raises(AttnError, match="PlateauHalving does not count"):
        FrozenStart(network, start, PlateauHalving(0.1), 5, 0.1)


@pytest.mark.parametrize("steps", [-1, 2.5, "abc"])
def test_steps_that_are_none_are_refused(steps):
    network, start = nn.Linear(2, 2), SimpleNamespace(parts=[""])
    schedule = WarmupCosine(LR, warmup_steps=1, total_steps=9)
    with pytest.raises(AttnError, match=rf"frozen_steps={steps}: want a whole"):
        FrozenStart(network, start, schedule, steps, 0.1)
