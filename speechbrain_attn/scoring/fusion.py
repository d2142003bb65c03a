"""One log-likelihood ratio from several scores and the quality of a trial.

How much a score tells depends on the recordings: short ones, and such as lie
close to the whole cohort, score higher against everybody. Logistic regression
on the scores of one or more systems and on measures of quality (Thienpondt et
al., ICASSP 2021) learns from a development list by how much.
"""

import dataclasses

import numpy as np

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.logistic import logistic_regression
from speechbrain_attn.scoring.metrics import checked
from speechbrain_attn.scoring.rows import trial_rows
from speechbrain_attn.scoring.strict_json import JsonFile


def quality_measures(
    enrol, test, durations=None, norms=None, cohort_means=None
):
    """Measures of the quality of each trial, from those of its two sides.

    Of each quantity the lower side and the gap between the sides are taken:
    the same for a trial and its mirror image, and the higher side and the sum
    of both are sums of these two.

    Arguments
    ---------
    enrol, test : numpy.ndarray
        [trials] integers, rows of what follows.
    durations : numpy.ndarray, optional
        [rows], seconds. Their logarithm is taken, as a second more tells much
        in two and little in sixty.
    norms : numpy.ndarray, optional
        [rows], lengths of the embeddings, before they are scaled to one.
        Their logarithm is taken.
    cohort_means : numpy.ndarray, optional
        [rows], as in ``normalisation.CohortStatistics``.

    Returns
    -------
    dict
        Name to [trials] float64: ``log_duration_lower``,
        ``log_duration_gap``, ``log_norm_lower`` and so on.

    Raises
    ------
    AttnError
        Shapes do not fit, an index lies outside, or a duration or norm is
        not above 0.

    Example
    -------
    >>> quality_measures([0], [1], cohort_means=np.array([0.25, 0.125]))
    {'cohort_mean_lower': array([0.125]), 'cohort_mean_gap': array([0.125])}
    """
    measures = {}
    for name, values in (
        ("log_duration", _logarithms(durations, "durations")),
        ("log_norm", _logarithms(norms, "norms")),
        ("cohort_mean", cohort_means),
    ):
        if values is None:
            continue
        enrol, test = trial_rows(enrol, test, len(values))
        one, other = np.asarray(values, dtype=np.float64)[[enrol, test]]
        measures[f"{name}_lower"] = np.minimum(one, other)
        measures[f"{name}_gap"] = np.abs(one - other)
    return measures


def _logarithms(values, name):
    """Natural logarithms, [rows], or None of None."""
    if values is None:
        return None
    values = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~((values > 0) & np.isfinite(values)))
    if len(bad):
        raise AttnError(
            f"{name}: want numbers above 0, got {values[bad[0]]} for row "
            f"{bad[0]}."
        )
    return np.log(values)


# Of the rarer kind, for each weight: fewer are soon learnt by heart.
ENOUGH_TRIALS = 10


@dataclasses.dataclass(frozen=True)
class Fusion(JsonFile):
    """Natural log-likelihood ratio of a trial, a weighted sum of its inputs.

    Made by ``Fusion.fit`` or ``Fusion.load``.

    Arguments
    ---------
    weights : dict
        Name of an input to nats for each unit of it.
    offset : float
        Nats.
    p_target : float
        The prior that the weights were fitted for.
    trial_list : str
        Name of the development list.
    targets, nontargets : int
        Its trials.

    Example
    -------
    >>> scores = np.linspace(-0.4, 0.8, 600)
    >>> labels = scores + 0.2 * np.sin(np.arange(600)) > 0.3
    >>> seconds = 4 + np.cos(np.arange(600))
    >>> fusion = Fusion.fit({"cosine": scores, "seconds": seconds}, labels)
    >>> llrs = fusion.llr({"cosine": [0.2, 0.4], "seconds": [4.0, 4.0]})
    >>> (llrs > 0).tolist()
    [False, True]
    """

    weights: dict[str, float]
    offset: float
    p_target: float
    trial_list: str
    targets: int
    nontargets: int

    @classmethod
    def fit(cls, inputs, labels, p_target=0.5, trial_list=""):
        """Fit by logistic regression, on standardised inputs.

        Arguments
        ---------
        inputs : dict
            Name to [trials]: scores of one or more systems, and what
            ``quality_measures`` gives. One that never varies gets weight 0.
        labels : array
            [trials], 1 or True for targets.
        p_target : float
            In (0, 1); targets weigh so much together, whatever their number.
        trial_list : str
            Name of the list, kept with the weights. Its speakers should be
            others than those of the lists to be scored.

        Raises
        ------
        AttnError
            There is no input, shapes differ, a value is not finite, there are
            not both kinds of trial, or the prior lies outside (0, 1).
        """
        columns = _columns(inputs, list(inputs))
        _, labels = checked(columns[:, 0], labels)
        offset, weights = logistic_regression(columns, labels, p_target)
        return cls(
            weights=dict(zip(inputs, weights.tolist(), strict=True)),
            offset=offset,
            p_target=float(p_target),
            trial_list=str(trial_list),
            targets=int(labels.sum()),
            nontargets=int((~labels).sum()),
        )

    @property
    def notes(self):
        """Sentences on what the development list is too small for."""
        rarer = min(self.targets, self.nontargets)
        wanted = ENOUGH_TRIALS * len(self.weights)
        if rarer >= wanted:
            return []
        return [
            f"The fusion has {len(self.weights)} weights from "
            f"{self.targets:,} targets and {self.nontargets:,} nontargets of "
            f"{self.trial_list}, on which it is calibrated, too; with fewer "
            f"than {wanted:,} of each it may do worse than what it fuses."
        ]

    def llr(self, inputs):
        """Log-likelihood ratios, [trials] float64, of inputs as in ``fit``.

        Raises AttnError where an input is missing, unknown or not finite.
        """
        if set(inputs) != set(self.weights):
            raise AttnError(
                f"inputs: this fusion takes {', '.join(self.weights)}, got "
                f"{', '.join(inputs) or 'none'}."
            )
        weights = np.array(list(self.weights.values()))
        return _columns(inputs, self.weights) @ weights + self.offset


def _columns(inputs, names):
    """Inputs in the order of the names, [trials, inputs] float64."""
    columns = [np.asarray(inputs[name], dtype=np.float64) for name in names]
    if not columns:
        raise AttnError("inputs: want the scores of a system at least.")
    for name, column in zip(names, columns, strict=True):
        if column.ndim != 1 or len(column) != len(columns[0]):
            raise AttnError(
                f"inputs: want [trials] = {columns[0].shape} of each, got "
                f"{column.shape} of {name}."
            )
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            raise AttnError(
                f"inputs: {name} is {column[bad[0]]} for trial {bad[0]}."
            )
    return np.column_stack(columns)
