"""The pictures of a scoring run."""

import importlib.util

from speechbrain_attn.scoring.det_bands import det_band
from speechbrain_attn.scoring.durations import eer_by_duration
from speechbrain_attn.scoring.reliability import reliability
from speechbrain_attn.scoring.systems import TITLES

MISSING = (
    "No pictures: matplotlib is not installed; `pip install "
    "'speechbrain_attn[plots]'` adds it."
)


NAMES = ("det", "reliability", "bayes_error", "histogram", "duration")


def can_draw():
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_pictures(systems, scoring, data, replicates=1000):
    """Draw the pictures that the data allow.

    Arguments
    ---------
    systems : dict
        Name to System.
    scoring : str
        The one that is drawn with its interval, and alone where there is
        room for one only.
    data : TrialEmbeddings
        Of the test list.
    replicates : int
        Draws of the speakers.

    Returns
    -------
    dict
        One of ``NAMES`` to matplotlib.figure.Figure.
    """
    from speechbrain_attn.scoring import plots

    labels, speakers = data.labels, data.trial_speakers
    own, title = systems[scoring], TITLES[scoring]
    titled = {TITLES[name]: system for name, system in systems.items()}
    band = det_band(own.scores, labels, *speakers, min(replicates, 200))
    figures = {
        "det": plots.det_figure(
            {name: (one.scores, labels) for name, one in titled.items()},
            {title: band},
        ),
    }
    marks = None
    if own.calibration is not None:
        found = own.calibration.thresholds
        marks = {
            "threshold of the EER": found["eer"].score,
            "of 1 % false accepts": found["fa_0.01"].score,
        }
        # Those of all systems would hide each other.
        few = {
            TITLES[name]: systems[name].llrs
            for name in dict.fromkeys(("cosine", scoring, "fusion"))
            if name in systems and systems[name].calibration is not None
        }
        figures["reliability"] = plots.reliability_figure(
            {name: reliability(llrs, labels) for name, llrs in few.items()}
        )
        figures["bayes_error"] = plots.bayes_error_figure(
            {name: (llrs, labels) for name, llrs in few.items()}
        )
    figures["histogram"] = plots.histogram_figure(
        own.scores, labels, f"score: {title}", marks
    )
    bins = _duration_bins(own.scores, data, replicates)
    if bins:
        figures["duration"] = plots.duration_figure({title: bins})
    return figures


def write_pictures(folder, figures):
    """Write what ``draw_pictures`` returned as PNG and SVG.

    Arguments
    ---------
    folder : Path
    figures : dict
    """
    if not figures:  # as without matplotlib
        return
    from speechbrain_attn.scoring import plots

    for name, figure in figures.items():
        plots.save_figure(figure, folder / name)


def _duration_bins(scores, data, replicates):
    """Bins of duration, None where there are none with enough trials."""
    durations = data.trial_durations
    if durations is None or len(set(durations.min(axis=1))) < 2:
        return None
    bins = eer_by_duration(
        scores,
        data.labels,
        durations,
        *data.trial_speakers,
        replicates=replicates,
    )
    return bins if any(found.eer for found in bins) else None
