"""What a scoring run takes: trial lists, and embeddings of their rows."""

import logging
from typing import NamedTuple

import numpy as np

from speechbrain_attn.dataio.tree import strip_extension
from speechbrain_attn.dataio.trial_speakers import speaker_names
from speechbrain_attn.dataio.trials import Trials, trials_from_file
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.cohort import Cohort
from speechbrain_attn.scoring.rows import (
    NO_DIRECTION,
    row_lengths,
    same_size,
    without_direction,
)
from speechbrain_attn.scoring.systems import TrialEmbeddings

logger = logging.getLogger(__name__)


class ListedTrials(NamedTuple):
    """A trial list and whose voices are in it.

    ``speakers`` [rows] are numbers, ``names`` the set of the speakers.
    """

    trials: Trials
    speakers: np.ndarray
    names: set


class Inputs(NamedTuple):
    """All that one run reads, each None where it is not given.

    ``stores`` and ``development_stores`` are lists of EmbeddingStore that
    hold the utterances of the lists; ``compared`` [trials] scores of another
    system.
    """

    test: ListedTrials
    stores: list
    development: ListedTrials | None = None
    development_stores: list | None = None
    cohort: Cohort | None = None
    calibration: Calibration | None = None
    compared: np.ndarray | None = None

    @property
    def all_stores(self):
        """Those of the lists and of the cohort."""
        cohort = [self.cohort.store] if self.cohort else []
        return [*self.stores, *(self.development_stores or []), *cohort]


def read_list(path, options):
    """Read a trial list, and refuse one whose speakers cannot be told.

    Arguments
    ---------
    path : str or Path
    options : ScoringOptions

    Returns
    -------
    ListedTrials

    Raises
    ------
    AttnError
        As ``trials_from_file`` and ``Trials.speakers``.
    """
    trials = trials_from_file(path, options.enrol_map)
    speakers = trials.speakers(options.utt2spk)
    names = speaker_names(trials.utterances, options.utt2spk)
    return ListedTrials(trials, speakers, set(names))


def model_of(stores):
    """Hash of the network that made the embeddings of all stores.

    Arguments
    ---------
    stores : list of EmbeddingStore

    Returns
    -------
    str or None
        None where no store names its network.

    Raises
    ------
    AttnError
        Two stores are of different networks or sizes; names both.
    """
    first, known = stores[0], None
    for store in stores:
        size = first.embeddings.shape[1]
        same_size(store.embeddings, size, store.folder, first.folder)
        model = store.settings.get("model_sha256")
        if model is None:
            continue
        known = known or store
        other = known.settings["model_sha256"]
        if model != other:
            raise AttnError(
                f"{known.folder} and {store.folder}: are of different models "
                f"(sha256 {other[:12]} and {model[:12]}), so that their "
                "embeddings cannot be compared. Extract both with one model."
            )
    return known and known.settings["model_sha256"]


def trial_embeddings(listed, stores, takes_durations=None):
    """Embeddings of the rows of a trial list.

    Arguments
    ---------
    listed : ListedTrials
    stores : list of EmbeddingStore
        Together they hold every utterance of the list.
    takes_durations : str or None
        What cannot do without durations, for messages; with None, a duration
        that is not known leaves all durations out.

    Returns
    -------
    TrialEmbeddings

    Raises
    ------
    AttnError
        An utterance is in none of the stores or there twice, its embedding
        is zero or not finite, its duration is not above 0, or not known and
        wanted; or as ``model_of``.
    """
    trials = listed.trials
    model_of(stores)
    _refuse_twice(stores)
    folders = " and ".join(str(store.folder) for store in stores)
    ids = [name for store in stores for name in store.ids]
    rows = trials.rows_among(ids, folders)
    embeddings, durations = _gather(stores, rows)

    def where(row):
        """The line that names an utterance, and its name and store."""
        ends = np.cumsum([len(store) for store in stores])
        store = stores[np.searchsorted(ends, rows[row], side="right")]
        name = trials.utterances[row]
        return trials.place_of(name), f"utterance {name!r} in {store.folder}"

    norms = row_lengths(embeddings)
    bad = without_direction(norms)
    if len(bad):
        place, utterance = where(bad[0])
        raise AttnError(
            f"{place}: the embedding of {utterance} has norm {norms[bad[0]]}, "
            f"{NO_DIRECTION}; was the utterance empty, or the network not "
            "trained? Mend that and extract again."
        )
    known = _durations_known(durations, where, takes_durations)
    if trials.enrolment:
        members, bounds = trials.enrolment.members, trials.enrolment.bounds
        # A model is as loud as its utterances are, and as long as them all.
        sums = [
            np.add.reduceat(values[members], bounds[:-1])
            for values in (norms, durations)
        ]
        norms = np.append(norms, sums[0] / np.diff(bounds))
        durations = np.append(durations, sums[1])
    return TrialEmbeddings(
        trials.with_models(embeddings),
        trials.enrol,
        trials.test,
        trials.labels,
        listed.speakers,
        norms,
        durations if known else None,
    )


def _refuse_twice(stores):
    """Refuse an utterance that two rows of the stores could be."""
    held = {}
    for store in stores:
        for name in map(strip_extension, store.ids):
            if name in held:
                raise AttnError(
                    f"utterance {name!r}: is in {held[name]} and again in "
                    f"{store.folder} (names count without their extension). "
                    "Give stores that hold each utterance once."
                )
            held[name] = store.folder


def _gather(stores, rows):
    """Embeddings and seconds of rows that count through several stores."""
    size = stores[0].embeddings.shape[1]
    embeddings = np.empty((len(rows), size), dtype=np.float32)
    durations = np.empty(len(rows), dtype=np.float32)
    first = 0
    for store in stores:
        mine = (rows >= first) & (rows < first + len(store))
        embeddings[mine] = store.embeddings[rows[mine] - first]
        durations[mine] = store.durations[rows[mine] - first]
        first += len(store)
    return embeddings, durations


def _durations_known(durations, where, takes_durations):
    """Whether all seconds are known; refuses such as cannot be.

    ``where`` tells the place and the name of a row.
    """
    bad = np.flatnonzero((durations <= 0) | np.isinf(durations))
    if len(bad):
        place, utterance = where(bad[0])
        raise AttnError(
            f"{place}: {utterance} lasts {durations[bad[0]]} s; want seconds "
            "above 0, or NaN where they are not known. Make the store anew."
        )
    unknown = np.flatnonzero(np.isnan(durations))
    if not len(unknown):
        return True
    if takes_durations or len(unknown) < len(durations):
        place, utterance = where(unknown[0])
        said = (
            f"{place}: the duration of {utterance} is not known (NaN), and so "
            f"those of {len(unknown):,} of {len(durations):,}"
        )
        if takes_durations:
            raise AttnError(
                f"{said}, but {takes_durations} takes them all. Make the "
                "store with durations, or do without."
            )
        logger.warning("%s; durations are left out.", said)
    return False
