"""The LSTM of GE2E: sizes, last frames and windows."""

import pytest
import torch
from torch.nn.functional import normalize

from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.models.ge2e_lstm import GE2ELSTM


def network(window_frames=8, training=False):
    torch.manual_seed(1)
    lobe = GE2ELSTM(7, 13, 2, 11, window_frames).train(training)
    with torch.no_grad():
        for weight in lobe.parameters():
            weight.mul_(3.0)  # so that frames long ago still have a say
    return lobe


def last_output(lobe, x):
    """Embedding of [frames, features], read in one piece."""
    return normalize(lobe.lstm(x[None])[0][0, -1], dim=0)


def test_paper_sizes_are_the_defaults():
    lobe = GE2ELSTM()
    assert sum(one.numel() for one in lobe.parameters()) == 4_663_296
    assert (lobe.input_size, lobe.embedding_size) == (40, 256)
    assert lobe.window_frames == 160


@pytest.mark.parametrize("window_frames, training", [(8, True), (None, False)])
@torch.no_grad()
def test_one_piece_is_the_output_at_the_last_own_frame(window_frames, training):
    lobe = network(window_frames, training)
    x = torch.randn(3, 23, 7)
    found = lobe(x, torch.tensor([23, 5, 1]) / 23)
    for row, count in enumerate((23, 5, 1)):
        expected = last_output(lobe, x[row, :count])
        torch.testing.assert_close(found[row, 0], expected)


@pytest.mark.parametrize(
    "count, starts",
    [
        *((1, [0]), (7, [0]), (8, [0])),  # no longer than a window
        *((9, [0, 1]), (11, [0, 3]), (12, [0, 4])),
        *((13, [0, 4, 5]), (16, [0, 4, 8]), (23, [0, 4, 8, 12, 15])),
    ],
)
@torch.no_grad()
def test_windows_by_hand(count, starts):
    """Half a window apart, the last one ending with the utterance."""
    lobe = network()
    x = torch.randn(1, count, 7)
    windows = [last_output(lobe, x[0, start : start + 8]) for start in starts]
    expected = normalize(torch.stack(windows).mean(dim=0), dim=0)
    torch.testing.assert_close(lobe(x)[0, 0], expected)
    # And in a batch with a longer one.
    longer = torch.full((2, 40, 7), float("nan"))
    longer[0, :count] = x[0]
    longer[1] = 0.0
    found = lobe(longer, torch.tensor([count / 40, 1.0]))
    torch.testing.assert_close(found[0, 0], expected)


@torch.no_grad()
def test_an_odd_window():
    lobe = network(window_frames=5)
    x = torch.randn(1, 10, 7)
    windows = [last_output(lobe, x[0, start:][:5]) for start in (0, 2, 4, 5)]
    expected = normalize(torch.stack(windows).mean(dim=0), dim=0)
    torch.testing.assert_close(lobe(x)[0, 0], expected)


@torch.no_grad()
def test_windows_are_for_eval_mode_and_long_utterances():
    x = torch.randn(2, 23, 7)
    whole, windows = network(None), network(8)
    assert (whole(x) - windows(x)).abs().max() > 1e-2
    assert torch.equal(whole(x), windows.train()(x))
    assert torch.equal(whole(x), network(23)(x))


@torch.no_grad()
def test_embeddings_have_unit_length():
    for lobe in (network(None), network(8)):
        x, lengths = torch.randn(3, 23, 7), torch.tensor([1.0, 0.5, 0.1])
        found = lobe(x, lengths)
        assert found.shape == (3, 1, 11)
        torch.testing.assert_close(found.norm(dim=2), torch.ones(3, 1))


@pytest.mark.parametrize("window_frames", [1, 0, -3])
def test_a_window_of_no_length_is_refused(window_frames):
    with pytest.raises(AttnError, match=rf"window_frames={window_frames}; w"):
        GE2ELSTM(window_frames=window_frames)
    GE2ELSTM(7, 13, 1, 11, window_frames=2).eval()(torch.randn(1, 9, 7))


def test_utterances_differ_before_training():
    """From PyTorch's own weights every cosine is 0.99 and more."""
    torch.manual_seed(0)
    network, x = GE2ELSTM().train(), torch.randn(8, 60, 40)
    with torch.no_grad():
        embeddings = network(x).squeeze(1)
        network.lstm.reset_parameters()
        of_torch = network(x).squeeze(1)
    others = ~torch.eye(8, dtype=torch.bool)
    assert (of_torch @ of_torch.T)[others].min() > 0.99
    assert (embeddings @ embeddings.T)[others].max() < 0.9
