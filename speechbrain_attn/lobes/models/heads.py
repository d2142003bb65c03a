"""Classifiers of the papers: from embeddings to speakers, in training only."""

import torch
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from torch import nn


class DoubleMHAHead(nn.Module):
    """Third layer, without activation, and cosines to the speakers.

    arXiv:2007.13199, sections 2.4 and 3; goes with
    ``nnet.losses.AdditiveMarginSoftmax``.

    Arguments
    ---------
    input_size : int
        Size of the embedding and of the third layer.
    out_neurons : int
        Speakers.

    Example
    -------
    >>> DoubleMHAHead(400, out_neurons=7)(torch.rand(8, 1, 400)).shape
    torch.Size([8, 1, 7])
    """

    def __init__(self, input_size, out_neurons):
        super().__init__()
        self.layer = nn.Linear(input_size, input_size)
        self.cosines = Classifier(input_size, out_neurons=out_neurons)

    def forward(self, x):
        """Cosines [batch, 1, speakers] of embeddings [batch, 1, size]."""
        return self.cosines(self.layer(x))


class SerializedMHAHead(nn.Module):
    """ReLU, batch norm, segment layer and log-probabilities of the speakers.

    arXiv:2107.06493, section 4.2; goes with the host's ``nll_loss``. Batch
    norm has no affine part and momentum 0.5, as in the authors' program.

    Arguments
    ---------
    input_size : int
        Size of the embedding.
    out_neurons : int
        Speakers.
    segment_size : int
        Size of the segment layer: 256 in the paper, 512 in the program.
    bn_affine : bool
        Whether batch norm has weights and biases.
    bn_momentum : float
        Momentum of its running statistics.

    Example
    -------
    >>> SerializedMHAHead(256, out_neurons=7)(torch.rand(8, 1, 256)).shape
    torch.Size([8, 1, 7])
    """

    def __init__(
        self,
        input_size,
        out_neurons,
        segment_size=256,
        bn_affine=False,
        bn_momentum=0.5,
    ):
        super().__init__()
        norm = {"affine": bn_affine, "momentum": bn_momentum}
        self.segment = nn.Sequential(
            nn.ReLU(),
            nn.BatchNorm1d(input_size, **norm),
            nn.Linear(input_size, segment_size),
            nn.ReLU(),
            nn.BatchNorm1d(segment_size, **norm),
        )
        self.speakers = nn.Linear(segment_size, out_neurons)

    def forward(self, x):
        """Log-probabilities [batch, 1, speakers] of [batch, 1, size]."""
        logits = self.speakers(self.segment(x.squeeze(1)))
        # At least float32, also where the network is in half precision.
        dtype = torch.promote_types(logits.dtype, torch.float32)
        logp = nn.functional.log_softmax(logits, dim=1, dtype=dtype)
        return logp.unsqueeze(1)
