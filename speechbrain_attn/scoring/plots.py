"""Pictures of scores and of their errors, as PNG and SVG.

Each function makes a matplotlib figure, and ``save_figure`` writes it. Systems
are told apart by colour and by dashes.
"""

import os
from pathlib import Path

import numpy as np
from scipy.special import expit, logit, ndtri

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.error_counts import costs_of_errors, dcf_at
from speechbrain_attn.scoring.metrics import (
    act_dcf,
    det_curve,
    eer,
    sorted_classes,
)
from speechbrain_attn.scoring.plot_style import looks, style, subplots

GREY = "#666666"
DET_TICKS = (0.01, 0.05, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 95)  # %
PRIORS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8)
FEW_TRIALS = 30  # a share of fewer is drawn hollow


def save_figure(figure, path, kinds=("png", "svg")):
    """Write a figure as ``path``.png and ``path``.svg.

    The same figure gives the same SVG, byte for byte.

    Arguments
    ---------
    figure : matplotlib.figure.Figure
        From a function of this file.
    path : str or Path
        Without a suffix; its folder is made.
    kinds : sequence of str
        Which of the two files.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    AttnError
        A file cannot be written; the message names it.
    """
    files = []
    for kind in kinds:
        file = Path(f"{path}.{kind}")
        partial = f"{file}.{os.getpid()}.tmp"
        metadata = {"Date": None} if kind == "svg" else None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with style():
                figure.savefig(partial, format=kind, metadata=metadata)
            if kind == "png":
                _use_palette(partial)
            os.replace(partial, file)
        except OSError as error:
            raise AttnError(
                f"{file}: cannot be written ({error.strerror})."
            ) from None
        files.append(file)
    return files


def _use_palette(path):
    """Write a PNG again in 256 colours: half the bytes, to the eye the same."""
    from PIL import Image  # which matplotlib needs, too

    image = Image.open(path).convert("RGB")
    # By default colours that are few are merged: a scale of blues had a grey.
    image = image.quantize(
        256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    image.save(path, "PNG", optimize=True)


def det_figure(systems, bands=None):
    """Detection error trade-off: both error rates on normal-deviate axes.

    Normal scores give a straight line. The marker is at the EER.

    Arguments
    ---------
    systems : dict
        Name to (scores, labels), as for ``metrics.det_curve``.
    bands : dict, optional
        Name to the ``det_bands.DetBand`` of that system, drawn as an area.
    """
    bands = bands or {}
    with style():
        figure, axes = subplots()
        curves, rates = [], []
        for look, (name, (scores, labels)) in looks(systems):
            curves.append(det_curve(scores, labels))
            rates.append(eer(scores, labels))
            label = f"{name}: EER {100 * rates[-1]:.2f} %"
            if name in bands:
                band = bands[name]
                label += f"; area: {100 * band.level:g} % interval"
                axes.fill_between(
                    _deviate(band.false_acceptance),
                    _deviate(band.low),
                    _deviate(band.high),
                    color=look["color"],
                    alpha=0.18,
                    linewidth=0,
                )
            axes.plot(*_thinned(curves[-1]), markevery=[], label=label, **look)
        _det_axes(axes, curves)
        ends = np.transpose([axes.get_xlim(), axes.get_ylim()])
        for rate, (look, _) in zip(rates, looks(systems), strict=True):
            # A perfect system has its marker in the corner.
            place = np.clip(_deviate(rate), *ends)
            axes.plot(*place[:, None], clip_on=False, **look)
        axes.set_xlabel("false acceptance (% of nontargets)")
        axes.set_ylabel("false rejection (% of targets)")
        figure.legend(loc="outside upper center")
    return figure


def histogram_figure(scores, labels, score_name="cosine score", marks=None):
    """Density of the scores of targets and of nontargets.

    Arguments
    ---------
    scores, labels : array or tensor
        [trials] each, as for ``metrics.eer``, scores finite.
    score_name : str
        What the scores are, with their unit.
    marks : dict, optional
        Name to a score, thresholds for example, drawn as lines.

    Raises
    ------
    AttnError
        As ``metrics.eer``, or a score is infinite.
    """
    targets, nontargets = sorted_classes(scores, labels)
    ends = min(targets[0], nontargets[0]), max(targets[-1], nontargets[-1])
    if not np.isfinite(ends).all():
        raise AttnError(
            f"scores: a histogram wants finite ones, got {ends[0]} to "
            f"{ends[1]}."
        )
    if ends[0] == ends[1]:  # all scores the same
        ends = ends[0] - 0.5, ends[1] + 0.5
    edges = np.linspace(*ends, 81)
    kinds = {"targets": targets, "nontargets": nontargets}
    with style():
        figure, axes = subplots()
        for look, (name, kind) in looks(kinds):
            axes.hist(
                kind,
                edges,
                density=True,
                histtype="stepfilled",
                facecolor=look["color"] + "4d",  # 30 % opaque
                edgecolor=look["color"],
                linestyle=look["linestyle"],
                label=f"{len(kind):,} {name}",
            )
        for look, (name, value) in looks(marks or {}):
            axes.axvline(
                value,
                color="black",
                linestyle=look["linestyle"],
                linewidth=1.2,
                label=f"{name}: {value:.3f}",
            )
        axes.set_xlabel(score_name)
        axes.set_ylabel("density (of either kind, area 1)")
        axes.legend()
    return figure


def reliability_figure(systems):
    """Observed share of targets against the posterior that was promised.

    On the diagonal the promise is kept. Below it, how many trials stand
    behind each point; the point is hollow where they are fewer than 30.

    Arguments
    ---------
    systems : dict
        Name to a ``reliability.Reliability``, all of one prior.

    Raises
    ------
    AttnError
        The priors differ.
    """
    priors = sorted({found.p_target for found in systems.values()})
    if len(priors) != 1:
        raise AttnError(f"systems: want one prior for all, got {priors}.")
    with style():
        figure, (axes, trials) = subplots(2, sharex=True, height_ratios=(3, 1))
        for look, (name, found) in looks(systems):
            axes.plot(found.posterior, found.observed, label=name, **look)
            few = found.counts < FEW_TRIALS
            hollow = {**look, "linestyle": "", "markerfacecolor": "white"}
            axes.plot(found.posterior[few], found.observed[few], **hollow)
            trials.stairs(
                found.counts,
                found.edges,
                color=look["color"],
                linestyle=look["linestyle"],
            )
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="promise kept")
        axes.plot(
            [],
            "o",
            color=GREY,
            markerfacecolor="white",
            label=f"fewer than {FEW_TRIALS} trials",
        )
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel(f"targets observed\n(share at prior {priors[0]:g})")
        figure.legend(loc="outside upper center", ncols=2)
        powers = 10 ** np.arange(8)
        trials.set_yscale("log", subs=[])
        trials.set_yticks(powers, [f"{power:,}" for power in powers])
        most = max(found.counts.max() for found in systems.values())
        trials.set_ylim(0.8, 2 * most)
        trials.set_ylabel("trials")
        trials.set_xlabel(
            f"posterior probability of the same speaker at prior {priors[0]:g}"
        )
    return figure


def bayes_error_figure(systems):
    """Actual and minimum detection cost over the prior, at equal costs.

    The distance of the two is the price of calibration at that prior; 1 is
    the cost of decisions without scores.

    Arguments
    ---------
    systems : dict
        Name to (log-likelihood ratios in nats, labels).
    """
    log_odds = np.linspace(-8, 3, 89)
    with style():
        figure, axes = subplots()
        for look, (name, (llrs, labels)) in looks(systems):
            actual, lowest = bayes_errors(llrs, labels, log_odds)
            look["linestyle"] = "-"
            axes.plot(log_odds, actual, markevery=8, label=name, **look)
            axes.plot(log_odds, lowest, "--", color=look["color"])
        axes.plot([], color="black", label="actual")
        axes.plot([], "--", color="black", label="minimum")
        axes.axhline(
            1, color=GREY, linewidth=1, linestyle=":", label="without scores"
        )
        axes.set_xlim(log_odds[0], log_odds[-1])
        axes.set_ylim(0, 1.3)
        axes.set_xlabel("log odds of the prior (nats)")
        axes.set_ylabel("detection cost, normalised")
        above = axes.secondary_xaxis("top")
        above.set_xticks(logit(PRIORS), [f"{prior:g}" for prior in PRIORS])
        above.set_xlabel("prior of a target")
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def bayes_errors(llrs, labels, log_odds):
    """Actual and minimum normalised DCF at each prior, [priors] each.

    ``log_odds`` [priors] are those of the priors of a target, in nats.
    """
    curve = det_curve(llrs, labels)
    errors = curve.false_rejection, curve.false_acceptance
    priors = expit(log_odds)
    actual = [act_dcf(llrs, labels, prior) for prior in priors]
    lowest = [dcf_at(*errors, costs_of_errors(prior)).min() for prior in priors]
    return np.array(actual), np.array(lowest)


def duration_figure(systems):
    """EER by the duration of the shorter side, with confidence intervals.

    Arguments
    ---------
    systems : dict
        Name to a list of ``durations.DurationBin``, all of the same bins; a
        bin without an EER is left empty.

    Raises
    ------
    AttnError
        The bins differ.
    """
    kinds = {name: tuple(b[:4] for b in bins) for name, bins in systems.items()}
    if len(set(kinds.values())) != 1:
        raise AttnError(f"systems: want the same bins for all, got {kinds}.")
    (bins, *_) = systems.values()
    with style():
        figure, axes = subplots()
        for i, (look, (name, found)) in enumerate(looks(systems)):
            shift = 0.12 * (i - (len(systems) - 1) / 2)
            places = [x for x, b in enumerate(found) if b.eer]
            values, lows, highs = np.reshape(
                [found[x].eer for x in places], (-1, 3)
            ).T
            axes.errorbar(
                np.add(places, shift),
                100 * values,
                100 * np.array([values - lows, highs - values]),
                capsize=4,
                label=name,
                **{**look, "linestyle": ""},
            )
        axes.set_xticks(
            range(len(bins)),
            [
                f"{b.start_s:.1f} to {b.stop_s:.1f} s\n"
                f"{b.targets:,} / {b.nontargets:,}"
                for b in bins
            ],
        )
        axes.set_xlim(-0.5, len(bins) - 0.5)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(
            "duration of the shorter side; targets / nontargets of the bin"
        )
        axes.set_ylabel("EER (%), 95 % intervals")
        figure.legend(loc="outside upper center")
    return figure


def _deviate(rates):
    """Normal deviate of rates; 0 and 1 go far beyond the axes."""
    return ndtri(np.clip(rates, 1e-9, 1 - 1e-9))


def _thinned(curve):
    """A DET curve as deviates, without points nearer than a pixel is wide."""
    deviates = _deviate(curve[:2])
    steps = np.floor(deviates / 0.004)
    moved = (np.diff(steps, prepend=np.nan) != 0).any(axis=0)
    kept = moved | np.append(moved[1:], True)
    return deviates[:, kept]


def _det_axes(axes, curves):
    """Limits and ticks of a DET picture.

    An axis ends where the other error is 1 %, and begins where its own is of
    three trials, or where all curves have left the picture.
    """
    across = [(c.false_rejection, c.false_acceptance) for c in curves]
    upwards = [tuple(errors[::-1] for errors in c[:2]) for c in curves]
    right, top = (
        _tick(max([0.1, *(_own_error(0.01, *c) for c in side)]))
        for side in (across, upwards)
    )
    for side, axis, set_limits, high, other_high in (
        (across, axes.xaxis, axes.set_xlim, right, top),
        (upwards, axes.yaxis, axes.set_ylim, top, right),
    ):
        three_trials = min(3 * own[own > 0].min() for _, own in side)
        leaves = min(_own_error(other_high, *c) for c in side)
        low = _tick(max(three_trials, leaves) / 2)
        low = min(low, _tick(high / 20))
        ticks = [t for t in DET_TICKS if low <= t / 100 <= high]
        axis.set_ticks(
            _deviate(np.divide(ticks, 100)), [f"{t:g}" for t in ticks]
        )
        set_limits(*_deviate([low, high]))


def _own_error(other_error, others, own):
    """One error rate of a DET curve where the other, rising, reaches a rate."""
    return own[np.searchsorted(others, other_error, "right") - 1]


def _tick(rate):
    """The lowest tick that is not below a rate, as a fraction; or the last."""
    ticks = np.divide(DET_TICKS, 100)
    return ticks[min(np.searchsorted(ticks, rate), len(ticks) - 1)]
