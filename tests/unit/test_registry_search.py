"""The nearest voices are found, by products and by an index."""

import logging
import sys

import numpy as np
import pytest
from safetensors import safe_open

from speechbrain_attn.errors import AttnError
from speechbrain_attn.inference import voice_index
from speechbrain_attn.inference.registry import Registry
from speechbrain_attn.inference.registry_file import FILE
from speechbrain_attn.inference.voice_index import (
    INDEX_FILE,
    ExactSearch,
    IndexSearch,
    voice_search,
)

MODEL, SIZE = "ab" * 32, 19  # odd, so that codes of two values are padded
NUM = 3001


def drawn(count, seed=0):
    """Embeddings in clusters, [count, SIZE]."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(5, SIZE))
    rows = centres[draw.integers(0, 5, count)] + draw.normal(size=(count, SIZE))
    return rows.astype(np.float32)


def names(count):
    return [f"s{number}" for number in range(count)]


@pytest.fixture
def registry(tmp_path):
    with Registry.create(tmp_path, MODEL, SIZE) as registry:
        yield registry


@pytest.fixture
def large(registry):
    """A registry of more voices than the index proposes."""
    registry.add(names(NUM), drawn(NUM))
    return registry


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss")


def by_hand(queries, voices, top):
    """Rows and cosines of the nearest, by the definition."""
    left = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    right = voices / np.linalg.norm(voices, axis=1, keepdims=True)
    cosines = left.astype(np.float64) @ right.T
    order = np.argsort(-cosines, axis=1)[:, :top]
    return order, np.take_along_axis(cosines, order, axis=1)


@pytest.mark.parametrize("block", [1, 7, 10**9])
def test_exact_search_is_the_definition(registry, monkeypatch, block):
    monkeypatch.setattr(voice_index, "_BLOCK_PRODUCTS", block)
    voices, queries = drawn(53), 3 * drawn(11, seed=1)
    registry.add(names(53), voices)
    found = ExactSearch(registry).search(queries, top=5)
    order, cosines = by_hand(queries, voices, 5)
    assert [[match.name for match in row] for row in found] == [
        [f"s{number}" for number in row] for row in order
    ]
    got = [[match.cosine for match in row] for row in found]
    np.testing.assert_allclose(got, cosines, atol=1e-6)


def test_fewer_voices_than_asked_for_and_equal_ones(registry):
    (row,) = drawn(1)
    registry.add(["b", "a"], [row, row])
    (found,) = ExactSearch(registry).search([row], top=5)
    assert [match.name for match in found] == ["b", "a"]  # as enrolled


def test_a_change_shows_in_the_next_search(registry):
    rows = drawn(3)
    registry.add(["a", "b"], rows[:2])
    search = ExactSearch(registry)
    assert search.search(rows[:1])[0][0].name == "a"
    with Registry.open(registry.folder) as other:
        other.remove("a")
        other.rename("b", "c")
        other.add(["d"], rows[:1])
    assert search.search(rows[:2], 1)[0][0].name == "d"
    assert search.search(rows[:2], 1)[1][0].name == "c"


def test_the_index_finds_what_products_find(large, faiss):
    queries = np.r_[drawn(300, seed=1), drawn(50) + drawn(50, seed=2) / 4]
    index, exact = IndexSearch(large), ExactSearch(large)
    assert index.search(queries, 3) == exact.search(queries, 3)
    # Control: they come from the index and not from products with all.
    assert len(index._changed[0]) == 0 and index._index.ntotal == NUM
    # Another process, or a later one, takes it from the disk.
    written = (large.folder / INDEX_FILE).stat().st_mtime_ns
    again = IndexSearch(large)
    assert again.search(queries[:7]) == exact.search(queries[:7])
    assert (large.folder / INDEX_FILE).stat().st_mtime_ns == written


def test_few_changes_need_no_new_index(large, faiss):
    search = IndexSearch(large)
    search.search(drawn(1))
    written = (large.folder / INDEX_FILE).read_bytes()
    queries, new = drawn(40), drawn(40, seed=5)
    for number in range(0, 20):
        large.remove(f"s{number}")
    large.add(names(40)[20:], new[20:])  # known ones, which so move
    large.add([f"n{number}" for number in range(20)], new[:20])
    large.rename("n3", "N3")
    for one in (search, IndexSearch(large)):
        for rows in (queries, new):
            assert one.search(rows) == ExactSearch(large).search(rows)
    assert (large.folder / INDEX_FILE).read_bytes() == written
    assert search.search(new[3:4])[0][0].name == "N3"


@pytest.mark.parametrize("change", ["added", "removed", "moved"])
def test_many_changes_make_it_anew(large, faiss, change):
    search = IndexSearch(large)
    search.search(drawn(1))
    written = (large.folder / INDEX_FILE).read_bytes()
    count = round(voice_index.STALE * NUM) + 30
    if change == "added":
        large.add([f"n{n}" for n in range(count)], drawn(count, seed=5))
    elif change == "moved":
        large.add(names(count), drawn(count, seed=5))
    else:
        for number in range(count):
            large.remove(f"s{number}")
    queries = np.r_[drawn(9), drawn(9, seed=5)]
    assert search.search(queries) == ExactSearch(large).search(queries)
    assert search._index.ntotal == len(large)
    assert (large.folder / INDEX_FILE).read_bytes() != written


def contents(folder):
    """Index and notes of the file, which stand in no certain order."""
    with safe_open(folder / INDEX_FILE, "numpy") as file:
        return file.metadata(), file.get_tensor("index").tobytes()


def spoil_index(folder, what, tmp_path_factory):
    path = folder / INDEX_FILE
    body = bytearray(path.read_bytes())
    if what == "cut_short":
        path.write_bytes(body[: len(body) // 2])
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "bytes":
        body[len(body) // 2] ^= 1
        path.write_bytes(body)
    elif what == "other_registry":
        other = tmp_path_factory.mktemp("other")
        with Registry.create(other, MODEL, SIZE) as registry:
            registry.add(names(NUM), drawn(NUM, seed=8))
            IndexSearch(registry).search(drawn(1))
        path.write_bytes((other / INDEX_FILE).read_bytes())


@pytest.mark.parametrize(
    "what", ["cut_short", "empty", "bytes", "other_registry"]
)
def test_an_index_that_is_not_sound_is_made_anew(
    large, faiss, what, tmp_path_factory
):
    IndexSearch(large).search(drawn(1))
    good = contents(large.folder)
    spoil_index(large.folder, what, tmp_path_factory)
    queries = drawn(9)
    found = IndexSearch(large).search(queries)
    assert found == ExactSearch(large).search(queries)
    assert contents(large.folder) == good


def test_an_older_copy_of_the_registry_is_known_as_such(large, faiss):
    """The index was made after changes that the copy does not have."""
    copy = (large.folder / FILE).read_bytes()
    for number in range(3):
        large.add([f"lost{number}"], drawn(1, seed=50 + number))
    IndexSearch(large).search(drawn(1))
    large.close()
    (large.folder / FILE).write_bytes(copy)
    with Registry.open(large.folder) as restored:
        restored.add(["new"], drawn(1, seed=70))
        search = IndexSearch(restored)
        assert search.search(drawn(1, seed=70))[0][0].name == "new"


def test_the_size_decides_how_to_search(registry, faiss, monkeypatch):
    monkeypatch.setattr(voice_index, "EXACT_VOICES", 3)
    registry.add(names(3), drawn(3))
    assert isinstance(voice_search(registry), ExactSearch)
    registry.add(["more"], drawn(1, seed=1))
    assert isinstance(voice_search(registry), IndexSearch)


def test_without_faiss_it_is_said(registry, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(voice_index, "EXACT_VOICES", 3)
    registry.add(names(5), drawn(5))
    says = r"index of 5 voices needs faiss: pip install 'speechbrain_attn.inde"
    with pytest.raises(AttnError, match=says):
        IndexSearch(registry)
    with caplog.at_level(logging.WARNING):
        search = voice_search(registry)
    assert isinstance(search, ExactSearch)
    assert "pip install" in caplog.text and "exact and slower" in caplog.text


# fmt: off
BAD = [  # id, embeddings, top, what the message must say
    ("size", np.ones((1, 5)), 5, "have size 5, but the registry .* size 19"),
    ("axes", np.ones(19), 5, r"want \[utterances, embedding_size\]"),
    ("zero", np.zeros((1, 19)), 5, "row 0 has norm 0"),
    ("top", np.ones((1, 19)), 0, "top: want 1 or more, got 0"),
]
# fmt: on


@pytest.mark.parametrize("kind", [ExactSearch, IndexSearch])
@pytest.mark.parametrize(
    "embeddings, top, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_queries_are_refused(registry, faiss, kind, embeddings, top, says):
    registry.add(["a"], drawn(1))
    with pytest.raises(AttnError, match=says):
        kind(registry).search(embeddings, top)


@pytest.mark.parametrize("kind", [ExactSearch, IndexSearch])
def test_an_empty_registry_is_said(registry, faiss, kind):
    with pytest.raises(AttnError, match="nobody is enrolled; `speechbrain-at"):
        kind(registry).search(drawn(1))
