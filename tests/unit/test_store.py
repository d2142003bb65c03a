"""An embedding store gives back what was put in, or says what is wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.store import EmbeddingStore

IDS = ["id1/a/1", "id1/a/2", "id2/b ü/1.5", "id2/b\udcff/2", "id3/c/\r1"]
EMBEDDINGS = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "made" / "store"
    EmbeddingStore.create(folder, IDS, EMBEDDINGS, np.arange(5), {"a": [1]})
    return folder


def test_what_was_put_in_comes_back(folder):
    store = EmbeddingStore.open(str(folder))
    assert store.ids == IDS and len(store) == 5
    assert isinstance(store.embeddings, np.memmap)
    assert store.embeddings.dtype == store.durations.dtype == np.float32
    np.testing.assert_array_equal(store.embeddings, EMBEDDINGS)
    np.testing.assert_array_equal(store.durations, np.arange(5))
    assert store.settings == {"a": [1]}
    rows = store.rows([IDS[3], IDS[0], IDS[3]])
    assert rows.tolist() == [3, 0, 3] and rows.dtype == np.int64
    assert store.rows([]).tolist() == []


def test_nothing_else_is_left_in_the_folder(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "durations.npy",
        "embeddings.npy",
        "ids.txt",
        "store.json",
    ]


def test_durations_may_be_unknown(tmp_path):
    store = EmbeddingStore.create(tmp_path, IDS, EMBEDDINGS.tolist())
    assert np.isnan(store.durations).all() and store.settings == {}


def test_the_store_needs_no_torch():
    code = (
        "import sys, speechbrain_attn.scoring.store; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def spoil(folder, what):
    """Break one thing of a store."""
    if what == "unfinished":
        (folder / "store.json").unlink()
    elif what == "no_json":
        (folder / "store.json").write_text("{")
    elif what == "other_format":
        (folder / "store.json").write_text(json.dumps({"format": "x"}))
    elif what == "cut_short":
        path = folder / "embeddings.npy"
        path.write_bytes(path.read_bytes()[:-1])
    elif what == "empty":
        (folder / "durations.npy").write_bytes(b"")
    elif what == "pickle":
        np.save(folder / "durations.npy", np.array([{}]), allow_pickle=True)
    elif what == "float64":
        np.save(folder / "embeddings.npy", EMBEDDINGS.astype(np.float64))
    elif what == "fewer_ids":
        (folder / "ids.txt").write_text("a\nb\n")
    elif what == "no_ids":
        (folder / "ids.txt").unlink()


# fmt: off
DAMAGES = [  # what is wrong, what the message must say
    ("unfinished", r"holds no finished embeddings \(no store.json\). Run the"),
    ("no_json", r"store.json: cannot be read"),
    ("other_format", r"store.json: is not of the format"),
    ("cut_short", r"embeddings.npy: cannot be read .*Copy the store again"),
    ("empty", r"durations.npy: cannot be read .*Copy the store again"),
    ("pickle", r"durations.npy: cannot be read .*allow_pickle=False"),
    ("float64", r"embeddings.npy: want float32 of 2 axes, got float64 of"),
    ("fewer_ids", r"2 utterances in ids.txt, 5 rows in embeddings.npy"),
    ("no_ids", r"ids.txt: cannot be read"),
]
# fmt: on


@pytest.mark.parametrize("what, says", DAMAGES, ids=[d[0] for d in DAMAGES])
def test_a_damaged_store_is_refused(folder, what, says):
    spoil(folder, what)
    with pytest.raises(AttnError, match=says):
        EmbeddingStore.open(folder)


def test_an_unknown_utterance_is_named(folder):
    says = "no utterance 'id9/x'; 2 of 3 are missing; is it the store of ano"
    with pytest.raises(AttnError, match=says):
        EmbeddingStore.open(folder).rows([IDS[0], "id9/x", "id9/y"])


# fmt: off
BAD = [  # id, ids, shape, durations, what the message must say
    ("twice", ["a", "b", "a"], (3, 2), None, "utterance 'a': is there twice"),
    ("line_feed", ["a", "b\nc"], (2, 2), None, "want a name on one line"),
    ("empty", ["a", ""], (2, 2), None, "utterance '': want a name on one"),
    ("number", ["a", 7], (2, 2), None, "utterance 7: want a name on one"),
    ("rows", ["a", "b"], (3, 2), None, "3 rows for 2 utterances"),
    ("axes", ["a", "b"], (2,), None, r"want \[utterances, embedding_size\]"),
    ("durations", ["a", "b"], (2, 2), [1], r"got \(2, 2\) and \(1,\)"),
]
# fmt: on


@pytest.mark.parametrize(
    "ids, shape, durations, says",
    [pytest.param(*row[1:], id=row[0]) for row in BAD],
)
def test_bad_arrays_are_refused(tmp_path, ids, shape, durations, says):
    with pytest.raises(AttnError, match=says):
        EmbeddingStore.create(tmp_path, ids, np.ones(shape), durations)
    assert not (tmp_path / "store.json").exists()


def test_settings_that_json_cannot_hold_are_refused(tmp_path):
    with pytest.raises(AttnError, match="settings: want what JSON can hold"):
        EmbeddingStore.create(
            tmp_path, ["a"], np.ones((1, 2)), settings={"made": object()}
        )
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_never_written_over(folder):
    with pytest.raises(AttnError, match="holds a store already"):
        EmbeddingStore.create(folder, ["a"], np.ones((1, 2)))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AttnError, match="file/x: cannot be written"):
        EmbeddingStore.create(tmp_path / "file" / "x", ["a"], np.ones((1, 2)))
