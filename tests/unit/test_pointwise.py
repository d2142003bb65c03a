"""Layers over frames as convolutions: the same numbers, and clean exports."""

import pytest
import torch
from torch import nn

from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.pointwise import convolve, per_frame


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_per_frame_equals_the_layer_in_both_directions(batch, bias, dtype):
    torch.manual_seed(2)
    layer = nn.Linear(7, 5, bias=bias, dtype=dtype)
    x = torch.randn(batch, 11, 7, dtype=dtype, requires_grad=True)
    inputs = [x, *layer.parameters()]
    ours, theirs = per_frame(layer, x), layer(x)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(theirs)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (5, 2)])
def test_convolve_equals_conv1d(kernel_size, dilation):
    torch.manual_seed(3)
    conv = nn.Conv1d(
        7, 5, kernel_size, dilation=dilation, padding="same", bias=True
    )
    x = torch.randn(1, 13, 7)
    image = x.transpose(1, 2).unsqueeze(2)
    ours = convolve(image, conv.weight, conv.bias, dilation)
    torch.testing.assert_close(ours.squeeze(2), conv(x.transpose(1, 2)))


def test_an_exported_layer_stays_linear():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(7, 5)

        def forward(self, x):
            return per_frame(self.linear, x)

    program = torch.export.export(Layer(), (torch.randn(2, 11, 7),))
    called = [str(node.target) for node in program.graph.nodes]
    assert any("linear" in name for name in called)
    assert not any("conv" in name for name in called)


def lobes():
    """Small networks that compute past their layers where that is faster."""
    torch.manual_seed(4)
    return [
        SelfAttentiveTDNN(7, "shallow", (13, 11), (5, 3), (1, 2), 5),
        SerializedMHA(7, (13, 11, 11), embedding_size=8, num_layers=2),
        DoubleMHA(7, (3, 5), 2, embedding_size=8, batch_norm=True),
    ]


def layers_of(lobe):
    """{name: layer with weights that are multiplied or folded}."""
    kinds = nn.Linear, nn.Conv1d, nn.Conv2d, nn.BatchNorm2d
    modules = lobe.named_modules()
    return {name: one for name, one in modules if isinstance(one, kinds)}


@pytest.mark.parametrize("lobe", lobes())
def test_every_layer_is_called_that_has_a_hook(lobe):
    x = torch.randn(2, 23, 7)
    layers, seen = layers_of(lobe), {}
    with torch.no_grad():
        before = lobe.eval()(x)
        for name, layer in layers.items():

            def see(layer, inputs, output, name=name):
                seen[name] = output, output.clone()

            layer.register_forward_hook(see)
        after = lobe(x)
    assert set(seen) == set(layers)
    for name, (output, then) in seen.items():
        assert torch.equal(output, then), f"{name}: changed after its hook"
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("lobe", lobes())
def test_adapters_in_the_place_of_layers_are_called(lobe):
    class Adapter(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer, self.called = layer, False

        def forward(self, *inputs):
            self.called = True
            return self.layer(*inputs)

    x = torch.randn(2, 23, 7)
    with torch.no_grad():
        before = lobe.eval()(x)
        for name, layer in layers_of(lobe).items():
            parent, _, own = name.rpartition(".")
            setattr(lobe.get_submodule(parent), own, Adapter(layer))
        after = lobe.eval()(x)
    adapters = [one for one in lobe.modules() if isinstance(one, Adapter)]
    assert adapters and all(adapter.called for adapter in adapters)
    torch.testing.assert_close(after, before)
