"""Frame encoders: the faster way of inference gives what training's gives."""

import pytest
import torch
from torch import nn

from speechbrain_attn.nnet.encoders import TDNNEncoder, VGGEncoder

LENGTHS = torch.tensor([11 / 23, 1.0, 4 / 23])


def encoders():
    """Each kind in eval mode, its batch norms with statistics of their own."""
    torch.manual_seed(5)
    made = [
        TDNNEncoder(7, (13, 11), (5, 3), (1, 2)),
        VGGEncoder(7, (3, 5), batch_norm=True),
        VGGEncoder(7, (3, 5)),
    ]
    for encoder in made:
        for norm in encoder.norms:
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.normal_(norm.running_mean)
                nn.init.uniform_(norm.running_var, 0.3, 3.0)
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
    return [encoder.eval() for encoder in made]


@pytest.mark.parametrize("encoder", encoders())
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_without_gradients_the_same_frames_and_the_input_as_it_was(
    encoder, lengths
):
    x = torch.randn(3, 23, 7)
    before = x.clone()
    with torch.no_grad():
        frames = encoder(x, lengths)
    assert torch.equal(x, before)
    expected = encoder(x, lengths)
    assert expected.requires_grad
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-6)


def test_vgg_in_eval_mode_equals_its_layers_one_after_the_other():
    _, encoder, _ = encoders()
    x = torch.randn(2, 16, 7)
    maps = x.unsqueeze(1)
    for layer, (conv, norm) in enumerate(
        zip(encoder.convs, encoder.norms, strict=True)
    ):
        maps = torch.relu(norm(conv(maps)))
        if layer % 2:
            maps = nn.functional.max_pool2d(maps, 2, ceil_mode=True)
    expected = maps.transpose(1, 2).flatten(2)
    torch.testing.assert_close(encoder(x), expected)
