"""Every pooling, encoder and lobe exports with dynamic sizes."""

import pytest
import torch
from subjects import (
    EXPORTED_SUBJECTS,
    EXPORTED_VGG_FRAMES,
    RECURRENT_SUBJECTS,
    Subject,
    assert_near,
    ids,
)
from torch._dynamo.exc import UserError
from torch.export import Dim
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from speechbrain_attn.nnet.encoders import VGGEncoder

ANY = Dim.DYNAMIC
FRAMES, LENGTHS, WEIGHTS = {0: ANY, 1: ANY}, {0: ANY}, {0: ANY, 1: ANY}


def export(module, *inputs):
    """The module of the exported program of ``inputs``, sizes dynamic."""
    shapes = (FRAMES, LENGTHS, WEIGHTS)[: len(inputs)]
    program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    return program.module()


@pytest.mark.parametrize(
    "subject", EXPORTED_SUBJECTS, ids=ids(EXPORTED_SUBJECTS)
)
@torch.no_grad()
def test_exported_graph_gives_the_same(subject):
    module = subject.make()
    inputs = subject.inputs()
    graph = export(module, *inputs)
    fewest = subject.min_exported_frames(module)
    for counts in ((23, 1, 11, 5), (fewest,), (1, 3, 47, 2, 19)):
        x, lengths = subject.inputs(counts)
        for row, count in enumerate(counts):
            x[row, count:] = float("nan")
        assert_near(graph(x, lengths), module(x, lengths))


POOLINGS_TO_WEIGH = [one for one in EXPORTED_SUBJECTS if one.kind == "pooling"]


@pytest.mark.parametrize(
    "subject", POOLINGS_TO_WEIGH, ids=ids(POOLINGS_TO_WEIGH)
)
@torch.no_grad()
def test_exported_graph_takes_weights(subject):
    module = subject.make()
    x, lengths = subject.inputs()
    graph = export(module, x, lengths, torch.rand(x.shape[:2]))
    x, lengths = subject.inputs((1, 3, 47, 2, 19))
    weights = torch.rand(x.shape[:2])
    weights[0] = 0.0
    weights[2, ::2] = 0.0
    expected = module(x, lengths, weights)
    assert_near(graph(x, lengths, weights), expected)
    assert (module(x, lengths) - expected).abs().max() > 1e-2


@torch.no_grad()
def test_exported_vgg_needs_a_few_frames():
    """And eager mode does not: the constant says why, and is still true."""
    subject = Subject(
        "vgg", "encoder", 7, lambda: VGGEncoder(7, channels=(5, 6))
    )
    module = subject.make()
    graph = export(module, *subject.inputs())
    x, lengths = subject.inputs((EXPORTED_VGG_FRAMES - 1, 1))
    assert module(x, lengths).shape[1] == 1
    with pytest.raises(AssertionError, match=r"Guard failed: .*size\(\)\[1\]"):
        graph(x, lengths)


# torch's LSTM lists its weights anew when it is traced.
@pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights")
@pytest.mark.parametrize(
    "subject", RECURRENT_SUBJECTS, ids=ids(RECURRENT_SUBJECTS)
)
@torch.no_grad()
def test_recurrent_lobes_have_no_graph_yet(subject):
    """The listed exception: fails when torch leaves an LSTM's sizes open."""
    module = subject.make()
    with pytest.raises(
        (UserError, GuardOnDataDependentSymNode), match="specialized"
    ):
        export(module, *subject.inputs())


@pytest.mark.parametrize(
    "subject", EXPORTED_SUBJECTS, ids=ids(EXPORTED_SUBJECTS)
)
def test_compiled_training_has_the_gradients_of_eager(subject):
    """Traced with its gradients; which kernels come of it is torch's."""
    module = subject.make().double()
    x, lengths = subject.inputs()
    x = x.double().requires_grad_()
    values = [x, *module.parameters()]
    compiled = torch.compile(module, backend="aot_eager_decomp_partition")
    for one, other in zip(
        torch.autograd.grad(compiled(x, lengths).square().sum(), values),
        torch.autograd.grad(module(x, lengths).square().sum(), values),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
    torch.compiler.reset()
