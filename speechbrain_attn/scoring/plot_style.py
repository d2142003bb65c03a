"""The look that all pictures share."""

from speechbrain_attn.errors import AttnError

# Okabe and Ito's, which colour-blind readers can tell apart, without yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (9, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLE = {
    # At 800 pixels, the width of a README, type of 15 pixels.
    "figure.figsize": (8, 5.5),
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.08,
    "savefig.dpi": 200,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "lines.linewidth": 1.8,
    # Text that can be searched, and ids that are the same each time.
    "svg.fonttype": "none",
    "svg.hashsalt": "speechbrain_attn",
}


def style():
    """The look of all pictures, as a context; it changes nothing outside."""
    try:
        import matplotlib
    except ImportError:
        raise AttnError(
            "pictures need matplotlib; pip install 'speechbrain_attn[plots]', "
            "or leave the pictures out."
        ) from None
    return matplotlib.rc_context(STYLE)


def subplots(*shape, **options):
    """A figure of its own, which pyplot does not know, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure()
    return figure, figure.subplots(*shape, **options)


def looks(systems):
    """Colour, dashes and marker beside each item of a dict."""
    choices = {"color": COLOURS, "linestyle": DASHES, "marker": MARKERS}
    for i, item in enumerate(systems.items()):
        yield {key: of[i % len(of)] for key, of in choices.items()}, item
