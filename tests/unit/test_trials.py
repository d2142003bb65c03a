"""Trial lists: what is read from each format, and what is told of it."""

import gzip
import tracemalloc

import numpy as np
import pytest

from speechbrain_attn.dataio import lines
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.dataio.utterance_files import trial_files
from speechbrain_attn.errors import AttnError

GOOD = "1 a/x/1.wav a/y/2.wav\n0 a/x/1.wav b/z/3.wav\n"


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "trials.txt"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return trials_from_file(path)

    return read


def test_utterances_and_arrays(read):
    trials = read(GOOD)
    assert trials.utterances == ["a/x/1", "a/y/2", "b/z/3"]
    np.testing.assert_array_equal(trials.enrol, [0, 0])
    np.testing.assert_array_equal(trials.test, [1, 2])
    np.testing.assert_array_equal(trials.labels, [True, False])
    assert trials.enrol.dtype == trials.test.dtype == np.int32
    assert trials.labels.dtype == bool
    assert len(trials) == 2


@pytest.mark.parametrize(
    "text",
    [
        "1 a/x/1 a/y/2\n0 a/x/1 b/z/3",
        "1 a/x/1.wav a/y/2.flac\n0 a/x/1 b/z/3.WAV\n\n\n",
        "1\ta/x/1.wav  a/y/2.wav \r\n0 a/x/1.wav\tb/z/3.wav\r\n",
        "\ufeff" + GOOD,
    ],
    ids=["no_extension", "mixed", "tabs_and_crlf", "byte_order_mark"],
)
def test_the_same_list_written_otherwise(read, text):
    assert read(text).utterances == ["a/x/1", "a/y/2", "b/z/3"]


FORMATS = {
    "VoxCeleb": GOOD,
    "label-last": "a/x/1.wav a/y/2.wav 1\na/x/1.wav b/z/3.wav 0\n",
    "Kaldi": "a/x/1 a/y/2 target\na/x/1 b/z/3 nontarget\n",
    "SpeechBrain scores": "a/x/1 a/y/2 1 0.731\na/x/1 b/z/3 0 -1e-3\n",
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_recognised_and_said(read, name, pack):
    trials = read(pack(FORMATS[name].encode()))
    assert trials.format == name
    assert trials.utterances == ["a/x/1", "a/y/2", "b/z/3"]
    np.testing.assert_array_equal(trials.enrol, [0, 0])
    np.testing.assert_array_equal(trials.test, [1, 2])
    np.testing.assert_array_equal(trials.labels, [True, False])


# fmt: off
AMBIGUOUS = [  # id, text, format, pair in the first line, labels
    ("numbers_last", "0 5 1\n1 6 0\n7 1 0\n", "label-last", "05", "100"),
    ("numbers_first", "0 5 1\n1 6 0\n1 7 8\n", "VoxCeleb", "51", "011"),
    ("model_1_last", "1 5 1\n1 6 0\n1 7 0\n", "label-last", "15", "100"),
    ("test_0_first", "1 5 0\n0 6 0\n1 7 0\n", "VoxCeleb", "50", "101"),
    ("words_win", "1 5 target\n0 6 nontarget\n", "Kaldi", "15", "10"),
    ("named_target", "1 target 5\n0 6 target\n", "VoxCeleb", ["target", "5"],
     "10"),
]
# fmt: on


@pytest.mark.parametrize(
    "text, form, pair, labels",
    [pytest.param(*row[1:], id=row[0]) for row in AMBIGUOUS],
)
def test_utterances_may_look_like_labels(read, text, form, pair, labels):
    trials = read(text)
    first = trials.enrol[0], trials.test[0]
    assert trials.format == form
    assert [trials.utterances[row] for row in first] == list(pair)
    assert "".join(map(str, trials.labels.astype(int))) == labels


def test_a_format_is_recognised_from_lines_far_down(read, monkeypatch):
    """One block of lines alone could be VoxCeleb's as well."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    trials = read("0 5 1\n1 6 0\n" * 100 + "7 5 1\n")
    assert trials.format == "label-last"
    assert len(trials) == 201


@pytest.mark.parametrize("block", [1, 7, 20, 1000])
def test_blocks_leave_no_trace(read, monkeypatch, block):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    names = [f"é{k % 7}/{'x' * (1 + k % 13)}.wav" for k in range(41)]
    rows = [f"{k % 2} {names[k]} {names[-k]}" for k in range(41)]
    trials = read("\ufeff" + "\r\n".join(rows) + "\n \n\n")
    for k, (one, other) in enumerate(
        zip(trials.enrol, trials.test, strict=True)
    ):
        assert trials.utterances[one] + ".wav" == names[k]
        assert trials.utterances[other] + ".wav" == names[-k]
    assert len(set(trials.utterances)) == len(trials.utterances)


def test_memory_is_bounded_by_numbers_not_by_text(tmp_path):
    """Two words of a trial as Python objects would take 150 bytes alone."""
    num_trials, path = 200_000, tmp_path / "long.txt"
    with open(path, "w") as file:
        for k in range(num_trials):
            file.write(f"{k % 2} id{k % 97}/00001.wav id{k % 89}/00001.wav\n")
    tracemalloc.start()
    try:
        trials = trials_from_file(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(trials) == num_trials
    kept = sum(a.nbytes for a in (trials.enrol, trials.test, trials.labels))
    assert kept == 9 * num_trials
    block = 32 * lines.BLOCK_BYTES  # its words as objects and as arrays
    assert peak < 30 * num_trials + block / 2


def test_dots_of_a_session_stay(read):
    """SpeechBrain cuts a name at its first dot."""
    trials = read("1 a/x.1/1.wav a/x.2/1.wav\n0 a/x.1/1.wav b/x.1/1\n")
    assert trials.utterances == ["a/x.1/1", "a/x.2/1", "b/x.1/1"]


@pytest.fixture
def corpus(tmp_path):
    """Data folders in several layouts; empty files, since none is read."""

    def corpus(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()

    return corpus


@pytest.mark.parametrize(
    "above", ["", "wav/", "test/wav/", "dev/aac/", "vox1_test_wav/wav/"]
)
@pytest.mark.parametrize("extension", [".wav", ".flac", ".m4a"])
def test_files_are_found_in_every_layout(
    read, corpus, tmp_path, above, extension
):
    names = ["a/x/1", "a/y/2", "b/z/3"]
    corpus(*(f"data/{above}{name}{extension}" for name in names))
    files = trial_files(read(GOOD), tmp_path / "data")
    assert files == {
        name: f"{tmp_path}/data/{above}{name}{extension}" for name in names
    }


def test_files_of_several_data_folders(read, corpus, tmp_path):
    corpus("v1/wav/a/x/1.wav", "v2/a/y/2.wav", "v2/b/z/3.wav")
    files = trial_files(read(GOOD), f"{tmp_path}/v1,{tmp_path}/v2")
    assert files["a/x/1"] == f"{tmp_path}/v1/wav/a/x/1.wav"
    assert files["b/z/3"] == f"{tmp_path}/v2/b/z/3.wav"


def test_a_missing_utterance_is_named_with_its_line(read, corpus, tmp_path):
    corpus("data/a/x/1.wav", "data/a/y/2.wav")
    says = r"trials.txt line 2: no audio file for utterance 'b/z/3' .*/data"
    with pytest.raises(AttnError, match=says):
        trial_files(read(GOOD), tmp_path / "data")


def test_a_missing_data_folder_is_named(read, tmp_path):
    with pytest.raises(AttnError, match=r"/none: no such data folder"):
        trial_files(read(GOOD), tmp_path / "none")


def test_rows_and_places_of_utterances(read):
    trials = read(GOOD)
    rows = trials.rows(["b/z/3", "a/x/1", "b/z/3"])
    np.testing.assert_array_equal(rows, [2, 0, 2])
    assert rows.dtype == np.int32
    assert trials.place_of("b/z/3") == f"{trials.path} line 2"
    with pytest.raises(AttnError, match=r"'c' is not in .*trials.txt, which"):
        trials.rows(["a/x/1", "c"])


def test_rows_among_ids_of_a_store(read):
    ids = ["b/z/3.wav", "spare", "a/y/2.flac", "a/x/1"]
    rows = read(GOOD).rows_among(ids, "store")
    np.testing.assert_array_equal(rows, [3, 2, 0])
    says = (
        r"trials.txt line 1: utterance 'a/y/2' is not in store/; 2 of 3 are "
        r"missing"
    )
    with pytest.raises(AttnError, match=says):
        read(GOOD).rows_among(["a/x/1"], "store/")


def test_counts_of_odd_trials(read):
    rows = ["1 a b", "1 b a", "0 b a", "0 a b", "1 c c", "1 a b", "0 a c"]
    trials = read("\n".join(rows))
    assert len(trials) == 7  # nothing is dropped
    assert trials.counts()._asdict() == {
        "targets": 4,
        "nontargets": 3,
        "duplicated": 3,
        "self_trials": 1,
        "conflicting": 1,
    }
    assert trials.summary() == (
        f"{trials.path} (VoxCeleb format): 7 trials, 4 targets and 3 "
        "nontargets, of 3 utterances. Duplicated trials: 3; of an utterance "
        "with itself: 1; pairs with both labels: 1."
    )
