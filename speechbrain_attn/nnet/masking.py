"""Which frames are there: the one place where padding is thought about.

Everything downstream sees padding in one of two forms: a boolean *mask*
``[batch, frames]``, True on an utterance's own frames, or a *presence*
``[batch, frames]`` in [0, 1], the mask times soft frame weights over their
largest. Either is None when nothing is padded, and then costs nothing.
"""

import torch

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.tracing import is_traced


def frames_of_lengths(lengths, frames):
    """Whole frames of each utterance, [batch] int64, from 1 to ``frames``.

    Rounding comes before every comparison: in float32, 0.15 x 100 is
    15.000001, which would keep a sixteenth, padded frame. Exact for lengths
    n / frames held in float32 up to 100,000 frames.

    Arguments
    ---------
    lengths : torch.Tensor
        [batch], parts of the padded length, in (0, 1].
    frames : int
        Frames of the padded batch.

    Example
    -------
    >>> frames_of_lengths(torch.tensor([0.15, 1.0]), 100)
    tensor([ 15, 100])
    """
    counts = torch.round(lengths.float() * frames).long()
    return counts.clamp(min=1, max=frames)


def frame_mask(lengths, frames):
    """Boolean mask [batch, frames], True on own frames; None for no lengths."""
    if lengths is None:
        return None
    index = torch.arange(frames, device=lengths.device)
    return index < frames_of_lengths(lengths, frames).unsqueeze(1)


def clean(x, mask):
    """``x`` [batch, frames, ...] with what is masked set to zero.

    Filled, not multiplied: 0 x NaN is NaN.
    """
    if mask is None:
        return x
    return x.masked_fill(~mask.reshape(mask.shape + (1,) * (x.dim() - 2)), 0.0)


def zero_after(x, counts, axis):
    """``x`` with zeros behind the first ``counts`` places of an axis.

    Written into ``x`` itself where nothing wants what stood there: a pass over
    the padding in place of one over all. So only for what the caller has made.

    Arguments
    ---------
    x : torch.Tensor
        [batch, ...]
    counts : torch.Tensor or None
        [batch] int64, own places of each utterance; None: nothing is padded.
    axis : int
        Of ``x``, from 1.
    """
    if counts is None:
        return x
    size = x.shape[axis]
    if _values_can_be_read(x) and not x.requires_grad:
        for row, count in enumerate(counts.tolist()):
            x[row].narrow(axis - 1, count, size - count).zero_()
        return x
    own = torch.arange(size, device=x.device) < counts.unsqueeze(1)
    shape = [x.shape[0]] + [1] * (x.dim() - 1)
    shape[axis] = size
    # Not masked_fill: with channels last it takes longer than a convolution.
    return torch.where(own.view(shape), x, 0.0)


def check_input(x, lengths, input_size):
    """Refuse frames and lengths that do not fit.

    ``x`` must be [batch, frames, input_size] with at least one frame,
    ``lengths`` None or [batch] in (0, 1].

    Raises
    ------
    AttnError
        A shape or a value that does not fit; values are checked on the CPU
        and outside of tracing only.
    """
    _check_frames(x, input_size)
    if lengths is not None:
        _check_lengths(lengths, x.shape[0])


def present_frames(x, lengths, weights, input_size):
    """Checked and cleaned input of a pooling.

    Arguments
    ---------
    x : torch.Tensor
        [batch, frames, channels]; padding may hold anything, NaN too.
    lengths : torch.Tensor or None
        [batch], parts of the padded length in (0, 1]; None: nothing is padded.
    weights : torch.Tensor or None
        [batch, frames] in [0, 1]; 0 = the frame is absent. An utterance whose
        weights are all zero counts as one without weights.
    input_size : int
        Channels that the pooling was built for.

    Returns
    -------
    x : torch.Tensor
        The input with absent frames set to zero.
    presence : torch.Tensor or None
        [batch, frames] float32 (float64 for a float64 input); the largest of
        each utterance is 1.

    Raises
    ------
    AttnError
        As ``check_input``; weights of another shape or outside [0, 1] on an
        utterance's own frames.
    """
    check_input(x, lengths, input_size)
    mask = frame_mask(lengths, x.shape[1])
    if weights is None:
        presence = None if mask is None else mask.to(sum_dtype(x))
        return clean(x, mask), presence
    if weights.shape != x.shape[:2]:
        raise AttnError(
            f"weights: shape {tuple(weights.shape)} for frames "
            f"{tuple(x.shape[:2])}; want one weight for each frame."
        )
    weights = clean(weights.to(sum_dtype(x)), mask)
    _check_weight_values(weights)
    everywhere = torch.ones_like(weights) if mask is None else mask.to(weights)
    some = (weights > 0).any(dim=1, keepdim=True)
    presence = torch.where(some, weights, everywhere)
    # Only their ratios count; the largest is 1, so that no product of tiny
    # ones vanishes.
    presence = presence / presence.amax(dim=1, keepdim=True)
    return clean(x, presence > 0), presence


def masked_softmax(scores, presence):
    """Softmax over the last axis, times presence before it is normalised.

    Arguments
    ---------
    scores : torch.Tensor
        [batch, ..., frames]; computed in float32 whatever comes in.
    presence : torch.Tensor or None
        [batch, frames] in [0, 1], some above 0 in every row.

    Returns
    -------
    torch.Tensor
        Same shape, sums to one over frames, exactly 0 where absent.
    """
    scores = scores.to(sum_dtype(scores))
    if presence is None:
        return torch.softmax(scores, dim=-1)
    while presence.dim() < scores.dim():
        presence = presence.unsqueeze(1)
    scores = scores.masked_fill(presence == 0, float("-inf"))
    attention = torch.softmax(scores, dim=-1) * presence
    # The clamp keeps the ratio finite where weights near zero meet the frames
    # with the highest scores.
    total = attention.sum(dim=-1, keepdim=True)
    return attention / total.clamp(min=torch.finfo(total.dtype).tiny)


def uniform_attention(x, presence):
    """The same weight on every present frame, [batch, 1, frames]."""
    if presence is None:
        presence = torch.ones_like(x[:, :, 0], dtype=sum_dtype(x))
    return (presence / presence.sum(dim=1, keepdim=True)).unsqueeze(1)


def full_precision(x):
    """Context in which products of float32 tensors are not autocast."""
    return torch.autocast(x.device.type, enabled=False)


def sum_dtype(x):
    """What ``x`` is summed in: float64 if it is, float32 for all else."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _values_can_be_read(x):
    # Reading a value stalls a GPU.
    return not (is_traced() or x.is_cuda)


def _check_frames(x, input_size):
    if x.dim() != 3:
        mend = " Add the batch axis: x.unsqueeze(0)." if x.dim() == 2 else ""
        raise AttnError(
            f"x: want [batch, frames, channels], got {tuple(x.shape)}.{mend}"
        )
    if x.shape[2] != input_size:
        mend = ""
        if x.shape[1] == input_size:
            mend = " Are frames last? Then give x.transpose(1, 2)."
        raise AttnError(
            f"x: {x.shape[2]} channels, but this module was built for "
            f"{input_size}.{mend}"
        )
    if x.shape[1] == 0:
        raise AttnError(
            "x: no frames; drop empty utterances before the network."
        )


def _check_lengths(lengths, batch):
    if tuple(lengths.shape) != (batch,):
        raise AttnError(
            f"lengths: shape {tuple(lengths.shape)} for a batch of {batch}; "
            "want one relative length for each utterance."
        )
    if not _values_can_be_read(lengths):
        return
    wrong = ~((lengths > 0) & (lengths <= 1))
    if wrong.any():
        first = int(wrong.nonzero()[0])
        value = float(lengths[first])
        mend = ""
        if value > 1:
            mend = f" Are these frames? Then divide by {float(lengths.max()):g}"
            mend += ", the frames of the batch."
        raise AttnError(
            f"lengths: utterance {first} has {value:g}; want parts of the "
            f"padded length in (0, 1].{mend}"
        )


def _check_weight_values(weights):
    if not _values_can_be_read(weights):
        return
    # Asked this way round, since NaN compares False with everything.
    wrong = ~((weights >= 0) & (weights <= 1))
    if wrong.any():
        first, frame = wrong.nonzero()[0].tolist()
        raise AttnError(
            f"weights: utterance {first} has {float(weights[first, frame]):g} "
            f"at frame {frame}; want values in [0, 1]."
        )
