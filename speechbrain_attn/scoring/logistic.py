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
    costs = costs_of_errors(p_target)
    _, threshold = bayes_thresholds(costs)
    # As DCF is: the rarer kind weighs the same at all priors, and so it does
    # against the penalty.
    of_targets, of_nontargets = np.divide(costs, 2 * min(costs))
    shares = np.where(
        labels,
        of_targets / np.count_nonzero(labels),
        of_nontargets / np.count_nonzero(~labels),
    )
    signs = np.where(labels, -1.0, 1.0)
    means, scales = inputs.mean(axis=0), inputs.std(axis=0)
    scales[np.ptp(inputs, axis=0) == 0] = 1.0
    columns = np.column_stack([np.ones(len(labels)), (inputs - means) / scales])
    penalties = np.append(0.0, np.full(len(means), PENALTY))

    def wrongness(weights):
        """Log odds that a trial is of the other kind than it is."""
        return signs * (columns @ weights - threshold)

    def loss(weights):
        nats = np.logaddexp(0.0, wrongness(weights))
        return shares @ nats + penalties @ weights**2 / 2

    def gradient(weights):
        slopes = shares * signs * expit(wrongness(weights))
        return slopes @ columns + penalties * weights

    def curvature(weights):
        wrong = expit(wrongness(weights))
        bends = shares * wrong * (1 - wrong)
        return columns.T @ (bends[:, None] * columns) + np.diag(penalties)

    near = minimize(
        loss,
        np.zeros(len(penalties)),
        method="trust-exact",
        jac=gradient,
        hess=curvature,
        options={"gtol": 1e-5},
    ).x
    # Closer to the minimum, rounding hides differences of the loss but not
    # of its gradient.
    found = root(gradient, near, jac=curvature, tol=1e-12).x
    steepest = np.abs(gradient(found)).max()
    if not steepest < CONVERGED:
        raise AttnError(
            f"the logistic regression did not converge (gradient {steepest:.1e}"
            f", want below {CONVERGED}); are some inputs far outside the rest?"
        )
    weights = found[1:] / scales
    return float(found[0] - weights @ means), weights
