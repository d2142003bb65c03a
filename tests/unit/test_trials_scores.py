"""scores.txt: written as SpeechBrain does, and read again."""

import os

import numpy as np
import pytest

from speechbrain_attn.dataio import scores as module
from speechbrain_attn.dataio.scores import read_scores, write_scores
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError


@pytest.fixture
def trials(tmp_path):
    path = tmp_path / "trials.txt"
    rows = [f"{k % 2} a/{k % 5}.wav b/{k % 3}.wav\n" for k in range(101)]
    path.write_text("".join(rows))
    return trials_from_file(path)


@pytest.mark.parametrize("block", [1, 7, 101, 1 << 16])
def test_the_lines_are_those_of_speechbrain(
    tmp_path, monkeypatch, trials, block
):
    monkeypatch.setattr(module, "_BLOCK", block)
    scores = np.random.default_rng(0).normal(size=101).astype(np.float32)
    write_scores(tmp_path / "scores.txt", trials, scores)
    # SpeechBrain's script has "%s %s %i %f\n"; %f means six decimals.
    wanted = [
        f"a/{k % 5} b/{k % 3} {k % 2} {scores[k]:f}\n" for k in range(101)
    ]
    assert (tmp_path / "scores.txt").read_text() == "".join(wanted)


def test_what_is_written_is_read(tmp_path, trials):
    scores = np.random.default_rng(0).normal(0, 50, 101)
    write_scores(tmp_path / "scores.txt", trials, scores)
    again, found = read_scores(tmp_path / "scores.txt")
    assert found.dtype == np.float64
    # Half of the sixth decimal, and what float64 adds to it.
    np.testing.assert_allclose(found, scores, rtol=0, atol=5.001e-7)
    assert again.format == "SpeechBrain scores"
    assert again.utterances == trials.utterances
    for name in ("enrol", "test", "labels"):
        np.testing.assert_array_equal(
            getattr(again, name), getattr(trials, name)
        )


def test_models_are_written_by_name(tmp_path):
    (tmp_path / "trials.txt").write_text("m u1 1\nn u1 0\n")
    (tmp_path / "map.txt").write_text("m u2 u3\nn u4\n")
    trials = trials_from_file(tmp_path / "trials.txt", tmp_path / "map.txt")
    path = tmp_path / "scores.txt"
    write_scores(path, trials, [2, -1])
    assert path.read_text() == "m u1 1 2.000000\nn u1 0 -1.000000\n"
    again, _ = read_scores(path, tmp_path / "map.txt")
    assert again.models == ["m", "n"]
    assert again.utterances == trials.utterances


# fmt: off
BAD = [  # id, scores, what the message must say
    ("too_few", np.zeros(100), r"the 101 trials of .*, got .* shape \(100,\)"),
    ("column", np.zeros((101, 1)), r"got an array of shape \(101, 1\)"),
    ("nan", np.where(np.arange(101) > 98, np.nan, 0),
     r"scores: nan for .*trials.txt line 100 \(a/4 and b/0\), and so 2 of 101"),
]
# fmt: on


@pytest.mark.parametrize(
    "scores, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_scores_are_refused(tmp_path, trials, scores, says):
    with pytest.raises(AttnError, match=says):
        write_scores(tmp_path / "scores.txt", trials, scores)
    assert os.listdir(tmp_path) == ["trials.txt"]


def test_an_earlier_file_stays_where_writing_fails(
    tmp_path, monkeypatch, trials
):
    path = tmp_path / "scores.txt"
    path.write_text("earlier")

    def full_disk(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(AttnError, match="scores.txt: cannot be written .No sp"):
        write_scores(path, trials, np.zeros(101))
    assert path.read_text() == "earlier"
    assert sorted(os.listdir(tmp_path)) == ["scores.txt", "trials.txt"]
