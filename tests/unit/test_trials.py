"""Trial lists: what is read, and what is said of lists that cannot be."""

import numpy as np
import pytest

from speechbrain_attn.dataio.trials import trial_files, trials_from_file
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


def test_dots_of_a_session_stay(read):
    """SpeechBrain cuts a name at its first dot."""
    trials = read("1 a/x.1/1.wav a/x.2/1.wav\n0 a/x.1/1.wav b/x.1/1\n")
    assert trials.utterances == ["a/x.1/1", "a/x.2/1", "b/x.1/1"]


# fmt: off
BAD = [  # id, text, what the message must say
    ("two_fields", GOOD + "1 a/1.wav\n",
     r'line 3: want "label enrolment test", got 2 fields \("1 a/1.wav"\)'),
    ("four_fields", "1 a b c\n", r"trials.txt line 1: .* got 4 fields"),
    ("gap", "1 a b\n\n0 a c\n", r"line 2: .* got 0 fields"),
    ("label_last", "a/1.wav b/1.wav 1\n", r"line 1: .* got 'a/1.wav'"),
    ("label_2", GOOD + "2 a/1.wav b/1.wav\n",
     r"line 3: want the label 0 or 1 first, got '2'"),
    ("no_target", "0 a b\n0 a c\n",
     r"line 2: the list ends here with 0 targets and 2 nontargets"),
    ("no_nontarget", "1 a b\n", r"1 targets and 0 nontargets"),
    ("empty", "", r"line 1: .* got 0 fields"),
    ("not_text", b"1 \xff\xfe b\n", r"is not a text file \(.* at byte 2\)"),
]
# fmt: on


@pytest.mark.parametrize(
    "text, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_a_bad_list_is_one_error_with_its_line(read, text, says):
    with pytest.raises(AttnError, match=says):
        read(text)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(AttnError, match=r"none.txt: cannot be read \(No such"):
        trials_from_file(tmp_path / "none.txt")


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
