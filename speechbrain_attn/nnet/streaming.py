"""Exact statistics of frames that come in blocks.

What sums up all frames of an utterance, a pooling or a normalisation, is an
``InPasses`` and says how it does so over blocks; a pooling also says what comes
of it (``finish``). An encoder says how far it looks: ``stride``, the frames
that go into one that comes out, and ``context``, a multiple of it, the frames
on either side beyond which nothing has a say.
"""

import torch
from torch import nn

from speechbrain_attn.nnet.masking import masked_softmax
from speechbrain_attn.nnet.moments import weighted_moments

BLOCK_FRAMES = 2048  # about 20 s; more would only take more memory


class SoftmaxMoments:
    """Mean and deviation over frames under a softmax of their scores.

    Of blocks what ``masked_softmax`` and ``weighted_moments`` give of all
    frames at once. The log of the sum of exp(score) stands for the running
    maximum and what is relative to it, and the variance is centred on the mean
    of the frames so far; both are shifted when a block comes.
    """

    def __init__(self):
        self._log_total = None  # [batch, heads, 1] float64, as all three
        self._mean = None  # [batch, heads, channels]
        self._variance = None
        self._dtype = None

    def update(self, x, scores=None):
        """Add a block.

        Arguments
        ---------
        x : torch.Tensor
            [batch, frames, channels]
        scores : torch.Tensor or None
            [batch, heads, frames]; None: the same for every frame, one head.
        """
        if scores is None:
            scores = torch.zeros_like(x[:, :, 0]).unsqueeze(1)
        attention = masked_softmax(scores, None)
        mean, std = weighted_moments(x, attention, eps=0.0)
        # In double precision, so that a thousand blocks add no error.
        log_total = torch.logsumexp(scores.double(), dim=2, keepdim=True)
        mean, variance = mean.double(), std.double().square()
        if self._log_total is None:
            self._dtype = attention.dtype
            self._log_total, self._mean = log_total, mean
            self._variance = variance
            return
        self._log_total = torch.logaddexp(self._log_total, log_total)
        share = torch.exp(log_total - self._log_total)  # of the new block
        shift = mean - self._mean
        self._mean = self._mean + share * shift
        self._variance = (
            (1 - share) * self._variance
            + share * variance
            + share * (1 - share) * shift.square()
        )

    def mean(self):
        """Mean of the frames so far, [batch, heads, channels]."""
        return self._mean.to(self._dtype)

    def moments(self, eps):
        """Mean and standard deviation, each [batch, heads, channels].

        ``eps`` is the floor on the variance, in squared feature units.
        """
        std = self._variance.clamp(min=eps).sqrt()
        return self.mean(), std.to(self._dtype)


class InPasses(nn.Module):
    """What sums up all frames, in one or more passes over their blocks.

    A subclass has ``update``, and a pooling ``finish(state)``, which gives
    [batch, output_size] of the statistics in ``state``.
    """

    num_passes = 1

    def start(self):
        """The state before the first block: one entry for each pass."""
        return [SoftmaxMoments() for _ in range(self.num_passes)]

    def update(self, state, number, x):
        """Add the block ``x`` [batch, frames, channels] to a pass.

        Pass ``number`` may read what the state holds of the passes before.
        """
        raise NotImplementedError(f"{type(self).__name__} has no update().")

    def advance(self, state, number, x):
        """What a block ``x`` of pass ``number`` is in the next pass."""
        return x


def encoded_blocks(encoder, read, start, stop, frames):
    """Yield the frames that an encoder gives of a long input, in blocks.

    Each block is encoded with its context, and what the block's own edges
    spoil is cut off.

    Arguments
    ---------
    encoder : torch.nn.Module
        With ``stride`` and ``context``.
    read : callable
        (left, right) -> features [batch, right - left, features].
    start, stop : int
        The part to encode, in frames of the input: multiples of the stride,
        ``stop`` may also be ``frames``.
    frames : int
        Frames of the whole input.
    """
    stride, context = encoder.stride, encoder.context
    step = max(1, BLOCK_FRAMES // stride) * stride
    for left in range(start, stop, step):
        right = min(left + step, stop)
        first = max(0, left - context)
        encoded = encoder(read(first, min(frames, right + context)))
        skipped = (left - first) // stride
        count = -(-(right - left) // stride)
        yield encoded[:, skipped : skipped + count]


def pool_in_passes(pooling, blocks, scratch):
    """Pool blocks exactly as all of their frames at once.

    Arguments
    ---------
    pooling : InPasses
        With ``finish``.
    blocks : iterable of torch.Tensor
        Each [1, frames, channels]; gone through once.
    scratch : object
        Keeps the frames from pass to pass, if there are several:
        ``append(rows)``, ``write(start, rows)``, ``read(start, stop)`` and
        ``len()``, rows [frames, channels] that may come back on a CPU.

    Returns
    -------
    torch.Tensor
        [1, output_size]
    """
    state = pooling.start()
    last = pooling.num_passes - 1
    for x in blocks:
        device = x.device
        pooling.update(state, 0, x)
        if last > 0:
            scratch.append(x[0])
    for number in range(1, last + 1):
        for start in range(0, len(scratch), BLOCK_FRAMES):
            stop = min(start + BLOCK_FRAMES, len(scratch))
            before = scratch.read(start, stop).unsqueeze(0).to(device)
            x = pooling.advance(state, number - 1, before)
            pooling.update(state, number, x)
            if x is not before and number < last:
                scratch.write(start, x[0])
    return pooling.finish(state)


def pool_so_far(pooling, state, x):
    """Add a block to all passes at once, each on the statistics so far.

    With one pass that is exact. A later pass saw earlier blocks with the
    statistics of their time, so it only comes near what ``pool_in_passes``
    gives.
    """
    for number in range(pooling.num_passes):
        pooling.update(state, number, x)
        x = pooling.advance(state, number, x)
