"""Softmax over cosines with a margin on angles."""

import math

import torch
from torch import nn

from speechbrain_attn.errors import AttnError


class AdditiveAngularMarginSoftmax(nn.Module):
    """Cross entropy of scaled cosines, the speaker's own angle made wider.

    Xiang et al., 2019, arXiv:1906.07317: the own cosine is cos(theta + m);
    beyond theta = pi - m, where that would rise again, it is cos(theta) -
    m sin(m), as in the host's ``AdditiveAngularMargin`` under
    ``LogSoftmaxWrapper``, which this loss equals with the default ``top_k``.

    Inter-top-k penalty (Zhao et al., 2022, arXiv:2110.05042): the ``top_k``
    other speakers with the highest cosines have cos(theta - m'), so that the
    most alike are pushed further away. Deliberate difference: below theta =
    m', where that would fall again, it is cos(theta) + m' sin(m').

    ``nnet.schedules.MarginRamp`` may move ``margin``; m' then keeps its ratio
    to it.

    Arguments
    ---------
    margin : float
        m, in radians, in [0, pi].
    scale : float
        Factor on the cosines.
    top_k : int
        Other speakers that are made harder; 0 switches the penalty off.
    top_k_margin : float
        m', in radians, in [0, pi], at the full ``margin``.

    Raises
    ------
    AttnError
        ``top_k`` is no whole number, or negative; a margin lies outside.

    Example
    -------
    >>> loss = AdditiveAngularMarginSoftmax(margin=0.2, scale=30.0, top_k=1)
    >>> cosines = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]])
    >>> loss(cosines, torch.tensor([[0], [1]])).item() < 0.01
    True
    """

    def __init__(self, margin=0.2, scale=30.0, top_k=0, top_k_margin=0.06):
        super().__init__()
        if not isinstance(top_k, int) or top_k < 0:
            raise AttnError(
                f"top_k={top_k}: want a whole number, 0 for no penalty."
            )
        for name, angle in (("margin", margin), ("top_k_margin", top_k_margin)):
            if not isinstance(angle, int | float) or not 0 <= angle <= math.pi:
                raise AttnError(
                    f"{name}={angle}: want radians, from 0 to pi; 0.2 is a "
                    "usual margin."
                )
        self.margin = margin
        self.full_margin = margin
        self.scale = scale
        self.top_k = top_k
        self.top_k_margin = top_k_margin

    def logits(self, cosines, labels):
        """Scaled cosines with their margins, [batch, speakers].

        ``cosines`` [batch, speakers], ``labels`` [batch] int64.
        """
        if cosines.dtype.itemsize < 4:
            cosines = cosines.float()
        labels = labels.unsqueeze(1)
        own = _further(cosines.gather(1, labels), self.margin)
        logits = cosines.scatter(1, labels, own)
        number = min(self.top_k, cosines.shape[1] - 1)
        if number:
            others = cosines.scatter(1, labels, -2.0)  # below every cosine
            hard, places = others.topk(number)
            part = self.margin / self.full_margin if self.full_margin else 1.0
            margin = part * self.top_k_margin
            # -cos(theta) is the cosine of the angle from the other side.
            logits = logits.scatter(1, places, -_further(-hard, margin))
        return self.scale * logits

    def forward(self, predictions, targets, length=None):
        """Mean loss, a scalar.

        ``predictions`` are cosines [batch, 1, speakers], ``targets`` speakers
        [batch, 1]; ``length`` is accepted as the host passes it, and unused.
        """
        targets = targets.squeeze(1)
        logits = self.logits(predictions.squeeze(1), targets)
        return nn.functional.cross_entropy(logits, targets)


def _further(cosines, margin):
    """Cosines of angles that are ``margin`` wider, falling all the way."""
    # At the ends the slope of the sine is infinite.
    cosines = cosines.clamp(-1 + 1e-7, 1 - 1e-7)
    sines = (1 - cosines.square()).sqrt()
    wider = cosines * math.cos(margin) - sines * math.sin(margin)
    beyond = cosines - margin * math.sin(margin)
    return torch.where(cosines > -math.cos(margin), wider, beyond)
