"""What every pooling, encoder and lobe keeps to, padding aside."""

import io

import pytest
import torch
from subjects import (
    ATTENTIVE_SUBJECTS,
    COUNTS,
    ENCODER_SUBJECTS,
    POOLED_SUBJECTS,
    POOLING_SUBJECTS,
    SUBJECTS,
    assert_near,
    ids,
)

from speechbrain_attn.nnet.masking import frames_of_lengths
from speechbrain_attn.nnet.pooling import SerializedAttentionPooling

# Relative, of the whole output, under bf16 (8 bits of mantissa): what these
# networks show is below 0.03, and a sum that were itself in bf16, where
# 256 + 1 is 256, would be far above.
BF16_ERROR = 0.1
LATE_ERROR = 1e-5

every_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=ids(SUBJECTS))
every_encoder = pytest.mark.parametrize(
    "subject", ENCODER_SUBJECTS, ids=ids(ENCODER_SUBJECTS)
)


@every_subject
@torch.no_grad()
def test_declared_size_is_real(subject):
    module = subject.make()
    for frames in (1, 2, 3, 5, 8, 23):
        x, _ = subject.inputs(counts=(frames, frames))
        shape = {
            "pooling": lambda: (2, module.output_size),
            "encoder": lambda frames=frames: (
                2,
                module.output_frames(frames),
                module.output_size,
            ),
            "lobe": lambda: (2, 1, module.embedding_size),
        }[subject.kind]()
        assert module(x).shape == shape
    assert module.input_size == subject.input_size


@every_encoder
def test_output_lengths_give_the_frames_that_come_out(subject):
    module = subject.make()
    for frames in (1, 7, 32, 101):
        counts = torch.arange(1, frames + 1)
        lengths = module.output_lengths(counts / frames, frames)
        found = frames_of_lengths(lengths, module.output_frames(frames))
        expected = [module.output_frames(int(count)) for count in counts]
        assert found.tolist() == expected
    assert module.output_lengths(None, 7) is None


@every_encoder
@torch.no_grad()
def test_encoded_padding_is_zero(subject):
    module = subject.make()
    x, lengths = subject.inputs(frames=29)
    out = module(x, lengths)
    own = subject.by_utterance(module, x, lengths)
    for row, utterance in zip(out, own, strict=True):
        assert len(utterance) < len(row)
        assert torch.equal(
            row[len(utterance) :], torch.zeros_like(row[len(utterance) :])
        )


@every_subject
@torch.no_grad()
def test_eval_is_deterministic(subject):
    module = subject.make()
    x, lengths = subject.inputs()
    before = torch.get_rng_state()
    first = module(x, lengths)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(module(x, lengths), first)


@every_subject
@torch.no_grad()
def test_input_is_left_alone(subject):
    module = subject.make()
    x, lengths = subject.inputs()
    kept = x.clone(), lengths.clone()
    module(x, lengths)
    assert torch.equal(x, kept[0]) and torch.equal(lengths, kept[1])


@every_subject
@torch.no_grad()
def test_bf16_autocast_is_finite_and_near(subject):
    module = subject.make()
    # The mean of real, unnormalised log-mel features is that far from 0.
    for offset in (0.0, -10.0):
        x, lengths = subject.inputs()
        x = x + offset
        exact = subject.by_utterance(module, x, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            rough = subject.by_utterance(module, x, lengths)
        for one, other in zip(rough, exact, strict=True):
            assert one.isfinite().all()
            error = (one.float() - other).norm() / other.norm()
            assert error < BF16_ERROR


@pytest.mark.parametrize(
    "subject", ATTENTIVE_SUBJECTS, ids=ids(ATTENTIVE_SUBJECTS)
)
@torch.no_grad()
def test_autocast_leaves_what_is_pooled_alone(subject):
    """Most of a rounded embedding's error would come after the frames."""
    module, pooled = subject.make(), []
    module.pooling.register_forward_pre_hook(lambda _, x: pooled.append(x))
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(torch.randn(3, 61, subject.input_size)).squeeze(1)
    frames, lengths = pooled[0]
    exact = module.embedding(module.pooling(frames.float(), lengths))
    assert rough.dtype == torch.float32
    assert (1 - torch.cosine_similarity(rough, exact)).max() < LATE_ERROR


@pytest.mark.parametrize("subject", POOLING_SUBJECTS, ids=ids(POOLING_SUBJECTS))
@torch.no_grad()
def test_long_input_is_summed_in_float32(subject):
    """Under autocast too: in bf16, 256 + 1 is 256."""
    module = subject.make()
    x = torch.randn(1, 5003, subject.input_size) + 3.0
    with torch.autocast("cpu", torch.bfloat16):
        attention = module.attention(x)
        out = module(x.bfloat16())
    assert attention.dtype == torch.float32
    assert_near(attention.sum(dim=2), torch.ones(1, attention.shape[1]))
    exact = module(x)
    assert (out - exact).norm() / exact.norm() < BF16_ERROR


@every_subject
@torch.no_grad()
def test_float64_is_near_float32(subject):
    x, lengths = subject.inputs()
    single = subject.make()(x, lengths)
    double = subject.make().double()(x.double(), lengths)
    assert double.dtype == torch.float64
    assert_near(single, double.float(), 1e-4)


@every_subject
def test_every_parameter_has_a_gradient(subject):
    """In float64, where a gradient that cancels is far below one that does
    not; in training mode, where batch norm cancels what is before it.
    """
    module = subject.make().double().train()
    x = torch.randn(11, 23, subject.input_size, dtype=torch.float64)
    # So that a module without parameters can be asked too.
    out = module(x.requires_grad_())
    (out * torch.randn_like(out)).sum().backward()
    without = [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is None or parameter.grad.abs().max() < 1e-9
    ]
    assert not without


def test_only_what_the_last_layer_does_in_vain_has_no_gradient():
    """The listed exception: ``prune_last=False``, the authors' layout."""
    options = {"num_layers": 2, "key_size": 5, "ffn_size": 11, "dropout": 0.0}
    whole = SerializedAttentionPooling(7, prune_last=False, **options)
    pruned = SerializedAttentionPooling(7, **options)
    missing = pruned.load_state_dict(whole.state_dict(), strict=False)
    assert not missing.missing_keys and missing.unexpected_keys
    x = torch.randn(3, 23, 7)
    whole(x).sum().backward()
    assert [
        name for name, value in whole.named_parameters() if value.grad is None
    ] == missing.unexpected_keys
    assert torch.equal(whole(x), pruned(x))


@every_subject
def test_gradients_stay_finite(subject):
    """With NaN in the padding, and with frames that do not differ."""
    module = subject.make()
    x, lengths = subject.inputs()
    for row, count in enumerate(COUNTS):
        x[row, count:] = float("nan")
    x[2, : COUNTS[2]] = 3.0
    x.requires_grad_()
    module(x, lengths).sum().backward()
    tensors = {"x": x, **dict(module.named_parameters())}
    assert not [
        name for name, one in tensors.items() if not one.grad.isfinite().all()
    ]
    for row, count in enumerate(COUNTS):
        assert not x.grad[row, count:].any()


@every_subject
@torch.no_grad()
def test_silence_is_finite(subject):
    """All features zero, and all at the floor of log energies."""
    module = subject.make()
    for value in (0.0, -23.0):
        x = torch.full((3, 19, subject.input_size), value)
        assert module(x).isfinite().all()


@every_subject
@torch.no_grad()
def test_saved_and_loaded_it_is_the_same(subject):
    module, other = subject.make(seed=1), subject.make(seed=2)
    x, lengths = subject.inputs()
    if module.state_dict():
        assert not torch.equal(module(x, lengths), other(x, lengths))
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(module(x, lengths), other(x, lengths))


@pytest.mark.parametrize(
    "subject",
    ATTENTIVE_SUBJECTS + POOLED_SUBJECTS,
    ids=ids(ATTENTIVE_SUBJECTS + POOLED_SUBJECTS),
)
@torch.no_grad()
def test_attention_of_lobes(subject):
    """[batch, heads, frames that the pooling sees], zero on padding."""
    module = subject.make()
    x, lengths = subject.inputs()
    attention = module.attention(x, lengths)
    frames = module.encoder.output_frames(x.shape[1])
    counts = [module.encoder.output_frames(count) for count in COUNTS]
    assert attention.shape[::2] == (len(COUNTS), frames)
    assert_near(attention.sum(dim=2), torch.ones(attention.shape[:2]))
    for row, count in zip(attention, counts, strict=True):
        assert not row[:, count:].any()
        assert (row[:, :count] > 0).all()
