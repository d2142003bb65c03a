"""Utterances of other speakers, and what scores are made with from them."""

import hashlib
import logging
import os
from typing import NamedTuple

import numpy as np

from speechbrain_attn.dataio.tree import strip_extension
from speechbrain_attn.dataio.trial_speakers import speaker_names
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.normalisation import (
    shared_speakers,
    speaker_means,
)
from speechbrain_attn.scoring.options import TRAIN
from speechbrain_attn.scoring.plda import PLDABackend
from speechbrain_attn.scoring.rows import (
    NO_DIRECTION,
    row_lengths,
    same_size,
    without_direction,
)
from speechbrain_attn.scoring.store import EmbeddingStore
from speechbrain_attn.scoring.systems import Backend

logger = logging.getLogger(__name__)


class Cohort(NamedTuple):
    """Utterances to compare with and to train on.

    ``name`` is for people; ``speakers`` [utterances] are the names of those
    of the store.
    """

    name: str
    store: EmbeddingStore
    speakers: np.ndarray

    @property
    def embeddings(self):
        """[utterances, embedding_size] float32."""
        return self.store.embeddings

    @property
    def counts(self):
        """How many utterances of how many speakers, for results."""
        return {
            "utterances": len(self.speakers),
            "speakers": len(set(self.speakers.tolist())),
        }

    def said(self, what):
        """What tells it from other cohorts, whatever file it came in.

        ``what`` of it was used; as a text to compare and to show.
        """
        names = map(strip_extension, self.store.ids)
        lines = sorted(map(" ".join, zip(names, self.speakers, strict=True)))
        # Names of files need not be UTF-8.
        text = "\n".join(lines).encode("utf-8", errors="surrogateescape")
        digest = hashlib.sha256(text).hexdigest()
        return f"{what} of the cohort with sha256 {digest[:12]}"


def cohort_of(store, name, utt2spk=None):
    """All utterances of a store as a cohort.

    Arguments
    ---------
    store : EmbeddingStore
    name : str
        For people.
    utt2spk : str or None
        As in ``ScoringOptions``.

    Returns
    -------
    Cohort

    Raises
    ------
    AttnError
        As ``speaker_names``; an embedding is zero or not finite, or there
        are fewer than two speakers.
    """
    names = [strip_extension(name) for name in store.ids]
    cohort = Cohort(name, store, np.array(speaker_names(names, utt2spk)))
    num_speakers = cohort.counts["speakers"]
    if num_speakers < 2:
        raise AttnError(
            f"{_place(cohort)}: want at least 2 speakers, got {num_speakers} "
            f"in {len(store):,} utterances. Take a larger cohort, or give "
            "utt2spk if their names do not tell the speakers."
        )
    norms = row_lengths(store.embeddings)
    bad = without_direction(norms)
    if len(bad):
        raise AttnError(
            f"{_place(cohort)}: the embedding of utterance "
            f"{store.ids[bad[0]]!r} has norm {norms[bad[0]]}, {NO_DIRECTION}; "
            "leave it out, or mend the recording and extract again."
        )
    return cohort


def _place(cohort):
    return f"cohort {cohort.name} ({cohort.store.folder})"


def check_speakers(test, development, cohort):
    """Sentences on speakers who are in places where they should not be.

    Arguments
    ---------
    test : ListedTrials
    development : ListedTrials or None
    cohort : Cohort or None

    Returns
    -------
    list of str
    """
    notes = []
    both = sorted(test.names & development.names) if development else []
    if both:
        notes.append(
            f"{len(both):,} speakers of the test list, such as {both[0]}, are "
            "in the development list: calibration and fusion know them."
        )
    if cohort is None:
        return notes
    speakers = cohort.speakers.tolist()
    shared = shared_speakers(speakers, test.names)
    if shared:
        notes.insert(
            0,
            f"{len(shared):,} speakers of the test list, such as {shared[0]}, "
            "are in the cohort: the scores of their trials are not those of "
            "unknown speakers.",
        )
    shared = sorted(set(speakers) & development.names) if development else []
    if shared:
        notes.append(
            f"{len(shared):,} speakers of the development list, such as "
            f"{shared[0]}, are in the cohort: calibration and fusion learn "
            "from scores that are not those of unknown speakers."
        )
        logger.warning("%s", notes[-1])
    return notes


def back_end(options, cohort, stores, model_sha256):
    """What the scores are made with, beside the embeddings.

    Arguments
    ---------
    options : ScoringOptions
    cohort : Cohort or None
    stores : list of EmbeddingStore
        Of the test list.
    model_sha256 : str or None
        Hash of the network of all embeddings, where it is known.

    Returns
    -------
    Backend
    dict
        What is said of it in results.
    list of str
        Sentences on what cannot be had.

    Raises
    ------
    AttnError
        PLDA cannot be trained on the cohort, or not be loaded, or is for
        embeddings of another size or network.
    """
    said, notes, vectors, cohort_said = {}, [], None, None
    if cohort is not None:
        vectors, of = cohort.embeddings, "utterances"
        if not options.cohort_utterances:
            vectors = speaker_means(cohort.embeddings, cohort.speakers)
            of = "speaker means"
        cohort_said = cohort.said(f"{len(vectors):,} {of}")
        said["cohort"] = {
            "name": cohort.name,
            **cohort.counts,
            "of": of,
            "size": len(vectors),
            "top": options.cohort_top,
        }
        if len(vectors) <= options.cohort_top:
            notes.append(
                f"No adaptive s-norm: it wants more {of} in the cohort than "
                f"cohort_top ({options.cohort_top:,}), and there are "
                f"{len(vectors):,}."
            )
    plda = None
    if options.plda is not None:
        plda, training = _plda(options, cohort, stores[0], model_sha256)
        if plda.model_sha256 is None and model_sha256 is not None:
            notes.append(
                f"The PLDA back end {options.plda} does not say for which "
                "model's embeddings it is; use it with those alone that it "
                "was trained on."
            )
        said["plda"] = {
            "file": os.path.basename(options.plda),
            "lda_size": plda.lda.shape[1],
            **training,
        }
    backend = Backend(vectors, options.cohort_top, plda, cohort_said)
    return backend, said, notes


def _plda(options, cohort, store, model_sha256):
    """The PLDA back end, trained or loaded, and on what it was trained."""
    if options.plda != TRAIN:
        plda = PLDABackend.load(options.plda)
        file = f"the PLDA back end {options.plda}"
        same_size(store.embeddings, len(plda.mean), store.folder, file)
        known = None not in (plda.model_sha256, model_sha256)
        if known and plda.model_sha256 != model_sha256:
            raise AttnError(
                f"{file}: is for another model's embeddings (sha256 "
                f"{plda.model_sha256[:12]}, and these have "
                f"{model_sha256[:12]}); train one for this model."
            )
        return plda, {"cohort": None, "utterances": None, "speakers": None}
    try:
        plda = PLDABackend.train(
            cohort.embeddings,
            cohort.speakers,
            options.lda_size,
            trained_on=cohort.said(f"LDA to {options.lda_size} + PLDA"),
            model_sha256=model_sha256,
        )
    except AttnError as error:
        raise AttnError(f"{_place(cohort)}: {error}") from None
    return plda, {"cohort": cohort.name, **cohort.counts}
