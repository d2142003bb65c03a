"""Pictures of where a pooling looks, under waveform and spectrogram."""

import numpy as np
import torch

from speechbrain_attn.lobes.features import Fbank
from speechbrain_attn.scoring.plot_style import COLOURS, style

FEW_HEADS = 6  # so many get a curve each; more are the rows of an image
GREY = "#666666"
COLUMNS = 800  # of the waveform
RANGE_DB = 60  # of the spectrogram
TICKS_HZ = (0, 500, 1000, 2000, 4000, 8000)
WIDTH = 8.0  # inches, as of the other pictures; heights in inches, too
WAVE_HEIGHT, MEL_HEIGHT, CURVE_HEIGHT, ROW_HEIGHT = 0.8, 1.6, 1.1, 0.24
FEW_ROWS, MOST_ROWS = 8, 32  # that an image is high


def attention_figure(attention, waveform, sample_rate, title=""):
    """Waveform, log-mel spectrogram and attention on one axis of time.

    Up to six heads have a curve each; more, and heads that are weighed by a
    second attention, are rows of an image with bars beside them.

    Arguments
    ---------
    attention : attention.Attention
    waveform : torch.Tensor
        [samples], what the attention is of.
    sample_rate : int
        Samples per second.
    title : str
        Which recording and which model.

    Returns
    -------
    matplotlib.figure.Figure
        For ``scoring.plots.save_figure``.

    Raises
    ------
    AttnError
        matplotlib is missing.
    """
    rows = len(attention.weights)
    curves = rows <= FEW_HEADS and attention.head_weights is None
    panels = [CURVE_HEIGHT] * rows
    if not curves:
        panels = [ROW_HEIGHT * min(max(rows, FEW_ROWS), MOST_ROWS)]
    heights = [WAVE_HEIGHT, MEL_HEIGHT, *panels]
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, sum(heights) + 0.9))
        grid = figure.add_gridspec(
            len(heights),
            1 if curves else 2,
            height_ratios=heights,
            width_ratios=None if curves else (1, 0.18),
        )
        axes = _timed_axes(figure, grid, attention.duration_s)
        axes[0].set_title(title, loc="left")
        waveform = waveform.detach().cpu()
        _draw_waveform(axes[0], waveform.numpy(), sample_rate)
        _draw_spectrogram(axes[1], waveform, sample_rate)
        if curves:
            _draw_curves(axes[2:], attention)
            figure.legend(
                *axes[2].get_legend_handles_labels(),
                loc="outside lower center",
                ncols=2,
            )
        else:
            _draw_image(axes[2], attention)
            _draw_bars(figure.add_subplot(grid[2, 1]), attention)
    return figure


def _timed_axes(figure, grid, duration_s):
    """Axes in the first column, one below the other, with one axis of time."""
    axes = [figure.add_subplot(grid[0, 0])]
    for row in range(1, grid.nrows):
        axes[-1].tick_params(labelbottom=False)
        axes.append(figure.add_subplot(grid[row, 0], sharex=axes[0]))
    axes[0].set_xlim(0, duration_s)
    axes[-1].set_xlabel("time (s)")
    return axes


def _draw_waveform(axes, samples, sample_rate):
    """The span of the samples that fall into each column of pixels."""
    size = -(-len(samples) // COLUMNS)
    starts = np.arange(0, len(samples), size)
    axes.fill_between(
        starts / sample_rate,
        np.minimum.reduceat(samples, starts),
        np.maximum.reduceat(samples, starts),
        color=GREY,
        linewidth=0.5,
    )
    limit = 1.05 * max(np.abs(samples).max(), 1e-4)
    axes.set_ylim(-limit, limit)
    axes.set_ylabel("amplitude")
    axes.locator_params(axis="y", nbins=4)


def _draw_spectrogram(axes, waveform, sample_rate):
    """80 log-mel energies, the same whatever the model's features are."""
    fbank = Fbank(sample_rate, top_db=RANGE_DB)
    with torch.inference_mode():
        energies = fbank(waveform.unsqueeze(0))[0].T.numpy()
    decibels = 10 / np.log(10) * (energies - energies.max())
    hop_s = fbank.hop_samples / sample_rate
    image = axes.imshow(
        decibels,
        cmap="Greys",
        interpolation="nearest",
        vmin=-RANGE_DB,
        vmax=0,
        origin="lower",
        aspect="auto",
        extent=(
            -hop_s / 2,
            (decibels.shape[1] - 0.5) * hop_s,
            0,
            _mel(sample_rate / 2),
        ),
    )
    ticks = [hertz for hertz in TICKS_HZ if hertz <= sample_rate / 2]
    axes.set_yticks(_mel(np.array(ticks)), [f"{t / 1000:g}" for t in ticks])
    axes.set_ylabel("frequency\n(kHz, mel)")
    axes.grid(False)
    _draw_scale(axes, image, "dB")


def _draw_scale(axes, image, label):
    """Colours of an image, in a bar at its right side."""
    beside = axes.inset_axes([1.02, 0, 0.015, 1])
    axes.figure.colorbar(image, cax=beside).set_label(label)


def _mel(hertz):
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def _draw_curves(panels, attention):
    relative, edges_s = attention.relative, attention.edges_s
    highest = 1.08 * max(relative.max(), 1.5)
    for head, axes in enumerate(panels):
        axes.stairs(relative[head], edges_s, fill=True, color=COLOURS[5])
        axes.stairs(
            np.where(attention.most(head), relative[head], 0),
            edges_s,
            fill=True,
            color=COLOURS[0],
            label="the fewest frames that hold half of the weight",
        )
        axes.axhline(
            1, color="black", linewidth=1, linestyle="--", label="mean (1)"
        )
        axes.set_ylim(0, highest)
        _describe(axes, f"{attention.names[head]}: ", attention, [head])
        axes.set_ylabel("weight")
        axes.locator_params(axis="y", nbins=4, integer=True)


def _describe(axes, start, attention, heads):
    """Effective frames and entropies of heads, above their axes."""
    frames = attention.weights.shape[1]
    effective = _range(attention.effective_frames()[heads], ".1f")
    entropies = _range(attention.entropies()[heads], ".2f")
    shares = _range(100 * attention.entropy_shares()[heads], ".1f")
    axes.set_title(
        f"{start}{effective} effective frames of {frames}; entropy "
        f"{entropies} nats ({shares} % of ln {frames})",
        loc="left",
        fontsize=10,
    )


def _range(values, form):
    ends = dict.fromkeys(format(v, form) for v in (values.min(), values.max()))
    return " to ".join(ends)


def _draw_image(axes, attention):
    """A row of colours for each head."""
    rows = len(attention.weights)
    image = axes.pcolormesh(
        attention.edges_s,
        np.arange(rows + 1) + 0.5,
        attention.relative,
        cmap="Blues",
        vmin=0,
        rasterized=True,
    )
    numbers = _shown_rows(rows)
    axes.set_yticks(numbers, [attention.names[n - 1] for n in numbers])
    axes.invert_yaxis()
    axes.grid(False)
    _describe(axes, "", attention, slice(None))
    _draw_scale(axes, image, "weight (1 = mean)")


def _draw_bars(axes, attention):
    """A bar for each head: its weight, or else its effective frames."""
    label, values = "effective\nframes", attention.effective_frames()
    if attention.head_weights is not None:
        label, values = "weight of\nthe head", attention.head_weights
    rows = len(values)
    axes.barh(np.arange(1, rows + 1), values, height=0.7, color=COLOURS[0])
    axes.set_ylim(rows + 0.5, 0.5)
    axes.set_yticks(_shown_rows(rows), [])
    axes.set_xlabel(label)


def _shown_rows(rows):
    """Numbers of the heads for which there is room at the axis."""
    return range(1, rows + 1, -(-rows // MOST_ROWS))
