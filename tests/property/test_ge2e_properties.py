"""What must hold of GE2E for any embeddings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_attn.nnet.losses import angular_prototypical_loss, ge2e_loss

once = settings(derandomize=True, deadline=None, max_examples=50)
# speakers, utterances, size, w, b, seed of the embeddings and of the change
CASES = st.tuples(
    st.integers(2, 7),
    st.integers(2, 7),
    st.integers(2, 11),
    st.floats(0.1, 50.0),
    st.floats(-10.0, 10.0),
    st.integers(0, 2**32 - 1),
)
every_variant = pytest.mark.parametrize("variant", ["softmax", "contrast"])


def drawn(case):
    """Embeddings, w, b and the generator that drew them."""
    speakers, utterances, size, w, b, seed = case
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(
        speakers, utterances, size, generator=generator, dtype=torch.float64
    )
    return x, w, b, generator


def same(one, other):
    # Ill-conditioned where a centroid is near zero, so not to the last digit.
    torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-7)


@every_variant
@once
@given(CASES)
def test_speakers_and_utterances_have_no_order(variant, case):
    x, w, b, generator = drawn(case)
    losses = ge2e_loss(x, w, b, variant, "none")
    order = torch.randperm(len(x), generator=generator)
    same(ge2e_loss(x[order], w, b, variant, "none"), losses[order])
    order = torch.randperm(x.shape[1], generator=generator)
    # Of one speaker alone.
    x[0], losses[0] = x[0, order], losses[0, order]
    same(ge2e_loss(x, w, b, variant, "none"), losses)


@every_variant
@once
@given(CASES)
def test_rotation_and_length_have_no_say(variant, case):
    x, w, b, generator = drawn(case)
    losses = ge2e_loss(x, w, b, variant, "none")
    size = x.shape[2]
    matrix = torch.randn(size, size, generator=generator, dtype=x.dtype)
    rotation, _ = torch.linalg.qr(matrix)
    same(ge2e_loss(x @ rotation, w, b, variant, "none"), losses)
    scale = torch.rand(x.shape[:2], generator=generator, dtype=x.dtype)
    scaled = x * (1e-2 + 1e3 * scale).unsqueeze(2)
    same(ge2e_loss(scaled, w, b, variant, "none"), losses)


@once
@given(CASES)
def test_b_has_no_say_in_the_softmax(case):
    x, w, b, _ = drawn(case)
    same(ge2e_loss(x, w, b), ge2e_loss(x, w, 0.0))


@every_variant
@once
@given(CASES)
def test_losses_lie_in_their_range(variant, case):
    x, w, b, _ = drawn(case)
    losses = ge2e_loss(x, w, b, variant, "none")
    highest = 2.0
    if variant == "softmax":
        highest = 2 * w + torch.tensor(float(len(x))).log().item()
    assert losses.min() >= 0
    assert losses.max() <= highest + 1e-9


@once
@given(CASES)
def test_prototypes_have_no_order(case):
    """But the last utterance is the one that is compared."""
    x, w, b, generator = drawn(case)
    losses = angular_prototypical_loss(x, w, b, "none")
    order = torch.randperm(len(x), generator=generator)
    found = angular_prototypical_loss(x[order], w, b, "none")
    same(found, losses[order])
    order = torch.randperm(x.shape[1] - 1, generator=generator)
    x[:, :-1] = x[:, order]
    same(angular_prototypical_loss(x, w, b, "none"), losses)
