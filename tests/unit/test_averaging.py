"""Averages of weights: their values, swapping, saving, checkpoints."""

import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.training.averaging import (
    RunningAverage,
    average_last,
    end_of_epoch_first,
)


def make_network():
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))


def train(network, steps, average=None):
    """Random steps, batch norm's statistics included; the states after each."""
    states = []
    for _ in range(steps):
        network(torch.randn(7, 3))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += torch.randn_like(parameter)
        if average is not None:
            average.update()
        states.append({k: v.clone() for k, v in network.state_dict().items()})
    return states


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_value_by_the_formula(decay):
    network = make_network()
    average = RunningAverage({"net": network}, decay)
    states = train(network, 12, average)
    expected = dict.fromkeys(states[0], 0.0)
    for step, state in enumerate(states, start=1):
        kept = min(decay, (step - 1) / (step + 8))
        for key, value in state.items():
            expected[key] = kept * expected[key] + (1 - kept) * value
    average.swap()
    for key, value in network.state_dict().items():
        if value.is_floating_point():  # running_mean and running_var, too
            torch.testing.assert_close(value, expected[key])
        else:
            assert value == states[-1][key]


def test_swapping_twice_changes_no_bit():
    network = make_network()
    average = RunningAverage({"net": network}, 0.9)
    before = train(network, 5, average)[-1]
    average.swap()
    changed = network.state_dict()
    assert not torch.equal(changed["0.weight"], before["0.weight"])
    average.swap()
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_checkpointer_restores_it(tmp_path):
    def make():
        network = make_network()
        average = RunningAverage({"net": network}, 0.9)
        parts = {"net": network, "average": average}
        return network, average, Checkpointer(tmp_path, parts)

    network, average, checkpointer = make()
    train(network, 4, average)
    checkpointer.save_checkpoint()
    other, restored, checkpointer = make()
    checkpointer.recover_if_possible()
    for net, one in ((network, average), (other, restored)):
        torch.manual_seed(5)
        train(net, 3, one)
        one.swap()
    for key, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


@pytest.mark.parametrize("decay", [0, 1, -0.1, 1.5])
def test_a_decay_outside_is_refused(decay):
    with pytest.raises(AttnError, match=rf"ema_decay={decay}: want a number"):
        RunningAverage({}, decay)


def test_the_last_ends_of_epochs_are_kept_and_averaged(tmp_path):
    """Not a checkpoint within an epoch, nor the best one, which is older."""
    network = make_network()
    checkpointer = Checkpointer(tmp_path, {"net": network})
    ends = []
    for epoch in range(5):
        ends += train(network, 1)
        checkpointer.save_and_keep_only(
            meta={"EER": epoch},
            num_to_keep=2,
            keep_recent=False,
            importance_keys=[end_of_epoch_first],
            min_keys=["EER"],
        )
        train(network, 1)
        checkpointer.save_checkpoint(end_of_epoch=False)
    modules = {"net": network, "other": nn.Identity()}
    assert average_last(checkpointer, modules, 2) == 2
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            mean = (ends[-1][key] + ends[-2][key]) / 2
            torch.testing.assert_close(value, mean)
    kept = [one.meta for one in checkpointer.list_checkpoints()]
    assert sum(meta["end-of-epoch"] for meta in kept) == 4  # 2 best, 2 last
    assert average_last(checkpointer, modules, 9) == 4
