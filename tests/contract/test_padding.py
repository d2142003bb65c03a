"""Padding has no say: an utterance gives the same alone and in any batch."""

import pytest
import torch
from subjects import (
    COUNTS,
    LOBE_SUBJECTS,
    POOLED_SUBJECTS,
    SUBJECTS,
    assert_near,
    ids,
)

every_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=ids(SUBJECTS))
LOBES = LOBE_SUBJECTS + POOLED_SUBJECTS


def padded(x, extra, filling):
    """x with ``extra`` more frames, and ``filling`` in all of the padding."""
    batch, frames, channels = x.shape
    shape = batch, frames + extra, channels
    longer = torch.full(shape, filling, dtype=x.dtype)
    for row, utterance, count in zip(longer, x, COUNTS, strict=True):
        row[:count] = utterance[:count]
    return longer, torch.tensor(COUNTS) / (frames + extra)


def alone(subject, module, x):
    """What each utterance gives by itself, without lengths."""
    return [
        subject.by_utterance(module, row[None, :count])[0]
        for row, count in zip(x, COUNTS, strict=True)
    ]


@every_subject
@torch.no_grad()
def test_batch_equals_single_under_any_padding(subject):
    module = subject.make()
    x, _ = subject.inputs()
    expected = alone(subject, module, x)
    for extra in (0, 1, 2, 3, 7, 29):
        for filling in (0.0, 1e3, float("nan"), float("inf")):
            batch = padded(x, extra, filling)
            assert_near(subject.by_utterance(module, *batch), expected)


@every_subject
@torch.no_grad()
def test_single_padded_utterance_equals_itself(subject):
    module = subject.make()
    x, _ = subject.inputs()
    expected = alone(subject, module, x)
    batch, lengths = padded(x, 5, float("nan"))
    for row in range(len(COUNTS)):
        one = subject.by_utterance(
            module, batch[row : row + 1], lengths[row : row + 1]
        )
        assert_near(one, expected[row : row + 1])


@every_subject
@torch.no_grad()
def test_unmasked_padding_would_be_noticed(subject):
    """Control: a module that ignores frames would pass the tests above."""
    module = subject.make()
    x, lengths = subject.inputs()
    with_lengths = subject.by_utterance(module, x, lengths)
    without = subject.by_utterance(module, x)
    for row, count in enumerate(COUNTS):
        one, other = with_lengths[row], without[row]
        if subject.kind == "encoder":
            other = other[: len(one)]
        difference = (one - other).abs().max()
        assert (difference > 1e-2) == (count < max(COUNTS))


@every_subject
@torch.no_grad()
def test_full_lengths_equal_no_lengths(subject):
    module = subject.make()
    x, _ = subject.inputs()
    full = subject.by_utterance(module, x, torch.ones(len(COUNTS)))
    assert_near(full, subject.by_utterance(module, x))


@every_subject
@torch.no_grad()
def test_order_of_the_batch_has_no_say(subject):
    module = subject.make()
    x, lengths = subject.inputs()
    order = torch.tensor([2, 0, 3, 1])
    expected = subject.by_utterance(module, x, lengths)
    shuffled = subject.by_utterance(module, x[order], lengths[order])
    assert_near(shuffled, [expected[row] for row in order], 1e-6)


@every_subject
@torch.no_grad()
def test_one_frame(subject):
    module = subject.make()
    x, _ = subject.inputs(counts=(1, 1, 1))
    batch = subject.by_utterance(module, x)
    for row in range(3):
        assert_near(batch[row : row + 1], module(x[row : row + 1]))


@every_subject
@torch.no_grad()
def test_float64_is_exact_to_its_own_precision(subject):
    module = subject.make().double()
    x, _ = subject.inputs()
    x = x.double()
    expected = alone(subject, module, x)
    assert all(one.dtype == torch.float64 for one in expected)
    batch = padded(x, 7, float("nan"))
    assert_near(subject.by_utterance(module, *batch), expected, 1e-12)


@pytest.mark.parametrize("subject", LOBES, ids=ids(LOBES))
@torch.no_grad()
def test_lobes_take_lengths_above_one_as_one(subject):
    module = subject.make()
    x, _ = subject.inputs()
    samples = torch.tensor([16000.0, 1.5, 3.0, 48000.0])
    assert torch.equal(module(x, samples), module(x, torch.ones(4)))


@pytest.mark.parametrize("subject", LOBES, ids=ids(LOBES))
def test_lobes_promise_exact_padding(subject):
    assert subject.make().exact_padding is True
