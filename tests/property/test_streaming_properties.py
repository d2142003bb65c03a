"""Statistics and encoders over any blocks equal those of all frames."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_attn.nnet import streaming
from speechbrain_attn.nnet.encoders import TDNNEncoder, VGGEncoder
from speechbrain_attn.nnet.masking import masked_softmax
from speechbrain_attn.nnet.moments import weighted_moments
from speechbrain_attn.nnet.streaming import SoftmaxMoments, encoded_blocks

EPS = 1e-10
cuts = st.lists(st.integers(1, 59), max_size=7)


def drawn(seed, *shape):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def blocks(x, cuts, dim):
    edges = [0, *sorted(set(cuts)), x.shape[dim]]
    sizes = [b - a for a, b in zip(edges, edges[1:], strict=False)]
    return x.split(sizes, dim)


@settings(deadline=None)
@given(
    seed=st.integers(0, 99),
    cuts=cuts,
    spread=st.sampled_from([0.0, 1.0, 30.0, 1000.0]),
    offset=st.sampled_from([0.0, -1e4, 1e4]),
    mean=st.sampled_from([0.0, 1e3]),
)
def test_moments_are_those_of_all_frames(seed, cuts, spread, offset, mean):
    """Also where exp(score) leaves every float, and the mean is far off."""
    x = drawn(seed, 2, 60, 3) + mean
    scores = spread * drawn(seed + 1, 2, 5, 60) + offset
    expected = weighted_moments(x, masked_softmax(scores, None), EPS)
    moments = SoftmaxMoments()
    for block, part in zip(
        blocks(x, cuts, 1), blocks(scores, cuts, 2), strict=True
    ):
        moments.update(block, part)
    for found, one_pass in zip(moments.moments(EPS), expected, strict=True):
        # The root of a variance has half of its digits.
        torch.testing.assert_close(found, one_pass, atol=1e-6, rtol=1e-9)
    assert torch.equal(moments.mean(), moments.moments(EPS)[0])


@settings(deadline=None)
@given(seed=st.integers(0, 99), cuts=cuts)
def test_without_scores_every_frame_counts_the_same(seed, cuts):
    x = drawn(seed, 2, 60, 3)
    moments = SoftmaxMoments()
    for block in blocks(x, cuts, 1):
        moments.update(block)
    mean, std = moments.moments(EPS)
    torch.testing.assert_close(mean[:, 0], x.mean(dim=1))
    torch.testing.assert_close(std[:, 0], x.std(dim=1, correction=0))


ENCODERS = {
    "tdnn": lambda: TDNNEncoder(3, (5, 4), (5, 3), (1, 4)),
    "tdnn_no_context": lambda: TDNNEncoder(3, (5,), (1,), (1,)),
    "vgg_1": lambda: VGGEncoder(3, (4,)),
    "vgg_2": lambda: VGGEncoder(3, (2, 4), batch_norm=True),
    "vgg_4": lambda: VGGEncoder(3, (2, 2, 2, 4)),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(deadline=None, max_examples=25)
@given(
    frames=st.integers(1, 200),
    step=st.integers(1, 90),
    start=st.integers(0, 3),
)
def test_encoded_blocks_are_those_of_all_frames(encoder, frames, step, start):
    torch.manual_seed(1)
    encoder = ENCODERS[encoder]().eval().double()
    x = drawn(frames, 1, frames, 3)
    start = min(start, (frames - 1) // encoder.stride) * encoder.stride
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(streaming, "BLOCK_FRAMES", step)
        found = list(
            encoded_blocks(
                encoder,
                lambda left, right: x[:, left:right],
                start,
                frames,
                frames,
            )
        )
        expected = encoder(x)[:, start // encoder.stride :]
    assert len(found) >= -(-(frames - start) // max(step, encoder.stride))
    torch.testing.assert_close(torch.cat(found, dim=1), expected)
