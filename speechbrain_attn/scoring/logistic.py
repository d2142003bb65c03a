"""Logistic regression at a stated prior, for calibration and fusion."""

import numpy as np
from scipy.optimize import minimize, root
from scipy.special import expit

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.error_counts import (
    bayes_thresholds,
    costs_of_errors,
)

# Of half the squared weights of the standardised inputs. Where the classes
# overlap it moves the weights by about a part in 10,000; where they do not,
# the loss would fall for ever as the weights grow.
PENALTY = 1e-6
CONVERGED = 1e-9  # slope of the loss, nats for a standardised unit


def logistic_regression(inputs, labels, p_target=0.5):
    """Offset and weights, such that ``offset + inputs @ weights`` are ratios.

    These log-likelihood ratios minimise the cross entropy of the posteriors
    at a prior of ``p_target``, where the targets weigh ``p_target`` together
    and the nontargets the rest, whatever their numbers. To that a small
    penalty is added, so that perfectly separated classes get finite weights.

    Arguments
    ---------
    inputs : numpy.ndarray
        [trials, inputs], finite.
    labels : numpy.ndarray
        [trials] bool, with both kinds of trial.
    p_target : float
        In (0, 1).

    Returns
    -------
    offset : float
        Nats.
    weights : numpy.ndarray
        [inputs], nats for each unit of an input; 0 for a constant input.

    Raises
    ------
    AttnError
        The prior lies outside (0, 1), or no minimum was found.

    Example
    -------
    >>> inputs = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> labels = np.array([False, True, False, True])
    >>> offset, weights = logistic_regression(inputs, labels)
    >>> bool(abs(offset + 1.5 * weights[0]) < 1e-6)
    True
    """
    means, scales = inputs.mean(axis=0), inputs.std(axis=0)
    scales[np.ptp(inputs, axis=0) == 0] = 1.0
    offset, *weights = _minimum(
        _CrossEntropy((inputs - means) / scales, labels, p_target)
    )
    weights = weights / scales
    return float(offset - weights @ means), weights


class _CrossEntropy:
    """The penalised loss and its derivatives, by [offset, weights]."""

    def __init__(self, inputs, labels, p_target):
        costs = costs_of_errors(p_target)
        # As DCF is: the rarer kind weighs the same at all priors, and so it
        # does against the penalty.
        of_targets, of_nontargets = np.divide(costs, 2 * min(costs))
        self.shares = np.where(
            labels,
            of_targets / np.count_nonzero(labels),
            of_nontargets / np.count_nonzero(~labels),
        )
        self.signs = np.where(labels, -1.0, 1.0)
        self.columns = np.column_stack([np.ones(len(labels)), inputs])
        self.threshold = bayes_thresholds(costs)[1]
        self.penalties = np.append(0.0, np.full(inputs.shape[1], PENALTY))

    def wrongness(self, weights):
        """Log odds that a trial is of the other kind than it is."""
        return self.signs * (self.columns @ weights - self.threshold)

    def loss(self, weights):
        nats = np.logaddexp(0.0, self.wrongness(weights))
        return self.shares @ nats + self.penalties @ weights**2 / 2

    def gradient(self, weights):
        slopes = self.shares * self.signs * expit(self.wrongness(weights))
        return slopes @ self.columns + self.penalties * weights

    def curvature(self, weights):
        wrong = expit(self.wrongness(weights))
        bends = self.shares * wrong * (1 - wrong)
        columns = self.columns
        return columns.T @ (bends[:, None] * columns) + np.diag(self.penalties)


def _minimum(entropy):
    """Where the loss is least."""
    near = minimize(
        entropy.loss,
        np.zeros(len(entropy.penalties)),
        method="trust-exact",
        jac=entropy.gradient,
        hess=entropy.curvature,
        options={"gtol": 1e-5},
    ).x
    # Closer to the minimum, rounding hides differences of the loss but not
    # of its gradient.
    found = root(entropy.gradient, near, jac=entropy.curvature, tol=1e-12).x
    steepest = np.abs(entropy.gradient(found)).max()
    if not steepest < CONVERGED:
        raise AttnError(
            f"the logistic regression did not converge (gradient {steepest:.1e}"
            f", want below {CONVERGED}); are some inputs far outside the rest?"
        )
    return found
