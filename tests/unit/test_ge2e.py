"""GE2E and angular prototypical losses, against their equations."""

import copy
import math

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.functional import cosine_similarity
from torch.nn.parallel import DistributedDataParallel

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.losses import (
    GE2E,
    AngularPrototypical,
    angular_prototypical_loss,
    ge2e_loss,
    group_by_speaker,
)

LOSSES = {
    "softmax": lambda x, w, b, **options: ge2e_loss(x, w, b, **options),
    "contrast": lambda x, w, b, **options: ge2e_loss(
        x, w, b, "contrast", **options
    ),
    "angular_prototypical": angular_prototypical_loss,
}
MODULES = {
    "softmax": GE2E,
    "contrast": lambda: GE2E(variant="contrast"),
    "angular_prototypical": AngularPrototypical,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
every_module = pytest.mark.parametrize("build", MODULES.values(), ids=MODULES)


def embeddings(speakers=3, utterances=5, size=7):
    return torch.randn(speakers, utterances, size, dtype=torch.float64)


def ge2e_by_hand(x, w, b, variant):
    """Wan et al., 2018, one pair at a time, [speakers, utterances]."""
    x = x / x.norm(dim=2, keepdim=True)
    speakers, utterances, _ = x.shape
    losses = torch.empty(speakers, utterances, dtype=x.dtype)
    for j in range(speakers):
        for i in range(utterances):
            scores = []
            for k in range(speakers):
                centroid = torch.stack(
                    [x[k, m] for m in range(utterances) if (k, m) != (j, i)]
                ).mean(dim=0)
                cosine = x[j, i] @ centroid / centroid.norm()
                scores.append(float(w * cosine + b))
            own, others = scores[j], scores[:j] + scores[j + 1 :]
            if variant == "softmax":
                total = math.log(sum(math.exp(one) for one in scores))
                losses[j, i] = total - own
            else:
                worst = max(1 / (1 + math.exp(-one)) for one in others)
                losses[j, i] = 1 - 1 / (1 + math.exp(-own)) + worst
    return losses


@pytest.mark.parametrize("variant", ["softmax", "contrast"])
@pytest.mark.parametrize("w, b", [(10.0, -5.0), (-3.0, 1.0)])
def test_ge2e_by_hand(variant, w, b):
    x = embeddings()
    expected = ge2e_by_hand(x, w, b, variant)
    for reduction, wanted in (
        ("none", expected),
        ("sum", expected.sum()),
        ("mean", expected.mean()),
    ):
        torch.testing.assert_close(
            ge2e_loss(x, w, b, variant, reduction), wanted
        )


def test_angular_prototypical_by_hand():
    x = embeddings()
    units = x / x.norm(dim=2, keepdim=True)
    expected = []
    for j in range(len(x)):
        scores = [
            10 * cosine_similarity(x[j, -1], one[:-1].mean(dim=0), dim=0) - 5
            for one in units
        ]
        expected.append(torch.stack(scores).logsumexp(dim=0) - scores[j])
    expected = torch.stack(expected)
    for reduction, wanted in (
        ("none", expected),
        ("sum", expected.sum()),
        ("mean", expected.mean()),
    ):
        found = angular_prototypical_loss(x, 10.0, -5.0, reduction)
        torch.testing.assert_close(found, wanted)


@every_loss
def test_gradients(loss):
    x = embeddings(3, 4, 5).requires_grad_()
    w = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    # Negative cosines are there, which public programs clamp away.
    units = torch.nn.functional.normalize(x.detach().flatten(0, 1), dim=1)
    assert (units @ units.T < 0).any()
    assert torch.autograd.gradcheck(loss, (x, w, b))
    assert torch.autograd.gradcheck(
        lambda *inputs: loss(*inputs, reduction="none"), (x, w, b)
    )


@every_loss
def test_large_factors_do_not_overflow(loss):
    x = embeddings().float().requires_grad_()
    found = loss(x, 1e4, -5e3)
    found.backward()
    assert found.isfinite() and x.grad.isfinite().all()


@every_loss
def test_embeddings_that_cancel_have_bounded_gradients(loss):
    """The centroid of opposed utterances is zero: no direction, no NaN."""
    one, other = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    x = torch.stack([one, -one, other, other, -other, one])
    x = x.reshape(2, 3, 3).requires_grad_()
    loss(x, 10.0, -5.0).backward()
    assert 1 < x.grad.abs().max() < 1e8
    zeros = torch.zeros(2, 3, 4, requires_grad=True)
    loss(zeros, 10.0, -5.0).backward()
    assert zeros.grad.isfinite().all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    half = embeddings(16, 10, 64).to(dtype).requires_grad_()
    found = loss(half, 10.0, -5.0)
    found.backward()
    assert found.dtype == torch.float32
    assert half.grad.isfinite().all()
    assert torch.equal(found, loss(half.float(), 10.0, -5.0))


@every_module
def test_under_autocast_it_is_float32(build):
    module = build()
    x, speakers = torch.randn(12, 1, 7), torch.arange(3).repeat(4)[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        found = module(x, speakers)
    assert torch.equal(found, module(x, speakers))


# fmt: off
BAD = [  # id, what is called, what the message must say
    ("two_axes", lambda loss: loss(torch.rand(10, 7), 1, 0),
     r"want \[speakers, utterances, size\].*got \(10, 7\)"),
    ("one_speaker", lambda loss: loss(torch.rand(1, 5, 7), 1, 0),
     r"two or more speakers and utterances, got \(1, 5, 7\)"),
    ("one_utterance", lambda loss: loss(torch.rand(5, 1, 7), 1, 0),
     r"two or more speakers and utterances, got \(5, 1, 7\)"),
    ("reduction", lambda loss: loss(torch.rand(3, 5, 7), 1, 0, reduction="all"),
     r"reduction='all'; want one of \['mean', 'sum', 'none'\]"),
]
# fmt: on


@every_loss
@pytest.mark.parametrize(
    "call, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_input_is_refused(loss, call, says):
    with pytest.raises(AttnError, match=says):
        call(loss)


def test_bad_arguments_are_refused():
    says = r"variant='soft'; want one of \['softmax', 'contrast'\]"
    with pytest.raises(AttnError, match=says):
        ge2e_loss(torch.rand(3, 5, 7), 1, 0, variant="soft")
    with pytest.raises(AttnError, match=says):
        GE2E(variant="soft")
    for value in (0.0, -10.0, float("nan")):
        with pytest.raises(AttnError, match=rf"init_w={value}; want more"):
            GE2E(init_w=value)


@every_module
def test_a_batch_in_any_order_is_grouped(build):
    module = build()
    assert module.w.item() == pytest.approx(10.0)
    assert module.b.item() == -5.0
    x = torch.randn(3, 5, 7)
    # Speakers 4, 11 and 20, whose utterances keep their order.
    order = torch.randperm(3).repeat(5)
    batch = torch.stack([x[speaker, n // 3] for n, speaker in enumerate(order)])
    speakers = torch.tensor([4, 11, 20])[order]
    assert torch.equal(group_by_speaker(batch, speakers), x)
    expected = module.loss(x)
    for found in (
        module(batch, speakers),
        module(batch.unsqueeze(1), speakers.unsqueeze(1), torch.ones(15)),
    ):
        assert torch.equal(found, expected)


def test_the_variants_differ():
    """Control for the tests above: each module has its own loss."""
    x, speakers = torch.randn(12, 7), torch.arange(3).repeat(4)
    found = [build()(x, speakers).item() for build in MODULES.values()]
    assert len(set(found)) == len(MODULES)


def test_unbalanced_batches_are_refused():
    speakers = torch.tensor([[7], [7], [3], [3], [3]])
    with pytest.raises(
        AttnError, match="speaker 7 has 2 utterances and speaker 3 has 3"
    ):
        GE2E()(torch.rand(5, 1, 4), speakers)
    with pytest.raises(AttnError, match=r"\(5, 2, 4\) for 5 targets; want"):
        GE2E()(torch.rand(5, 2, 4), speakers)


@every_module
def test_w_stays_positive_whatever_the_step(build):
    module = build()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    # Each speaker's second utterance is the first of the next, so that the
    # smaller w is, the smaller the loss: a w learned plainly falls below 0.
    x = torch.stack([torch.eye(4), torch.eye(4).roll(1, dims=0)], dim=1)
    for _ in range(100):
        optimizer.zero_grad()
        module.loss(x).backward()
        optimizer.step()
    assert 0 < module.w < 1


@every_module
def test_w_and_b_learn(build):
    module = build()
    module.loss(torch.randn(3, 4, 7)).backward()
    assert module.log_w.grad.abs() > 1e-3
    # Added to all scores of a softmax it has no say.
    if getattr(module, "variant", None) == "contrast":
        assert module.b.grad.abs() > 1e-3
    else:
        assert module.b.grad.abs() < 1e-6


@every_module
def test_state_dict_holds_w_and_b(build):
    module, other = build(), build()
    with torch.no_grad():
        module.log_w.fill_(1.0)
        module.b.fill_(2.0)
    saved = copy.deepcopy(module.state_dict())
    assert list(saved) == ["log_w", "b"]
    other.load_state_dict(saved, strict=True)
    x = torch.randn(3, 4, 7)
    assert torch.equal(other.loss(x), module.loss(x))


def test_parameter_groups_carry_the_factor_through_an_optimiser():
    loss, network = GE2E(lr_factor=0.1), torch.nn.Linear(3, 5)
    optimizer = torch.optim.AdamW(
        [{"params": list(network.parameters())}, *loss.parameter_groups()],
        lr=1e-3,
    )
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    network_group, own = optimizer.param_groups
    assert {*map(id, own["params"])} == {*map(id, loss.parameters())}
    assert own["lr_factor"] == 0.1 and own["weight_decay"] == 0.0
    assert network_group["weight_decay"] > 0


def _gathered(rank, folder, inputs):
    """One process: gradients of network and loss on its own speakers."""
    distributed.init_process_group(
        "gloo", f"file://{folder}/store", rank=rank, world_size=2
    )
    network, loss, x, speakers = inputs
    network, loss = (DistributedDataParallel(one) for one in (network, loss))
    loss(network(x[rank]), speakers[rank]).backward()
    gradients = [
        parameter.grad
        for one in (network, loss)
        for parameter in one.parameters()
    ]
    torch.save(gradients, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_gathered_gradients_are_those_of_one_batch(tmp_path):
    network = torch.nn.Linear(7, 5)
    loss = GE2E(variant="contrast", gather=True)
    x = torch.randn(2, 6, 7)
    speakers = torch.tensor([[0, 1, 0, 1, 1, 0], [5, 3, 3, 5, 3, 5]])
    multiprocessing.spawn(
        _gathered, (tmp_path, (network, loss, x, speakers)), nprocs=2
    )
    # Not distributed, it takes the batch as it is.
    loss(network(x.flatten(0, 1)), speakers.flatten()).backward()
    expected = [
        parameter.grad
        for one in (network, loss)
        for parameter in one.parameters()
    ]
    assert all(one.abs().max() > 1e-4 for one in expected)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
