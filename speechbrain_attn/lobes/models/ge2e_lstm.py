"""LSTM of GE2E (Wan et al., 2018), the network to compare with."""

import torch
from torch import nn

from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.masking import (
    check_input,
    clean,
    frame_mask,
    frames_of_lengths,
)


class GE2ELSTM(nn.Module):
    """Projected LSTM layers, of which the last own frame is the embedding.

    In training an utterance goes through in one piece. In eval mode a longer
    one is cut into windows of ``window_frames``, half a window apart, as the
    network was trained on crops of about that length; the embedding is the
    mean of theirs. The last window ends with the utterance, so that all are
    full and no frame is left out. Every embedding, of a window too, is of
    unit length.

    Padding on the right has no say: the LSTM has not read it when it comes to
    the last own frame. There is no graph for any number of frames:
    ``torch.export`` fixes the sizes of what an LSTM takes.

    Arguments
    ---------
    input_size : int
        Features per frame.
    hidden_size : int
        Cells of each layer.
    num_layers : int
        Layers.
    projection_size : int
        What each layer hands on, to itself too; the size of the embedding.
        Less than ``hidden_size``.
    window_frames : int or None
        Frames of a window in eval mode, 2 or more; None takes the utterance
        in one piece there, too.

    Raises
    ------
    AttnError
        ``window_frames`` below 2.

    Example
    -------
    >>> network = GE2ELSTM(hidden_size=32, num_layers=1, projection_size=16)
    >>> network.eval()(torch.rand(8, 500, 40), torch.ones(8)).shape
    torch.Size([8, 1, 16])
    """

    exact_padding = True

    def __init__(
        self,
        input_size=40,
        hidden_size=768,
        num_layers=3,
        projection_size=256,
        window_frames=160,
    ):
        super().__init__()
        if window_frames is not None and window_frames < 2:
            raise AttnError(
                f"window_frames={window_frames}; want 2 or more, or None."
            )
        self.input_size = input_size
        self.embedding_size = projection_size
        self.window_frames = window_frames
        self.lstm = nn.LSTM(
            input_size,
            hidden_size,
            num_layers,
            batch_first=True,
            proj_size=projection_size,
        )
        self._initialise()

    def _initialise(self):
        """Weights that let utterances differ in the embedding from the start.

        With PyTorch's own all embeddings point the same way, and GE2E stays at
        chance for long.
        """
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("weight"):
                nn.init.xavier_normal_(parameter)
                continue
            nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                # Gates are in the order input, forget, cell, output: at first
                # the cell forgets little.
                forget = parameter.data.unflatten(0, (4, -1))[1]
                nn.init.ones_(forget)

    def forward(self, x, lengths=None):
        """Embed features [batch, frames, features]: [batch, 1, embedding_size].

        ``lengths`` [batch] are parts of the padded length in (0, 1], above 1
        they count as 1; None means no padding. Raises AttnError on what does
        not fit.
        """
        if lengths is not None:
            lengths = lengths.clamp(max=1.0)
        check_input(x, lengths, self.input_size)
        batch, frames = x.shape[:2]
        # NaN in the padding would reach the gradients.
        x = clean(x, frame_mask(lengths, frames))
        if lengths is None:
            lengths = torch.ones(batch, device=x.device)
        counts = frames_of_lengths(lengths, frames)
        window = self.window_frames
        if self.training or window is None or frames <= window:
            return self._last_frames(x, counts).unsqueeze(1)
        return self._mean_of_windows(x, counts, window).unsqueeze(1)

    def _last_frames(self, x, counts):
        """Outputs [batch, embedding_size] at the last of ``counts`` frames."""
        outputs, _ = self.lstm(x)
        rows = torch.arange(len(x), device=x.device)
        return nn.functional.normalize(outputs[rows, counts - 1], dim=1)

    def _mean_of_windows(self, x, counts, window):
        """Normalised mean over each utterance's own windows."""
        hop = window // 2
        longest = x.shape[1] - window
        starts = torch.arange(0, longest + hop, hop, device=x.device)
        last_starts = (counts - window).clamp(min=0).unsqueeze(1)
        own = starts < last_starts + hop  # [batch, windows]
        starts = torch.minimum(starts, last_starts)
        # All windows of all utterances as one batch.
        rows, _ = own.nonzero(as_tuple=True)
        frames = starts[own].unsqueeze(1) + torch.arange(
            window, device=x.device
        )
        found = self._last_frames(
            x[rows.unsqueeze(1), frames], counts[rows].clamp(max=window)
        )
        embeddings = found.new_zeros(*own.shape, self.embedding_size)
        embeddings[own] = found
        return nn.functional.normalize(embeddings.sum(dim=1), dim=1)
