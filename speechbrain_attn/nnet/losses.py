"""Losses on cosines between embeddings and speakers."""

import math

import torch
from torch import distributed, nn
from torch.distributed.nn import functional

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import full_precision

REDUCTIONS = {"mean": torch.mean, "sum": torch.sum, "none": lambda loss: loss}


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
        Taken from the cosine of the speaker (the paper's m); 0 or more.
    annealing : bool
        Whether the margin grows with the training steps, which are counted
        in the buffer ``step``: one for each call that is asked for gradients.

    Raises
    ------
    AttnError
        ``margin`` is negative, or no number.

    Example
    -------
    >>> loss = AdditiveMarginSoftmax(scale=30.0, margin=0.4)
    >>> cosines = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]])
    >>> loss(cosines, torch.tensor([[0], [1]])).item() < 0.01
    True
    """

    def __init__(self, scale=30.0, margin=0.4, annealing=False):
        super().__init__()
        if not isinstance(margin, int | float) or not margin >= 0:
            raise AttnError(
                f"margin={margin}: want a number, 0 or more, to take from the "
                "cosine; the paper has 0.4."
            )
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
        # Only the speakers' own, without a matrix of the size of the cosines.
        labels = labels.unsqueeze(1)
        own = cosines.gather(1, labels) - margin
        return self.scale * cosines.scatter(1, labels, own)

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


def ge2e_loss(embeddings, w, b, variant="softmax", reduction="mean"):
    """Generalised end-to-end loss (Wan et al., 2018, equations 5 to 9).

    The paper's e_ji is ``embeddings[j, i]`` brought to unit length. Each
    utterance is compared with the mean of every speaker's utterances, and
    with the mean of its own speaker's *other* ones: S = w cos + b. With
    "softmax" its loss is -S_own + log sum exp S over all speakers; with
    "contrast" it is 1 - sigmoid(S_own) + the largest sigmoid(S) of another
    speaker. The paper sums over utterances; here they are averaged, so that
    the learning rate does not depend on the batch.

    Arguments
    ---------
    embeddings : torch.Tensor
        [speakers, utterances, size], two or more of each; of any length.
    w, b : float or torch.Tensor
        Factor on the cosines, and what is added; w should be positive.
    variant : str
        "softmax" or "contrast".
    reduction : str
        "mean", "sum" or "none": [speakers, utterances].

    Returns
    -------
    torch.Tensor
        Computed in float32 at least, under autocast too.

    Raises
    ------
    AttnError
        Another shape, fewer than two speakers or utterances, an unknown
        variant or reduction.

    Example
    -------
    >>> embeddings = torch.eye(4).unsqueeze(1).expand(4, 5, 4)
    >>> f"{ge2e_loss(embeddings, w=10.0, b=-5.0).item():.6f}"
    '0.000136'
    """
    _check_choice("variant", variant, ("softmax", "contrast"))
    embeddings = _unit_embeddings(embeddings, reduction)
    num_utterances = embeddings.shape[1]
    with full_precision(embeddings):
        total = embeddings.sum(dim=1, keepdim=True)
        others = _unit((total - embeddings) / (num_utterances - 1))
        cosines = embeddings @ _unit(total[:, 0] / num_utterances).T
        own_speaker = torch.eye(
            len(embeddings), dtype=torch.bool, device=embeddings.device
        ).unsqueeze(1)
        own = w * (embeddings * others).sum(dim=2) + b
        scores = w * cosines + b
        if variant == "softmax":
            scores = torch.where(own_speaker, own.unsqueeze(2), scores)
            loss = scores.logsumexp(dim=2) - own
        else:
            scores = scores.masked_fill(own_speaker, float("-inf"))
            loss = 1 - own.sigmoid() + scores.amax(dim=2).sigmoid()
        return REDUCTIONS[reduction](loss)


def angular_prototypical_loss(embeddings, w, b, reduction="mean"):
    """Angular prototypical loss (Chung et al., 2020, arXiv:2003.11982).

    The last utterance of each speaker is compared with the mean of every
    speaker's other utterances; the loss is the softmax cross entropy of
    S = w cos + b. Unlike in the paper, means are taken of unit vectors, as in
    ``ge2e_loss``, whose arguments and errors this has; "none" gives
    [speakers].

    Example
    -------
    >>> embeddings = torch.eye(4).unsqueeze(1).expand(4, 5, 4)
    >>> f"{angular_prototypical_loss(embeddings, w=10.0, b=-5.0).item():.6f}"
    '0.000136'
    """
    embeddings = _unit_embeddings(embeddings, reduction)
    with full_precision(embeddings):
        prototypes = _unit(embeddings[:, :-1].mean(dim=1))
        scores = w * (embeddings[:, -1] @ prototypes.T) + b
        loss = scores.logsumexp(dim=1) - scores.diagonal()
        return REDUCTIONS[reduction](loss)


class GE2E(nn.Module):
    """Mean GE2E loss of a batch of as many utterances of each speaker.

    ``ge2e_loss`` with its w and b as parameters. What is learned is log w, so
    that w stays positive. In the softmax form b cancels: it stays as it is.

    Arguments
    ---------
    init_w, init_b : float
        What w and b start from; the paper's are the defaults.
    variant : str
        "softmax" or "contrast".
    lr_factor : float
        Learning rate of w and b over that of the network; see
        ``parameter_groups``. At the network's own rate AdamW moves w too
        little in a run of some hundred batches: the default gave the lower
        error on held-back speakers there.
    gather : bool
        Whether all processes of a distributed run make up one batch, with
        centroids of the speakers of all. No speaker may be in two of them.

    Raises
    ------
    AttnError
        ``init_w`` is not positive; an unknown variant.

    Example
    -------
    >>> loss = GE2E()
    >>> speakers = torch.tensor([[0], [1], [1], [0]])
    >>> loss(torch.randn(4, 1, 8), speakers).shape
    torch.Size([])
    """

    def __init__(
        self,
        init_w=10.0,
        init_b=-5.0,
        variant="softmax",
        lr_factor=10.0,
        gather=False,
    ):
        super().__init__()
        _check_choice("variant", variant, ("softmax", "contrast"))
        if not init_w > 0:
            raise AttnError(
                f"init_w={init_w}; want more than 0: with a negative factor "
                "the most different utterances would count as alike."
            )
        self.log_w = nn.Parameter(torch.tensor(math.log(init_w)))
        self.b = nn.Parameter(torch.tensor(float(init_b)))
        self.variant = variant
        self.lr_factor = lr_factor
        self.gather = gather

    @property
    def w(self):
        """Factor on the cosines, positive."""
        return self.log_w.exp()

    def parameter_groups(self):
        """Groups for an optimiser, with ``lr_factor`` beside the parameters.

        Who sets a group's ``lr`` multiplies it by the factor. No weight
        decay: it would pull w to 1 and b to 0.
        """
        return [
            {
                "params": list(self.parameters()),
                "lr_factor": self.lr_factor,
                "weight_decay": 0.0,
            }
        ]

    def forward(self, predictions, targets, length=None):
        """Mean loss, a scalar.

        ``predictions`` are embeddings [batch, 1, size] or [batch, size],
        ``targets`` speakers [batch, 1], in any order and as often as each
        other; ``length`` is accepted as the host passes it, and unused.
        """
        if self.gather and distributed.is_initialized():
            # Of the loss of all, which every process computes, each gets the
            # gradients of its own embeddings from every process; the mean
            # that DDP then takes is the gradient of the one loss.
            predictions = torch.cat(functional.all_gather(predictions))
            targets = torch.cat(functional.all_gather(targets))
        return self.loss(group_by_speaker(predictions, targets))

    def loss(self, embeddings):
        """Mean loss of [speakers, utterances, size]."""
        return ge2e_loss(embeddings, self.w, self.b, self.variant)


class AngularPrototypical(GE2E):
    """Angular prototypical loss of a batch that ``GE2E`` would take.

    ``angular_prototypical_loss`` with its w and b as parameters. The last
    utterance of each speaker in the batch is the one that is compared.

    Arguments
    ---------
    init_w, init_b, lr_factor, gather
        As those of ``GE2E``.
    """

    def __init__(self, init_w=10.0, init_b=-5.0, lr_factor=10.0, gather=False):
        super().__init__(init_w, init_b, lr_factor=lr_factor, gather=gather)

    def loss(self, embeddings):
        """Mean loss of [speakers, utterances, size]."""
        return angular_prototypical_loss(embeddings, self.w, self.b)


def group_by_speaker(embeddings, speakers):
    """Embeddings [speakers, utterances, size] of a batch in any order.

    Arguments
    ---------
    embeddings : torch.Tensor
        [batch, 1, size] or [batch, size]
    speakers : torch.Tensor
        [batch, 1] or [batch], integers, each as often as every other. They
        come out in rising order; a speaker's utterances keep theirs.

    Raises
    ------
    AttnError
        Other shapes, or speakers that differ in their number of utterances.

    Example
    -------
    >>> group_by_speaker(torch.tensor([[1.], [2.], [3.], [4.]]),
    ...                  torch.tensor([7, 3, 3, 7])).squeeze(2)
    tensor([[2., 3.],
            [1., 4.]])
    """
    speakers = speakers.flatten()
    if embeddings.numel() != len(speakers) * embeddings.shape[-1]:
        raise AttnError(
            f"predictions: {tuple(embeddings.shape)} for {len(speakers)} "
            "targets; want embeddings [batch, 1, size], one for each."
        )
    names, counts = speakers.unique(return_counts=True)
    fewest, most = counts.argmin(), counts.argmax()
    if counts[fewest] != counts[most]:
        raise AttnError(
            f"batch: speaker {names[fewest]} has {counts[fewest]} utterances "
            f"and speaker {names[most]} has {counts[most]}; want as many of "
            "each. Draw batches with dataio.sampling.SpeakerBatchSampler."
        )
    order = speakers.argsort(stable=True)
    by_speaker = embeddings.flatten(end_dim=-2)[order]
    return by_speaker.unflatten(0, (len(names), -1))


def _unit_embeddings(embeddings, reduction):
    """Checked [speakers, utterances, size], of unit length, float32 or 64."""
    _check_choice("reduction", reduction, tuple(REDUCTIONS))
    if embeddings.dim() != 3 or min(embeddings.shape[:2]) < 2:
        raise AttnError(
            "embeddings: want [speakers, utterances, size] with two or more "
            f"speakers and utterances, got {tuple(embeddings.shape)}; raise "
            "num_speakers or num_utterances of the batches."
        )
    if embeddings.dtype.itemsize < 4:
        embeddings = embeddings.float()
    return _unit(embeddings)


def _unit(x):
    # The mean of opposed vectors can vanish: a floor of 1e-12, torch's own,
    # would let gradients grow to 1e12 there.
    return nn.functional.normalize(x, dim=-1, eps=1e-6)


def _check_choice(name, value, known):
    if value not in known:
        raise AttnError(f"{name}={value!r}; want one of {list(known)}.")
