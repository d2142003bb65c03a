"""Classifiers of the papers: from embeddings to speakers, in training only."""

import torch
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import full_precision


class CosineHead(nn.Module):
    """Cosines between embeddings and a vector, or several, for each speaker.

    Goes with ``nnet.angular_margin.AdditiveAngularMarginSoftmax``. With one
    vector each it has the weights of the host's ``ECAPA_TDNN.Classifier``.
    With several, the sub-centres of Deng et al., 2020, "Sub-center ArcFace",
    a speaker's cosine is that of the nearest: utterances that are unlike the
    others, or wrongly labelled, can gather around a centre of their own.

    Arguments
    ---------
    input_size : int
        Size of the embedding.
    out_neurons : int
        Speakers.
    num_sub_centres : int
        Vectors of each.

    Raises
    ------
    AttnError
        ``num_sub_centres`` is no whole number from 1 on.

    Example
    -------
    >>> head = CosineHead(192, out_neurons=7, num_sub_centres=3)
    >>> head(torch.rand(8, 1, 192)).shape
    torch.Size([8, 1, 7])
    """

    def __init__(self, input_size, out_neurons, num_sub_centres=1):
        super().__init__()
        if not isinstance(num_sub_centres, int) or num_sub_centres < 1:
            raise AttnError(
                f"num_sub_centres={num_sub_centres}: want a whole number, 1 "
                "for one vector a speaker, or more."
            )
        self.num_sub_centres = num_sub_centres
        # Those of a speaker one after the other.
        self.weight = nn.Parameter(
            torch.empty(out_neurons * num_sub_centres, input_size)
        )
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x):
        """Cosines [batch, 1, speakers] of embeddings [batch, 1, size].

        Also of [batch, size], as the host's ResNet gives them.
        """
        x = x.reshape(len(x), 1, -1)
        # In bfloat16 they would come in steps of 0.004, which the scale of
        # the loss makes steps of 0.1.
        x = x.float() if x.dtype.itemsize < 4 else x
        with full_precision(x):
            weight = nn.functional.normalize(self.weight.to(x.dtype))
            cosines = nn.functional.normalize(x, dim=2) @ weight.T
        if self.num_sub_centres == 1:
            return cosines
        return cosines.unflatten(2, (-1, self.num_sub_centres)).amax(dim=3)


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
    num_sub_centres : int
        As for ``CosineHead``.

    Example
    -------
    >>> DoubleMHAHead(400, out_neurons=7)(torch.rand(8, 1, 400)).shape
    torch.Size([8, 1, 7])
    """

    def __init__(self, input_size, out_neurons, num_sub_centres=1):
        super().__init__()
        self.layer = nn.Linear(input_size, input_size)
        self.cosines = CosineHead(input_size, out_neurons, num_sub_centres)

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
