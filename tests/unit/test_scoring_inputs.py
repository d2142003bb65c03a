"""Embeddings out of stores: which are refused, and whose they are."""

import numpy as np
import pytest

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.cohort import cohort_of
from speechbrain_attn.scoring.inputs import (
    read_list,
    trial_embeddings,
)
from speechbrain_attn.scoring.options import ScoringOptions
from speechbrain_attn.scoring.store import EmbeddingStore

NAMES = ["a/x/1", "a/x/2", "b/x/1"]


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "list.txt").write_text("1 a/x/1 a/x/2\n0 a/x/1 b/x/1\n")
    return read_list(tmp_path / "list.txt", ScoringOptions())


@pytest.fixture
def make(tmp_path):
    """Store of the given names, with ones but for the rows that are given."""

    def make(folder, names, rows=None):
        embeddings = np.ones((len(names), 4))
        for row, value in (rows or {}).items():
            embeddings[row] = value
        return EmbeddingStore.create(tmp_path / folder, names, embeddings)

    return make


@pytest.mark.parametrize(
    "first, second",
    [
        pytest.param(NAMES, ["c/x/1", "b/x/1"], id="two_stores"),
        pytest.param(NAMES, ["b/x/1.wav"], id="with_extension"),
    ],
)
def test_an_utterance_in_two_stores_is_refused(listed, make, first, second):
    stores = [make("one", first), make("two", second)]
    says = r"^utterance 'b/x/1': is in .*/one and again in .*/two \("
    with pytest.raises(AttnError, match=says):
        trial_embeddings(listed, stores)


def test_an_utterance_twice_in_a_store_is_refused(listed, make):
    store = make("one", [*NAMES, "a/x/2.flac"])
    says = r"^utterance 'a/x/2': is in .*/one and again in .*/one \("
    with pytest.raises(AttnError, match=says):
        trial_embeddings(listed, [store])


@pytest.mark.parametrize("value, norm", [(np.nan, "nan"), (0, "0.0")])
def test_a_bad_embedding_is_named_with_line_and_store(
    listed, make, value, norm
):
    stores = [
        make("one", NAMES[:2]),
        # That of c is in no trial.
        make("two", ["c/x/1", "b/x/1"], {0: value, 1: value}),
    ]
    says = (
        r"list\.txt line 2: the embedding of utterance 'b/x/1' in .*/two has "
        rf"norm {norm}, so"
    )
    with pytest.raises(AttnError, match=says):
        trial_embeddings(listed, stores)


@pytest.mark.parametrize("value, norm", [(np.inf, "inf"), (0, "0.0")])
def test_a_bad_embedding_of_the_cohort_is_named(make, value, norm):
    store = make("train", NAMES, {1: value})
    says = (
        r"^cohort train \(.*/train\): the embedding of utterance 'a/x/2' has "
        rf"norm {norm}, so"
    )
    with pytest.raises(AttnError, match=says):
        cohort_of(store, "train")


@pytest.mark.parametrize("names", [NAMES[:2], []], ids=["one", "none"])
def test_a_cohort_wants_two_speakers(make, names):
    store = make("train", names)
    says = (
        r"^cohort train \(.*/train\): want at least 2 speakers, got "
        rf"{len(names[:1])} in {len(names)} utterances"
    )
    with pytest.raises(AttnError, match=says):
        cohort_of(store, "train")


def test_a_speaker_map_knows_ids_with_extension(make, tmp_path):
    (tmp_path / "map").write_text("u1.wav ann\nu2 bea\n")
    store = make("train", ["u1.wav", "u2.flac"])
    cohort = cohort_of(store, "train", str(tmp_path / "map"))
    assert cohort.speakers.tolist() == ["ann", "bea"]
