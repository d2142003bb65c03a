"""The enrolled voices that are nearest to an embedding."""

import logging
import zlib
from typing import NamedTuple

import filelock
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.rows import blocks
from speechbrain_attn.scoring.store import write_file, writing

logger = logging.getLogger(__name__)

INDEX_FILE = "index.safetensors"
# Up to so many voices a product with all of them takes a few milliseconds.
EXACT_VOICES = 100_000
# Voices that an index proposes; docs/benchmarks/registry.md shows how often the
# nearest is among them, and among fewer.
CANDIDATES = 400
# An index is made anew where more than this part of it is out of date: until
# then, what has changed is searched exactly beside it.
STALE = 0.05
_TRAINED_ON = 16_384  # voices; four times what the codes are fitted on
_BLOCK_PRODUCTS = 4_000_000  # cosines in memory at a time


class Match(NamedTuple):
    """An enrolled speaker, and the cosine of the voice to an embedding."""

    name: str
    cosine: float


def voice_search(registry):
    """The search that suits the size of a registry.

    Returns
    -------
    ExactSearch or IndexSearch
        The latter above ``EXACT_VOICES`` voices, if faiss is installed.
    """
    if len(registry) <= EXACT_VOICES:
        return ExactSearch(registry)
    try:
        return IndexSearch(registry)
    except AttnError as error:
        logger.warning("%s Until then the search is exact and slower.", error)
        return ExactSearch(registry)


class ExactSearch:
    """Products with all voices, in blocks; they stay in memory.

    Arguments
    ---------
    registry : Registry
        May change between searches: each is of one state of it.
    """

    def __init__(self, registry):
        self._registry = registry
        self._revision = None

    def search(self, embeddings, top=5):
        """Nearest voices of each embedding.

        Arguments
        ---------
        embeddings : numpy.ndarray
            [queries, embedding_size].
        top : int
            How many.

        Returns
        -------
        list of list of Match
            For each query, the nearest first; fewer where fewer are enrolled.

        Raises
        ------
        AttnError
            Nobody is enrolled, ``top`` is below 1, or embeddings are of
            another size, zero or not finite.
        """
        queries = _checked(self._registry, embeddings, top)
        with self._registry.reading() as revision:
            if revision != self._revision:
                self._load()
                self._revision = revision
            ids = _nearest(self._ids, self._voices, queries, top)
            return _matches(self._registry, ids, queries, top)

    def _load(self):
        num_voices = len(self._registry)
        shape = num_voices, self._registry.embedding_size
        self._ids = np.empty(num_voices, dtype=np.int64)
        self._voices = np.empty(shape, dtype=np.float32)
        start = 0
        for ids, voices in self._registry.voices():
            part = slice(start, start + len(ids))
            self._ids[part], self._voices[part] = ids, voices
            start += len(ids)


class IndexSearch:
    """Candidates from an index, compared exactly.

    The index holds a code of four bits for each two values of each voice, and
    all codes are gone through. That no part of the voices is left out makes it
    sure of its candidates, whether voices lie in clusters or not; the best
    ``CANDIDATES`` are fetched from the registry and their cosines computed.

    It is kept beside the registry, and is only a cache: one that is missing,
    damaged, of another registry or out of date is made anew, which takes a
    while. Voices that changed since it was made are searched exactly.

    Arguments
    ---------
    registry : Registry
        As for ``ExactSearch``, of some hundred voices or more.

    Raises
    ------
    AttnError
        faiss is not installed.
    """

    def __init__(self, registry):
        try:
            import faiss
        except ImportError:
            raise AttnError(
                f"{registry.folder}: an index of {len(registry):,} voices "
                "needs faiss: pip install 'speechbrain_attn[index]'."
            ) from None
        self._faiss = faiss
        self._registry = registry
        self._revision = None  # up to which self._changed are
        self._index = None  # of codes, in the order of self._ids

    def search(self, embeddings, top=5):
        """Nearest voices of each embedding; as ``ExactSearch.search``.

        Once in a while a voice is not among the candidates; how often the
        nearest is not stands in docs/benchmarks/registry.md.
        """
        queries = _checked(self._registry, embeddings, top)
        with self._registry.reading() as revision:
            is_old = revision != self._revision
        if is_old and not self._fits():
            self._renew()
        rows = self._index.search(_padded(queries), CANDIDATES + top)[1]
        # faiss fills up with -1 where there are fewer; no voice has that id.
        ids = np.where(rows < 0, -1, self._ids[rows])
        with self._registry.reading() as revision:
            if revision != self._revision:
                self._changed = self._registry.voices_since(self._made_at)
                self._revision = revision
            changed = _nearest(*self._changed, queries, top)
            ids = np.concatenate([ids, changed], axis=1)
            return _matches(self._registry, ids, queries, top)

    def _fits(self):
        """Whether most of the index, and most of the voices, are as then."""
        if self._index is None:
            return False
        with self._registry.reading() as revision:
            as_then = self._registry.num_voices(until=self._made_at)
            now = len(self._registry)
        out_of_date = self._index.ntotal - as_then + now - as_then
        # One of the future was left by a registry whose copy took its place.
        return self._made_at <= revision and out_of_date <= STALE * now

    def _renew(self):
        """Take the index of the folder, or make it."""
        self._load()
        if self._fits():
            return
        with writing(self._registry.folder):
            # Of two processes that need it, one makes it for both.
            with filelock.FileLock(self._registry.folder / ".index.lock"):
                self._load()
                if not self._fits():
                    self._make()
                    self._save()

    def _make(self):
        """Index all voices.

        No writer has to wait: what changes meanwhile counts as changed since.
        """
        faiss = self._faiss
        logger.warning(
            "%s: indexing %s voices; done once, until many have changed",
            self._registry.folder,
            f"{len(self._registry):,}",
        )
        with self._registry.reading() as self._made_at:
            some = self._registry.ids()
        some = np.random.default_rng(0).permutation(some)[:_TRAINED_ON]
        _, _, sample = self._registry.voices_of(some)
        codes = _padded(sample).shape[1] // 2
        index = faiss.index_factory(
            2 * codes, f"PQ{codes}x4fs", faiss.METRIC_INNER_PRODUCT
        )
        # More threads only wait for one another over such small clusterings.
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        index.train(_padded(sample))
        faiss.omp_set_num_threads(threads)
        all_ids = []
        for ids, voices in self._registry.voices():
            index.add(_padded(voices))
            all_ids.append(ids)
        self._index, self._ids = index, np.concatenate(all_ids)

    def _save(self):
        index = self._faiss.serialize_index(self._index)
        about = {
            "registry": self._registry.uuid,
            "revision": str(self._made_at),
            "crc32": _checksum(index, self._ids),
        }
        path = self._registry.folder / INDEX_FILE
        body = save({"index": index, "ids": self._ids}, about)
        write_file(path, lambda file: file.write(body))

    def _load(self):
        """Take the index of the folder if it is one of this registry."""
        path = self._registry.folder / INDEX_FILE
        if not path.exists():
            return
        try:
            with safe_open(path, "numpy") as file:
                about = file.metadata()
                index, ids = map(file.get_tensor, ("index", "ids"))
            known = about["registry"], about["crc32"]
            made_at = int(about["revision"])
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            logger.warning("%s: is damaged (%s); it is made anew", path, error)
            return
        # faiss does not survive what it has not written.
        if known == (self._registry.uuid, _checksum(index, ids)):
            self._index = self._faiss.deserialize_index(index)
            self._ids, self._made_at = ids, made_at


def _checksum(index, ids):
    return str(zlib.crc32(ids, zlib.crc32(index)))


def _checked(registry, embeddings, top):
    if top < 1:
        raise AttnError(f"top: want 1 or more, got {top}.")
    registry.refuse_empty()
    return registry.unit_embeddings(embeddings)


def _padded(vectors):
    """Vectors of an even size: a code is of two values."""
    return np.pad(vectors, ((0, 0), (0, vectors.shape[1] % 2)))


def _nearest(ids, voices, queries, top):
    """Ids of the nearest voices of each query, [queries, found] in any order.

    ``ids`` [voices], ``voices`` [voices, size] and ``queries`` [queries,
    size], both of unit length.
    """
    best = np.empty((len(queries), 0), dtype=np.float32)
    best_ids = np.empty((len(queries), 0), dtype=np.int64)
    size = max(1, _BLOCK_PRODUCTS // max(1, len(queries)))
    for part in blocks(len(voices), size):
        cosines = queries @ voices[part].T
        here = np.broadcast_to(ids[part], cosines.shape)
        best = np.concatenate([best, cosines], axis=1)
        best_ids = np.concatenate([best_ids, here], axis=1)
        if best.shape[1] > top:
            keep = np.argpartition(best, -top, axis=1)[:, -top:]
            best = np.take_along_axis(best, keep, axis=1)
            best_ids = np.take_along_axis(best_ids, keep, axis=1)
    return best_ids


def _matches(registry, ids, queries, top):
    """Best candidates of each query, by their exact cosines.

    ``ids`` [queries, candidates]; those of nobody are left out, as is what
    stands there twice.
    """
    found = []
    for query, candidates in zip(queries, ids, strict=True):
        names, known, voices = registry.voices_of(np.unique(candidates))
        # Not a BLAS product: its rounding changes with the number of rows.
        cosines = np.einsum("ve,e->v", voices, query)
        # The first enrolled of equals, so that the order is always the same.
        order = np.lexsort((known, -cosines))[:top]
        found.append([Match(names[i], float(cosines[i])) for i in order])
    return found
