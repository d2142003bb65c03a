"""Losses on cosines between embeddings and speakers."""

import torch
from torch import nn


class AdditiveMarginSoftmax(nn.Module):
    """Cross entropy of scaled cosines, the speaker's own less a margin.

    Wang et al., 2018, arXiv:1801.05599, as used in arXiv:2007.13199, section
    3. The annealing is the authors' program's: the speaker's own cosine is
    (cos - m + a cos) / (1 + a) with a = 1000 / (1 + step / 10,000)^2, so the
    margin grows from next to nothing.

    Arguments
    ---------
    scale : float
        Factor on the cosines (the paper's s).
    margin : float
        Taken from the cosine of the speaker (the paper's m).
    annealing : bool
        Whether the margin grows with the training steps, which are counted
        in the buffer ``step``: one for each call that is asked for gradients.

    Example
    -------
    >>> loss = AdditiveMarginSoftmax(scale=30.0, margin=0.4)
    >>> cosines = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]])
    >>> loss(cosines, torch.tensor([[0], [1]])).item() < 0.01
    True
    """

    def __init__(self, scale=30.0, margin=0.4, annealing=False):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.annealing = annealing
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def annealing_factor(self):
        """The authors' a: 1000 at the first step, falling to 0."""
        return 1000.0 / (1.0 + 1e-4 * self.step.double()) ** 2

    def logits(self, cosines, labels):
        """Scaled cosines with the margin, [batch, speakers].

        ``cosines`` [batch, speakers], ``labels`` [batch] int64.
        """
        cosines = cosines.float() if cosines.dtype.itemsize < 4 else cosines
        margin = self.margin
        if self.annealing:
            margin = margin / (1.0 + self.annealing_factor().to(cosines))
        own = nn.functional.one_hot(labels, cosines.shape[1]).to(cosines)
        return self.scale * (cosines - margin * own)

    def forward(self, predictions, targets, length=None):
        """Mean loss, a scalar.

        ``predictions`` are cosines [batch, 1, speakers], ``targets`` speakers
        [batch, 1]; ``length`` is accepted as the host passes it, and unused.
        """
        logits = self.logits(predictions.squeeze(1), targets.squeeze(1))
        loss = nn.functional.cross_entropy(logits, targets.squeeze(1))
        if loss.requires_grad:
            self.step += 1
        return loss
