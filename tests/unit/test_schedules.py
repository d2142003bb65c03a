"""Schedules: rates by hand, the host's interface, and restoring."""

import math

import pytest
import torch
from speechbrain.nnet.losses import AdditiveAngularMargin
from speechbrain.utils.checkpoints import Checkpointer

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.losses import GE2E
from speechbrain_attn.nnet.schedules import (
    MarginRamp,
    PlateauHalving,
    WarmupCosine,
    regroup,
)


def make_optimizer(lr=7.0):
    groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}]
    return torch.optim.SGD(groups, lr=lr)


def test_warmup_cosine_follows_its_formula_in_every_group():
    schedule = WarmupCosine(2.0, warmup_steps=4, total_steps=12, final_lr=1.0)
    optimizer = make_optimizer()
    rates = []
    for _ in range(14):
        schedule.on_batch_end(optimizer)
        assert optimizer.param_groups[1]["lr"] == schedule(1)[0]
        rates.append(optimizer.param_groups[0]["lr"])
    falling = [1.5 + 0.5 * math.cos(math.pi * k / 8) for k in range(9)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, *falling, 1.0, 1.0])


def test_an_epoch_end_does_not_move_the_rate():
    schedule = WarmupCosine(2.0, warmup_steps=2, total_steps=8)
    assert schedule(1) == (1.0, 1.0)  # no batch yet: the first one's rate
    schedule.on_batch_end(make_optimizer())
    old, new = schedule(1)
    assert old == new == schedule.rate(1)


def test_no_warmup_starts_at_the_peak():
    schedule = WarmupCosine(2.0, warmup_steps=0, total_steps=8)
    schedule.on_batch_end(make_optimizer())
    assert 1.9 < schedule(1)[0] < 2.0


def test_warmup_longer_than_the_run_is_refused():
    with pytest.raises(AttnError, match="warmup_steps=9 exceeds total_steps=8"):
        WarmupCosine(1.0, warmup_steps=9, total_steps=8)


def test_the_ramp_makes_the_loss_one_of_that_margin():
    """Halfway, the loss equals one that was built with half the margin."""
    loss = AdditiveAngularMargin(margin=0.4, scale=30)
    ramp = MarginRamp(loss, final_margin=0.4, warmup_steps=10)
    cosines = torch.rand(5, 7) * 2 - 1
    targets = torch.eye(7)[:5]
    for step, margin in ((0, 0.0), (5, 0.2), (10, 0.4), (99, 0.4)):
        ramp.set_step(step)
        fixed = AdditiveAngularMargin(margin=margin, scale=30)
        assert torch.equal(loss(cosines, targets), fixed(cosines, targets))


def test_a_ramp_without_steps_has_the_final_margin():
    loss = AdditiveAngularMargin(margin=0.0, scale=30)
    MarginRamp(loss, final_margin=0.3, warmup_steps=0).set_step(0)
    assert loss.margin == 0.3


def test_the_host_checkpointer_restores_step_and_margin(tmp_path):
    def make():
        loss = AdditiveAngularMargin(margin=0.4, scale=30)
        ramp = MarginRamp(loss, final_margin=0.4, warmup_steps=8)
        schedule = WarmupCosine(1.0, 2, 20, margin_ramp=ramp)
        return loss, schedule, Checkpointer(tmp_path, {"lr": schedule})

    loss, schedule, checkpointer = make()
    assert loss.margin == 0.0
    for _ in range(4):
        schedule.on_batch_end(make_optimizer())
    checkpointer.save_checkpoint()
    new_loss, new_schedule, new_checkpointer = make()
    new_checkpointer.recover_if_possible()
    assert new_loss.margin == loss.margin == pytest.approx(0.2)
    assert new_schedule(1) == schedule(1)


def test_plateau_halves_after_patience_validations_without_gain():
    schedule = PlateauHalving(lr=0.8, factor=0.5, patience=2)
    rates = []
    for metric in (0.5, 0.4, 0.4, 0.41, 0.39, 0.4, 0.4, 0.4, 0.4):
        schedule.on_validation(metric)
        rates.append(schedule(len(rates) + 1))
    before = [0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2]
    after = [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1]
    assert rates == list(zip(before, after, strict=True))


def test_plateau_is_restored_with_its_count():
    schedule = PlateauHalving(lr=0.1, patience=2)
    schedule.on_validation(0.3)
    schedule.on_validation(0.3)
    new = PlateauHalving(lr=0.1, patience=2)
    new.load_state_dict(schedule.state_dict())
    new.on_validation(0.3)
    assert new(3) == (0.1, 0.05)


def test_groups_keep_their_factor_through_schedule_and_state():
    """w and b of a loss learn at their own rate from the first step on."""
    weight, loss = torch.nn.Parameter(torch.zeros(2)), GE2E(lr_factor=0.1)
    parameters = [weight, *loss.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.5, weight_decay=0.3)
    regroup(optimizer, loss.parameter_groups())
    network, own = optimizer.param_groups
    assert network["params"] == [weight] and network["lr"] == 0.5
    assert own["params"] == list(loss.parameters())
    assert own["lr"] == pytest.approx(0.05) and own["weight_decay"] == 0.0
    schedule = WarmupCosine(1.0, warmup_steps=2, total_steps=10)
    schedule.on_batch_end(optimizer)
    assert network["lr"] == 0.5 and own["lr"] == pytest.approx(0.05)
