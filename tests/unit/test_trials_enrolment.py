"""Models of several utterances, and the speakers of a list."""

import gzip

import numpy as np
import pytest

from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError

LIST = "anna a/3 target\nbert a/1 nontarget\nanna a/1 target\n"
MAP = "spare s/1 s/2\nbert b/1.wav b/2.wav b/3\nanna a/1.wav a/2\n"


@pytest.fixture
def read(tmp_path):
    def read(trials=LIST, enrol_map=MAP, pack=bytes):
        (tmp_path / "trials.txt").write_text(trials)
        if enrol_map is None:
            return trials_from_file(tmp_path / "trials.txt")
        (tmp_path / "map.txt").write_bytes(pack(enrol_map.encode()))
        return trials_from_file(tmp_path / "trials.txt", tmp_path / "map.txt")

    return read


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_rows_of_models_follow_those_of_utterances(read, pack):
    trials = read(pack=pack)
    utterances = ["a/3", "a/1", "b/1", "b/2", "b/3", "a/2"]
    assert trials.utterances == utterances
    assert trials.models == ["bert", "anna"]
    assert trials.names == [*utterances, "bert", "anna"]
    np.testing.assert_array_equal(trials.enrol, [7, 6, 7])
    np.testing.assert_array_equal(trials.test, [0, 1, 1])
    assert trials.enrol.dtype == trials.test.dtype == np.int32


def test_a_model_may_be_named_like_an_utterance(read):
    trials = read("1 u1 u1\n0 u2 u1\n", "u1 u2\nu2 u1 u3\n")
    assert trials.utterances == ["u1", "u2", "u3"]
    assert trials.models == ["u1", "u2"]
    np.testing.assert_array_equal(trials.enrol, [3, 4])
    np.testing.assert_array_equal(trials.test, [0, 0])


def test_a_model_is_the_mean_of_unit_embeddings_as_long_as_they_are(read):
    trials = read()
    generator = np.random.default_rng(0)
    embeddings = generator.normal(1, 3, (6, 7)).astype(np.float32)
    rows = trials.with_models(embeddings)
    assert rows.shape == (8, 7) and rows.dtype == np.float32
    np.testing.assert_array_equal(rows[:6], embeddings)
    for row, members in ((6, [2, 3, 4]), (7, [1, 5])):
        lengths = np.linalg.norm(embeddings[members], axis=1)
        units = embeddings[members] / lengths[:, None]
        want = units.mean(axis=0) * lengths.mean()
        np.testing.assert_allclose(rows[row], want, rtol=0, atol=1e-5)


def test_a_model_of_one_utterance_has_its_embedding(read):
    trials = read("1 m u2\n0 n u1\n", "m u1\nn u2\n")
    embeddings = 20 * np.random.default_rng(1).normal(size=(2, 7))
    embeddings = embeddings.astype(np.float32)
    members = trials.enrolment.members
    rows = trials.with_models(embeddings)
    np.testing.assert_array_equal(rows[2:], embeddings[members])


def test_without_a_map_nothing_is_added(read):
    trials = read("1 a b\n0 a c\n", None)
    embeddings = np.ones((3, 2))
    assert trials.with_models(embeddings) is embeddings
    assert trials.models == []


def test_bad_embeddings_are_refused(read):
    trials = read()
    says = r"want \[utterances = 6, embedding_size\], got \(5, 2\)"
    with pytest.raises(AttnError, match=says):
        trials.with_models(np.ones((5, 2)))
    embeddings = np.ones((6, 2))
    embeddings[0] = 0  # in no model
    assert np.isfinite(trials.with_models(embeddings)).all()
    embeddings[3] = np.nan
    says = r"map.txt line 2: the embedding of utterance 'b/2' has norm nan"
    with pytest.raises(AttnError, match=says):
        trials.with_models(embeddings)


def test_where_an_utterance_is_named(read):
    trials = read()
    places = {name: trials.place_of(name) for name in trials.utterances}
    list_path, map_path = trials.path, trials.enrolment.path
    assert places == {
        "a/3": f"{list_path} line 1",
        "a/1": f"{list_path} line 2",
        "b/1": f"{map_path} line 2",
        "b/2": f"{map_path} line 2",
        "b/3": f"{map_path} line 2",
        "a/2": f"{map_path} line 3",
    }


def test_counts_know_the_utterances_of_a_model(read):
    more = "anna a/1 nontarget\nanna a/2 target\nanna a/3 target\n"
    trials = read(LIST + more)
    assert tuple(trials.counts()) == (4, 2, 1, 3, 1)
    assert "of 6 utterances and 2 models (1 more models of" in trials.summary()


# fmt: off
NAMES = [  # id, two utterances of one speaker, one of another
    ("folders", "id1/x/1", "id1/y/2", "id2/x/1"),
    ("folder_with_dash", "id1-a/x", "id1-a/y", "id1-b/x"),
    ("one_folder", "id1/1", "id1/2", "id2/1"),
    ("dashes", "id1-x-1", "id1-y_2", "id2-x-1"),
    ("underscores", "id1_x_1", "id1_y-2", "id2_x_1"),
    ("below_wav", "wav/id1/x/1", "wav/id1/y/2", "wav/id2/x/1"),
]
# fmt: on


@pytest.mark.parametrize(
    "one, same, other", [pytest.param(*row[1:], id=row[0]) for row in NAMES]
)
def test_speakers_from_names(read, one, same, other):
    trials = read(f"1 {one} {same}\n0 {other} {one}\n", None)
    speakers = trials.speakers()
    np.testing.assert_array_equal(speakers, [0, 0, 1])
    assert speakers.dtype == np.int32


def test_a_model_has_the_speaker_of_its_utterances(read):
    speakers = read().speakers()
    np.testing.assert_array_equal(speakers, [0, 0, 1, 1, 1, 0, 1, 0])


@pytest.mark.parametrize("as_file", [True, False])
def test_speakers_from_a_map(read, tmp_path, as_file):
    odd = "u\u00a02\u2028"  # blank and end of line, but not in ASCII
    trials = read(f"1 u1 {odd}\n0 u1 u3\n", None)
    utt2spk = {"u3": "s", odd: "t", "u1": "t", "u9": "s"}
    if as_file:
        path = tmp_path / "utt2spk"
        text = "".join(f"{u}.wav {s}\n" for u, s in utt2spk.items())
        path.write_text(text + "u9 s\n")
        utt2spk = path
    else:
        utt2spk = {f"{u}.wav": s for u, s in utt2spk.items()}
    np.testing.assert_array_equal(trials.speakers(utt2spk), [0, 0, 1])


SPEAKERS = "a/1 x\na/2 x\na/3 x\nb/1 y\nb/2 y\nb/3 y\n"
# fmt: off
BAD = [  # id, trial list, enrolment map, utt2spk, what the message must say
    ("target", "1 a/1 a/2\n1 a/1 b/2\n0 a/1 c/1\n", None, None,
     r"trials.txt line 2: 'a/1' and 'b/2' are a target, with two speakers "
     r"\(1 of 3 trials are like that\), when taken from the utterances' "
     r"names. Give utt2spk, a file of lines \"utterance speaker\" or a dict"),
    ("nontarget", "1 a/1 a/2\n0 a/1 a/3\n", None, None,
     r"line 2: 'a/1' and 'a/3' are a nontarget, with one speaker \(1 of 2"),
    ("mixed_model", LIST, MAP.replace("a/2", "c/2"), None,
     r"map.txt line 3: model 'anna' has utterances of the speakers 'a' and "
     r"'c', when taken"),
    ("map_contradicts", LIST, MAP, SPEAKERS.replace("a/3 x", "a/3 y"),
     r"line 1: 'anna' and 'a/3' are a target, .* by speaker map .*/utt2spk. "
     r"Mend one"),
    ("conflict", "1 a/1 a/2\n0 a/2 a/1\n1 b/1 b/2\n0 a/1 b/1\n", None, None,
     r"trials.txt: 1 pairs of utterances are targets in one line and nontarg"),
    ("map_lacks", LIST, MAP, SPEAKERS.replace("b/2 y\n", ""),
     r"map.txt line 2: utterance 'b/2' is not in speaker map .*; 1 of 6 are"),
    ("map_fields", LIST, MAP, SPEAKERS + "c/1\n",
     r'utt2spk line 7: want "utterance speaker", got 1 fields \("c/1"\)'),
    ("map_twice", LIST, MAP, SPEAKERS + "a/1.wav y\n",
     r"utt2spk line 7: utterance 'a/1' is of speaker 'y' here and of 'x'"),
]
# fmt: on


@pytest.mark.parametrize(
    "trials, enrol_map, utt2spk, says",
    [pytest.param(*row[1:], id=row[0]) for row in BAD],
)
def test_bad_speakers_are_refused(
    read, tmp_path, trials, enrol_map, utt2spk, says
):
    trials = read(trials, enrol_map)
    if utt2spk is not None:
        (tmp_path / "utt2spk").write_text(utt2spk)
        utt2spk = tmp_path / "utt2spk"
    with pytest.raises(AttnError, match=says):
        trials.speakers(utt2spk)


def test_the_good_map_is_accepted(read, tmp_path):
    (tmp_path / "utt2spk").write_text(SPEAKERS)
    assert len(read().speakers(tmp_path / "utt2spk")) == 8
