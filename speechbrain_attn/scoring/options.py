"""What a scoring run is asked for, whichever command asks."""

import contextlib
import dataclasses
from types import NoneType
from typing import get_args

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
    duration_term : bool
        True gives the calibrations fitted there a term of the durations.
    calibration : str or None
        ``calibration.json`` of an earlier run, for the scores of ``scoring``,
        with the cohort and back end of that run. It is refused for another
        scoring, model, cohort or back end, and beside a ``development_file``.
    p_target : float or None
        Prior of a target, in (0, 1), for posteriors and decisions, and for
        the calibrations that are fitted; None takes that of the calibration,
        or 0.05 to fit one.
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
    duration_term: bool = False
    calibration: str | None = None
    p_target: float | None = None
    compare: str | None = None
    enrol_map: str | None = None
    utt2spk: str | None = None
    replicates: int = 1000

    def __post_init__(self):
        if isinstance(self.p_target, str):
            # YAML takes "1e-3" for a text.
            with contextlib.suppress(ValueError):
                object.__setattr__(self, "p_target", float(self.p_target))
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
        if self.p_target is not None and not 0 < self.p_target < 1:
            raise AttnError(
                f"p_target: want a number in (0, 1), got {self.p_target}."
            )
        self._check_together()

    def _check_together(self):
        """Refuse what asks for another option, and what excludes one."""
        needs_cohort = self.scoring in _NEEDS_COHORT
        for needed, why, given in (
            ("cohort", f"scoring={self.scoring}", needs_cohort),
            ("cohort", "plda=train", self.plda == TRAIN),
            ("plda", "scoring=plda", self.scoring == "plda"),
            ("development_file", "scoring=fusion", self.scoring == "fusion"),
            ("development_file", "duration_term", self.duration_term),
        ):
            if given and getattr(self, needed) is None:
                raise AttnError(f"{needed}: must be given for {why}.")
        calibrated = self.development_file, self.calibration
        if calibrated == (None, None) and self.p_target is not None:
            raise AttnError(
                "p_target: has no effect without a calibration; give "
                "development_file to fit one, or calibration to use one."
            )
        if None not in calibrated:
            raise AttnError(
                f"calibration: {self.calibration} and one fitted on "
                f"development_file={self.development_file} exclude each "
                "other; leave one of them out."
            )


_WORDS = {
    int: "a whole number",
    bool: "True or False",
    str: "text",
    float: "a number",
}


def _check_kind(name, value, kind):
    """Refuse a value that is of another kind than its field."""
    if value is None and kind not in _WORDS:
        return
    (plain,) = {kind} & set(_WORDS) or set(get_args(kind)) - {NoneType}
    if type(value) is not plain:
        raise AttnError(f"{name}: want {_WORDS[plain]}, got {value!r}.")
