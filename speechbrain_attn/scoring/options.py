"""What a scoring run is asked for, whichever command asks."""

import dataclasses

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.systems import TITLES

TRAIN = "train"  # instead of the path of a back end
_LEAST = {"replicates": 2, "cohort_top": 2, "lda_size": 1}
_NEEDS_COHORT = ("centred", "z-norm", "t-norm", "s-norm", "as-norm")


@dataclasses.dataclass(frozen=True)
class ScoringOptions:
    """How a trial list is scored; each is an option of the same name.

    Arguments
    ---------
    scoring : str
        The one whose scores go into ``scores.txt``: one of ``TITLES``. All
        others that can be had are in ``results.md`` too, z-norm and t-norm
        only where they are asked for here.
    cohort : str or None
        Utterances of speakers who are in no trial: a list, a manifest
        (``.csv``), a folder of audio or a store. Without one there are no
        normalised scores.
    cohort_utterances : bool
        True compares with each utterance of the cohort, False with the mean
        of each of its speakers.
    cohort_top : int
        Adaptive s-norm takes the so many highest cohort scores; where the
        cohort has no more there is no adaptive s-norm beside s-norm.
    plda : str or None
        A file that such a run has saved, or "train" to train LDA and PLDA on
        the cohort's utterances; None for none.
    lda_size : int
        Size after LDA, where a back end is trained.
    development_file : str or None
        Trial list of other speakers, on which calibration and fusion are
        fitted.
    compare : str or None
        Another system: its ``scores.txt`` of the same trials, or its store,
        whose cosines are taken.
    enrol_map : str or None
        Lines ``model utterance utterance ...``, with the models of the test
        and of the development list.
    utt2spk : str or None
        Lines ``utterance speaker``, where the names do not tell.
    replicates : int
        Draws of the speakers for confidence intervals.

    Raises
    ------
    AttnError
        A value is of another kind or too small, or asks for what another
        option must give.

    Example
    -------
    >>> ScoringOptions(scoring="s-norm", cohort="train.csv").cohort_top
    300
    """

    scoring: str = "cosine"
    cohort: str | None = None
    cohort_utterances: bool = False
    cohort_top: int = 300
    plda: str | None = None
    lda_size: int = 128
    development_file: str | None = None
    compare: str | None = None
    enrol_map: str | None = None
    utt2spk: str | None = None
    replicates: int = 1000

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check_kind(field.name, getattr(self, field.name), field.type)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise AttnError(f"{name}: want at least {least}, got {value}.")
        if self.scoring not in TITLES:
            raise AttnError(
                f"scoring: want one of {', '.join(TITLES)}, got "
                f"{self.scoring!r}."
            )
        for needed, why, given in (
            ("cohort", f"scoring={self.scoring}", self._needs_cohort()),
            ("cohort", "plda=train", self.plda == TRAIN),
            ("plda", "scoring=plda", self.scoring == "plda"),
            ("development_file", "scoring=fusion", self.scoring == "fusion"),
        ):
            if given and getattr(self, needed) is None:
                raise AttnError(f"{needed}: must be given for {why}.")

    def _needs_cohort(self):
        return self.scoring in _NEEDS_COHORT


def _check_kind(name, value, kind):
    if type(value) is kind or (kind == str | None and _is_text(value)):
        return
    words = {int: "a whole number", bool: "True or False"}
    raise AttnError(f"{name}: want {words.get(kind, 'text')}, got {value!r}.")


def _is_text(value):
    return value is None or isinstance(value, str)
