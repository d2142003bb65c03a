"""The host's trunks: exceptions of the contract, as long as they need to be."""

import pytest
import torch
from subjects import COUNTS, INEXACT_SUBJECTS, assert_near, ids

every_trunk = pytest.mark.parametrize(
    "subject", INEXACT_SUBJECTS, ids=ids(INEXACT_SUBJECTS)
)


@every_trunk
@torch.no_grad()
def test_padding_still_has_a_say(subject):
    """When this fails, the trunk can move to the contract's own tables."""
    module = subject.make()
    x, lengths = subject.inputs((23, 11, 13))
    batch = module(x, lengths)
    alone = module(x[1:2, :11])
    assert (batch[1] - alone[0]).abs().max() > 1e-3


@every_trunk
@torch.no_grad()
def test_utterances_of_one_length_are_exact(subject):
    module = subject.make()
    x, _ = subject.inputs((23, 23, 23))
    batch = module(x, torch.ones(3))
    for row in range(3):
        alone = x[row : row + 1]
        assert_near(module(alone), batch[row : row + 1])
        assert_near(module(alone, torch.ones(1)), batch[row : row + 1])


@every_trunk
@torch.no_grad()
def test_pooling_is_told_of_the_padding(subject):
    """As far as it goes, lengths help: not all of the frames are pooled."""
    module = subject.make()
    x, lengths = subject.inputs()
    attention = module.attention(x, lengths)
    counts = torch.round(lengths * attention.shape[2]).clamp(min=1)
    assert len(COUNTS) == len(counts)
    for row, count in zip(attention, counts.int().tolist(), strict=True):
        assert (row[:, :count] > 0).all()
        assert not row[:, count:].any()


@every_trunk
@torch.no_grad()
def test_declared_sizes_are_real(subject):
    module = subject.make()
    x, lengths = subject.inputs((23, 23))
    assert module(x).shape == (2, 1, module.embedding_size)
    frames, _ = module.encode(x, lengths)
    assert frames.shape[2] == module.encoder.output_size


@every_trunk
def test_trunks_do_not_promise_exact_padding(subject):
    assert subject.make().exact_padding is False
