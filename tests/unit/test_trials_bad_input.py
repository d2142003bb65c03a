"""What the user is told of trial lists, and maps beside them, gone wrong."""

import gzip

import pytest

from speechbrain_attn.dataio import lines
from speechbrain_attn.dataio.scores import read_scores
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError

GOOD = "1 a/x/1.wav a/y/2.wav\n0 a/x/1.wav b/z/3.wav\n"
KALDI = "a b target\na c nontarget\n"
PACKED = gzip.compress(GOOD.encode() * 1000)

# fmt: off
BAD = [  # id, text, what the message must say
    ("two_fields", GOOD + "1 a/1.wav\n",
     r'trials.txt line 3: want "label enrolment test" or "enrolment test '
     r'label", got 2 fields \("1 a/1.wav"\). Is the file cut short\?$'),
    ("five_fields", GOOD + "1 a b c d\n",
     r'line 3: .* got 5 fields \("1 a b c d"\)\. Names with blanks and comm'),
    ("a_score_in_one", GOOD + "a b 1 0.5\n", r'line 3: .* got 4 fields'),
    ("first_line", "1 a\n" + GOOD, r'line 1: .* got 2 fields \("1 a"\)'),
    ("uneven", "1 a\n1 a b c\n", r"line 1: .* got 2 fields"),
    ("gap", "1 a b\n\n0 a c\n", r'line 2: .* got 0 fields \(""\)'),
    ("label_2", GOOD + "2 a/1.wav b/1.wav\n",
     r"line 3: want the label 0 or 1 first, got '2' \(\"2 a/1.wav b/1.wav"
     r"\"\); 2 of 3 lines have it there\.$"),
    ("label_2_last", "a b 1\nc d 2\n",
     r"line 2: want the label 0 or 1 third, got '2'"),
    ("kaldi_label", KALDI + "a d tgt\n",
     r"line 3: want the label nontarget or target third, got 'tgt'"),
    ("mixed_labels", KALDI + "a d 1\n",
     r"line 3: want the label nontarget or target third, got '1'"),
    ("no_label", "a b c\nd e f\n",
     r'line 1: no label in "a b c", nor in any other line; want 0 or 1 first'),
    ("no_label_scores", "1 a b 5\n0 a c 4\n",
     r'line 1: want the label 0 or 1 third, got "1 a b", in a list of four'),
    ("either", "0 a 1\n1 b 0\n",
     r'line 1: "0 a 1" can be read in two ways, .* Write the labels as target'),
    ("score_word", "a b 1 x\na c 0 0.5\n",
     r'line 1: want "enrolment test label score" .* got \'x\' as the score'),
    ("score_nan", "a b 1 0.1\na c 0 nan\n", r"line 2: .* got 'nan'"),
    ("no_target", "0 a b\n0 a c\n",
     r"line 2: the list ends here with 0 targets and 2 nontargets"),
    ("no_nontarget", "a b target\n", r"1 targets and 0 nontargets"),
    ("only_ones", "1 a 1\n1 b 1\n", r"2 targets and 0 nontargets"),
    ("empty", "", r"line 1: .* got 0 fields"),
    ("blank", " \n\n", r"line 1: .* got 0 fields"),
    ("not_text", b"1 \xff\xfe b\n", r"is not a text file \(.* at byte 2\)"),
    ("zero_byte", b"1 a b\n0 a\0 c\n", r"\(zero byte at byte 9\)"),
    ("utf_16", GOOD.encode("utf-16"), r"is not a text file \(.* at byte 0\)"),
    ("gzip_cut", PACKED[:-20], r"trials.txt: cannot be unpacked \(.*cut short"),
    ("gzip_damaged", PACKED[:40] + b"\xff" * 20 + PACKED[60:],
     r"cannot be unpacked \("),
    ("long_name", "1 a " + "b" * 1001 + "\n0 a c\n",
     r'line 1: a name of 1,001 bytes \("b{120}\.\.\."\); at most 1,000'),
]
# fmt: on


@pytest.mark.parametrize("block", [5, 1 << 18])
@pytest.mark.parametrize(
    "text, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_a_bad_list_is_one_error_with_its_line(
    tmp_path, monkeypatch, text, says, block
):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    path = tmp_path / "trials.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(AttnError, match=says):
        trials_from_file(path)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(AttnError, match=r"none.txt: cannot be read \(No such"):
        trials_from_file(tmp_path / "none.txt")
    with pytest.raises(AttnError, match=r"trial list .* \(Is a directory\)"):
        trials_from_file(tmp_path)
    with pytest.raises(AttnError, match=r"nothing is downloaded here; fetch"):
        trials_from_file("https://example.org/list.txt")


def test_a_file_without_lines_is_given_up_early(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_LONGEST_LINE", 1000)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100)
    path = tmp_path / "trials.txt"
    path.write_text("1 a b\n" + "x" * 5000)
    with pytest.raises(AttnError, match="line 2: goes on for more than 1,000"):
        trials_from_file(path)


# fmt: off
BAD_MAPS = [  # id, enrolment map, what the message must say
    ("no_utterance", "m u1\nn\n",
     r'map.txt line 2: want "model utterance .*", got 1 fields \("n"\)'),
    ("gap", "m u1\n\nn u2\n", r"map.txt line 2: .* got 0 fields"),
    ("twice", "m u1\nn u2\nm u3\n",
     r"map.txt line 3: model 'm' stands in line 1 already; put all"),
    ("utterance_twice", "m u1 u2 u1.wav\nn u3\n",
     r"map.txt line 1: model 'm' has utterance 'u1' twice"),
    ("lacks_a_model", "m u1\n",
     r"trials.txt line 2: model 'n' is not in the enrolment map .*map.txt "
     r"\(1 models, such as 'm'\)"),
    ("not_text", "m \udcff\n", r"enrolment map .*map.txt: is not a text file"),
]
# fmt: on


@pytest.mark.parametrize(
    "text, says", [pytest.param(*row[1:], id=row[0]) for row in BAD_MAPS]
)
def test_a_bad_enrolment_map_is_one_error(tmp_path, text, says):
    (tmp_path / "trials.txt").write_text("1 m t1\n0 n t1\n")
    path = tmp_path / "map.txt"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(AttnError, match=says):
        trials_from_file(tmp_path / "trials.txt", path)


def test_a_list_is_no_score_file(tmp_path):
    (tmp_path / "trials.txt").write_text(GOOD)
    says = r'line 1: want "enrolment test label score", got 3 fields; a trial'
    with pytest.raises(AttnError, match=says):
        read_scores(tmp_path / "trials.txt")
