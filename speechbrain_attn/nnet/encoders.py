"""Frame encoders: features to frames, [batch, frames, channels] throughout.

Each has ``input_size`` and ``output_size``; ``forward(x, lengths=None)`` gives
frames whose padding is zero, ``output_frames(frames)`` how many frames come
out, and ``output_lengths(lengths, frames)`` their relative lengths, which are
what a pooling wants next. ``exact_padding`` says that padding has no influence,
``stride`` and ``context`` how far an encoder looks (``streaming``), and
``first_centre`` at which frame of the input its first one has its centre; those
that follow have it ``stride`` frames later each.
"""

import torch
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import (
    clean,
    frame_mask,
    frames_of_lengths,
    zero_after,
)
from speechbrain_attn.nnet.pointwise import is_plain, over_frames, relu_of
from speechbrain_attn.nnet.tracing import is_traced


class TDNNEncoder(nn.Module):
    """Time-delay layers, each affine, then ReLU, then batch norm.

    Zero padding keeps the number of frames. The trunk of x-vectors (Snyder et
    al., 2018) and of arXiv:2107.06493, section 4.2.

    Arguments
    ---------
    input_size : int
        Features per frame.
    channels, kernel_sizes, dilations : sequence of int
        One entry a layer; kernel sizes are odd.
    bn_affine : bool
        Whether batch norm has weights and biases.
    bn_momentum : float
        Momentum of its running statistics.
    project_size : int or None
        Size of a last linear layer without bias and without anything after
        it; None for no such layer.

    Raises
    ------
    AttnError
        Sequences of different lengths, or an even kernel size.

    Example
    -------
    >>> encoder = TDNNEncoder(80, (64, 64), (5, 3), (1, 2))
    >>> encoder(torch.rand(8, 120, 80)).shape
    torch.Size([8, 120, 64])
    """

    exact_padding = True

    def __init__(
        self,
        input_size,
        channels,
        kernel_sizes,
        dilations,
        bn_affine=True,
        bn_momentum=0.1,
        project_size=None,
    ):
        super().__init__()
        if not len(channels) == len(kernel_sizes) == len(dilations) > 0:
            raise AttnError(
                f"channels, kernel_sizes and dilations have {len(channels)}, "
                f"{len(kernel_sizes)} and {len(dilations)} entries; want one "
                "a layer in each."
            )
        even = [size for size in kernel_sizes if size % 2 == 0]
        if even:
            raise AttnError(
                f"kernel_sizes: {even[0]} is even; want odd sizes, which keep "
                "the number of frames."
            )
        self.input_size = input_size
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for size, kernel_size, dilation in zip(
            channels, kernel_sizes, dilations, strict=True
        ):
            self.convs.append(
                nn.Conv1d(
                    input_size,
                    size,
                    kernel_size,
                    dilation=dilation,
                    padding=dilation * (kernel_size // 2),
                )
            )
            self.norms.append(
                nn.BatchNorm2d(size, momentum=bn_momentum, affine=bn_affine)
            )
            input_size = size
        self.stride = 1
        self.first_centre = 0
        self.context = sum(
            dilation * (kernel_size // 2)
            for kernel_size, dilation in zip(
                kernel_sizes, dilations, strict=True
            )
        )
        self.projection = None
        if project_size is not None:
            self.projection = nn.Conv1d(input_size, project_size, 1, bias=False)
        self.output_size = project_size or input_size

    def output_frames(self, frames):
        """Frames that come out; as many as go in."""
        return frames

    def output_lengths(self, lengths, frames):
        """Relative lengths of what comes out; the same as goes in."""
        return lengths

    def forward(self, x, lengths=None):
        """Encode [batch, frames, features] into [batch, frames, channels].

        ``lengths`` [batch] are parts of the padded length; None means no
        padding, which may hold anything.
        """
        counts = _own_frames(lengths, x)
        # As images of one line, [batch, channels, 1, frames], whose channels
        # lie side by side in memory as they do in x: convolutions and batch
        # norm then move nothing.
        x = clean(x, frame_mask(lengths, x.shape[1]))
        x = x.transpose(1, 2).unsqueeze(2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = over_frames(conv, x)
            # Biases and batch norm make padding non-zero, and the next layer
            # would look at it.
            x = zero_after(norm(relu_of(x, conv)), counts, axis=3)
        if self.projection is not None:
            x = over_frames(self.projection, x)
        return x.squeeze(2).transpose(1, 2)


class VGGEncoder(nn.Module):
    """Blocks of two 3x3 convolutions and a 2x2 max pooling.

    Front end of arXiv:2007.13199, table 1 (four blocks, VGG4) and of
    arXiv:1906.09890 (three, VGG3). Odd sizes are rounded up at each pooling.

    Arguments
    ---------
    input_size : int
        Features per frame.
    channels : sequence of int
        Channels of each block; a fourth of the frames and features remain
        after every two blocks.
    batch_norm : bool
        Whether each convolution is followed by batch norm, before its ReLU;
        the paper has none.

    Example
    -------
    >>> encoder = VGGEncoder(80, channels=(4, 8))
    >>> encoder(torch.rand(2, 99, 80)).shape
    torch.Size([2, 25, 160])
    """

    exact_padding = True

    def __init__(
        self,
        input_size=80,
        channels=(128, 256, 512, 1024),
        batch_norm=False,
    ):
        super().__init__()
        self.input_size = input_size
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        previous = 1
        for size in channels:
            for _ in range(2):
                # Batch norm cancels a bias before it, which would not learn.
                bias = not batch_norm
                self.convs.append(
                    nn.Conv2d(previous, size, 3, padding=1, bias=bias)
                )
                self.norms.append(
                    nn.BatchNorm2d(size) if batch_norm else nn.Identity()
                )
                previous = size
        self.num_blocks = len(channels)
        self.stride = 2**self.num_blocks
        # Convolutions look as far to either side; pooling takes whole blocks.
        self.first_centre = (self.stride - 1) / 2
        # The two convolutions of a block at a stride of s look 2 s frames to
        # either side: 2 (1 + 2 + 4 + ...), less than twice the whole stride.
        self.context = 2 * self.stride
        self.output_size = previous * self.output_frames(input_size)
        self.to(memory_format=torch.channels_last)

    def output_frames(self, frames):
        """Frames that come out: halved and rounded up once a block.

        ``frames`` may be an integer or an integer tensor.
        """
        for _ in range(self.num_blocks):
            frames = (frames + 1) // 2
        return frames

    def output_lengths(self, lengths, frames):
        """Relative lengths of what comes out, for ``frames`` going in."""
        if lengths is None:
            return None
        counts = self.output_frames(frames_of_lengths(lengths, frames))
        return counts.float() / self.output_frames(frames)

    def forward(self, x, lengths=None):
        """Encode [batch, frames, features] into [batch, frames', channels].

        Output channel c * features' + f is map c at feature f, so that a head
        of a multi-head pooling gets whole maps.
        """
        counts = _own_frames(lengths, x)
        x = clean(x, frame_mask(lengths, x.shape[1])).unsqueeze(1)
        x = x.contiguous(memory_format=torch.channels_last)
        for layer, (conv, norm) in enumerate(
            zip(self.convs, self.norms, strict=True)
        ):
            x = relu_of(_normalised(conv, norm, x), conv, norm)
            x = zero_after(x, counts, axis=2)
            if layer % 2:
                x = _halved(x)
                counts = None if counts is None else (counts + 1) // 2
        return x.transpose(1, 2).flatten(2)


def _own_frames(lengths, x):
    """Frames of each utterance of [batch, frames, ...]; None for no lengths."""
    if lengths is None:
        return None
    return frames_of_lengths(lengths, x.shape[1])


def _halved(x):
    """Largest of each 2 x 2 of maps that are at least 0, odd sizes rounded up.

    After ReLU, zeros in the padding never win against an utterance's own last
    frame.
    """
    if is_traced():
        # As ceil_mode, which no export with a dynamic number of frames has.
        x = nn.functional.pad(x, (0, 1, 0, 1))
        return nn.functional.max_pool2d(x, 2)
    return nn.functional.max_pool2d(x, 2, ceil_mode=True)


def _normalised(conv, norm, x):
    """``norm(conv(x))``; with fixed statistics in one pass over the maps."""
    fixed = isinstance(norm, nn.BatchNorm2d) and not norm.training
    if is_traced() or not (fixed and is_plain(conv) and is_plain(norm)):
        return norm(conv(x))
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    weight = conv.weight * scale[:, None, None, None]
    return nn.functional.conv2d(x, weight, shift, padding=conv.padding)
