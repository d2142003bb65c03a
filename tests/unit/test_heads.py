"""The papers' classifiers, against their equations."""

import pytest
import torch
from speechbrain.nnet.losses import nll_loss
from torch import nn

from speechbrain_attn.lobes.models.heads import DoubleMHAHead, SerializedMHAHead
from speechbrain_attn.nnet.losses import AdditiveMarginSoftmax

HEADS = {
    "double_mha": (DoubleMHAHead, AdditiveMarginSoftmax()),
    "serialized_mha": (SerializedMHAHead, nll_loss),
}
every_head = pytest.mark.parametrize(
    "head, loss", HEADS.values(), ids=HEADS.keys()
)


@every_head
def test_shape(head, loss):
    head = head(13, out_neurons=7)
    assert head(torch.randn(5, 1, 13)).shape == (5, 1, 7)
    # One utterance in eval, as at the end of an odd validation set.
    assert head.eval()(torch.randn(1, 1, 13)).shape == (1, 1, 7)


@every_head
def test_every_parameter_learns_from_its_loss(head, loss):
    head = head(13, out_neurons=7).double()
    embeddings = torch.randn(11, 1, 13, dtype=torch.float64)
    speakers = torch.randint(7, (11, 1))
    loss(head(embeddings), speakers).backward()
    assert not [
        name
        for name, parameter in head.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() < 1e-9
    ]


@every_head
@torch.no_grad()
def test_bf16_autocast_is_finite(head, loss):
    head = head(13, out_neurons=7)
    with torch.autocast("cpu", torch.bfloat16):
        out = head(torch.randn(5, 1, 13))
        assert loss(out, torch.zeros(5, 1, dtype=torch.long)).isfinite()
    assert out.isfinite().all()


def test_double_mha_head_gives_cosines_of_the_third_layer():
    head = DoubleMHAHead(13, out_neurons=7)
    x = torch.randn(5, 1, 13)
    third = x[:, 0] @ head.layer.weight.T + head.layer.bias
    speakers = head.cosines.weight
    for row in range(5):
        for speaker in range(7):
            one, other = third[row], speakers[speaker]
            cosine = one @ other / (one.norm() * other.norm())
            torch.testing.assert_close(head(x)[row, 0, speaker], cosine)


def serialized_by_hand(head, x, moments):
    """ReLU, norm, layer, ReLU, norm, layer, log-softmax (section 4.2).

    ``moments`` gives the mean and variance of each of the two norms.
    """
    _, norm, layer, _, second_norm, *_ = head.segment
    x = x.clamp(min=0)
    mean, variance = moments(norm, x)
    x = (x - mean) / (variance + norm.eps).sqrt()
    x = (x @ layer.weight.T + layer.bias).clamp(min=0)
    mean, variance = moments(second_norm, x)
    x = (x - mean) / (variance + second_norm.eps).sqrt()
    logits = x @ head.speakers.weight.T + head.speakers.bias
    return logits - logits.exp().sum(dim=1, keepdim=True).log()


def test_serialized_mha_head_equals_its_equations_in_training():
    head = SerializedMHAHead(13, out_neurons=7, segment_size=11)
    x = torch.randn(17, 13)
    expected = serialized_by_hand(
        head, x, lambda norm, x: (x.mean(0), x.var(0, correction=0))
    )
    torch.testing.assert_close(head(x.unsqueeze(1))[:, 0], expected)


def test_serialized_mha_head_equals_its_equations_in_eval():
    head = SerializedMHAHead(13, out_neurons=7, segment_size=11)
    head(torch.randn(17, 1, 13))  # so that the statistics are not 0 and 1
    x = torch.randn(5, 13)
    expected = serialized_by_hand(
        head.eval(), x, lambda norm, x: (norm.running_mean, norm.running_var)
    )
    torch.testing.assert_close(head(x.unsqueeze(1))[:, 0], expected)


def test_serialized_mha_head_has_the_authors_norms():
    """No affine part, and momentum 0.5."""
    head = SerializedMHAHead(13, out_neurons=7, segment_size=11)
    x = torch.randn(17, 13)
    head(x.unsqueeze(1))
    first = head.segment[1]
    assert first.weight is None and first.bias is None
    torch.testing.assert_close(
        first.running_mean, 0.5 * x.clamp(min=0).mean(dim=0)
    )
    affine = SerializedMHAHead(13, 7, bn_affine=True, bn_momentum=0.1)
    norms = [one for one in affine.modules() if isinstance(one, nn.BatchNorm1d)]
    assert [(one.affine, one.momentum) for one in norms] == [(True, 0.1)] * 2
    assert affine.speakers.in_features == 256  # the paper's segment layer
