"""Pictures: what is drawn, and what they are drawn from."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from scipy.special import expit, logit, ndtri
from simulated_trials import simulated_trials

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring import plots
from speechbrain_attn.scoring.confidence import Interval
from speechbrain_attn.scoring.det_bands import det_band
from speechbrain_attn.scoring.durations import DurationBin
from speechbrain_attn.scoring.metrics import act_dcf, det_curve, eer, min_dcf
from speechbrain_attn.scoring.plot_style import COLOURS
from speechbrain_attn.scoring.reliability import reliability


@pytest.fixture(scope="module")
def trials():
    return simulated_trials()


@pytest.fixture(scope="module")
def band(trials):
    return det_band(*trials, replicates=300)


def line(axes, label):
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def legend(holder):
    """Texts of the legends of a figure or of axes."""
    boxes = holder.findobj(matplotlib.legend.Legend)
    return [text.get_text() for box in boxes for text in box.get_texts()]


def tick_labels(axis):
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return [
        text.get_text() for at, text in ticks if low - 1e-9 <= at <= high + 1e-9
    ]


def texts_of_svg(path):
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(t.itertext()) for t in root.iter() if "text" in t.tag]


def test_a_det_curve_is_that_of_the_scores(trials):
    scores, labels, *_ = trials
    figure = plots.det_figure({"one": (scores, labels)})
    (axes,) = figure.axes
    rate = 100 * eer(scores, labels)
    curve = line(axes, f"one: EER {rate:.2f} %")
    found = curve.get_xydata()
    # Each point is one of the curve's, and none of the curve's is far off.
    points = ndtri(np.clip(det_curve(scores, labels)[:2], 1e-9, 1 - 1e-9)).T
    assert set(map(tuple, found)) <= set(map(tuple, points))
    gaps = np.abs(points[::17, None] - found[None]).max(axis=2)
    assert gaps.min(axis=1).max() < 0.005
    # The marker lies where both rates are the EER.
    assert axes.lines[-1].get_xydata() == pytest.approx(
        np.full((1, 2), ndtri(rate / 100))
    )
    assert axes.get_xlabel() == "false acceptance (% of nontargets)"
    assert axes.get_ylabel() == "false rejection (% of targets)"


def test_det_ticks_are_percent_at_their_deviates(trials):
    figure = plots.det_figure({"one": trials[:2]})
    (axes,) = figure.axes
    for axis in (axes.xaxis, axes.yaxis):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        rates = np.array([float(label) for label in labels]) / 100
        np.testing.assert_allclose(axis.get_ticklocs(), ndtri(rates))
        assert {"1", "2", "5", "10"} <= set(labels)
        ends = axis.get_view_interval()
        np.testing.assert_allclose(ends, ndtri(rates[[0, -1]]))


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.5, 5.0])
def test_the_curve_lies_inside_the_det_axes(apart):
    generator = np.random.default_rng(1)
    labels = np.arange(4000) < 2000
    scores = generator.normal(apart * labels)
    (axes,) = plots.det_figure({"one": (scores, labels)}).axes
    inside = [
        ((axes.get_xlim()[0] <= x) & (x <= axes.get_xlim()[1]))
        & ((axes.get_ylim()[0] <= y) & (y <= axes.get_ylim()[1]))
        for x, y in [axes.lines[0].get_xydata().T]
    ]
    assert np.sum(inside) >= 10
    (marker,) = axes.lines[-1].get_xydata()
    assert axes.get_xlim()[0] <= marker[0] <= axes.get_xlim()[1]


def test_a_perfect_system_is_marked_in_the_corner():
    (axes,) = plots.det_figure({"one": ([0, 0, 1, 1], [0, 0, 1, 1])}).axes
    corner = [axes.get_xlim()[0], axes.get_ylim()[0]]
    assert axes.lines[-1].get_xydata()[0].tolist() == corner
    assert not axes.lines[-1].get_clip_on()


def test_systems_differ_in_colour_dashes_and_marker(trials):
    scores, labels, *_ = trials
    figure = plots.det_figure(dict.fromkeys("abcdef", (scores, labels)))
    lines = figure.axes[0].lines[:6]
    for look in ("get_color", "get_marker"):
        assert len({getattr(line, look)() for line in lines}) == 6
    # Private, since get_linestyle tells no two patterns of dashes apart.
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 6
    rate = 100 * eer(scores, labels)
    assert legend(figure) == [f"{n}: EER {rate:.2f} %" for n in "abcdef"]


def test_bands_are_drawn(trials, band):
    figure = plots.det_figure({"one": trials[:2]}, {"one": band})
    (axes,) = figure.axes
    (area,) = axes.collections
    (path,) = area.get_paths()
    shown = path.vertices
    for edge in (band.low, band.high):
        points = ndtri(np.clip([band.false_acceptance, edge], 1e-9, 1)).T
        gaps = np.abs(points[:, None] - shown[None]).max(axis=2).min(axis=1)
        assert gaps.max() < 1e-12
    assert matplotlib.colors.to_hex(area.get_facecolor()) == (
        COLOURS[0].lower()
    )
    (text,) = legend(figure)
    assert text.endswith("; area: 95 % interval")


def test_a_histogram_of_equal_scores_has_a_width():
    figure = plots.histogram_figure(np.full(4, 0.3), [1, 0, 1, 0])
    low, high = figure.axes[0].get_xlim()
    assert low < 0.3 < high


def test_histograms_have_the_area_1(trials):
    scores, labels, *_ = trials
    figure = plots.histogram_figure(
        scores, labels, "cosine score", {"EER": 1.5, "FA 1 %": 2.75}
    )
    (axes,) = figure.axes
    assert legend(figure) == [
        "2,000 targets",
        "4,000 nontargets",
        "EER: 1.500",
        "FA 1 %: 2.750",
    ]
    for patch, kind in zip(axes.patches, (labels, ~labels), strict=True):
        x, y = patch.get_xy().T
        # The outline goes along the tops and returns along the axis.
        area = abs(np.sum((y[1:] + y[:-1]) / 2 * np.diff(x)))
        assert area == pytest.approx(1)
        mean = np.average((x[1:] + x[:-1]) / 2, weights=y[1:] * np.diff(x))
        assert mean == pytest.approx(scores[kind].mean(), abs=0.05)
    assert [mark.get_xdata()[0] for mark in axes.lines] == [1.5, 2.75]
    assert axes.get_xlabel() == "cosine score"
    assert "density" in axes.get_ylabel()
    with pytest.raises(AttnError, match="a histogram wants finite ones, got"):
        plots.histogram_figure([np.inf, 0.0], [1, 0])


def test_reliability_figure():
    scores = np.append(np.linspace(-3, 3, 400), [5.0] * 20)
    labels = np.append(np.arange(400) % 2, [1] * 20)
    found = {
        "raw": reliability(scores, labels, 0.05),
        "calibrated": reliability(0.5 * scores, labels, 0.05),
    }
    figure = plots.reliability_figure(found)
    axes, counts = figure.axes
    for name, bins in found.items():
        data = line(axes, name).get_xydata()
        np.testing.assert_array_equal(data.T, [bins.posterior, bins.observed])
    hollow = axes.lines[1].get_xdata()
    few = found["raw"].counts < 30
    np.testing.assert_array_equal(hollow, found["raw"].posterior[few])
    assert axes.lines[1].get_markerfacecolor() == "white"
    stairs = counts.patches[0].get_data()
    np.testing.assert_array_equal(stairs.values, found["raw"].counts)
    assert "at prior 0.05" in counts.get_xlabel()
    assert "at prior 0.05" in axes.get_ylabel()
    assert counts.get_ylabel() == "trials"
    assert {"1", "10", "100"} <= set(tick_labels(counts.yaxis))
    assert legend(figure) == [
        "raw",
        "calibrated",
        "promise kept",
        "fewer than 30 trials",
    ]
    found["other"] = reliability(scores, labels, 0.5)
    with pytest.raises(AttnError, match=r"one prior for all, got \[0.05, 0.5"):
        plots.reliability_figure(found)


def test_bayes_errors_are_those_of_the_metrics(trials):
    scores, labels, *_ = trials
    llrs = 2 * scores - 2
    figure = plots.bayes_error_figure({"one": (llrs, labels)})
    axes = figure.axes[0]
    actual, lowest = axes.lines[:2]
    log_odds = actual.get_xdata()
    assert (log_odds[0], log_odds[-1]) == (-8, 3)
    for i in range(0, len(log_odds), 11):
        p_target = expit(log_odds[i])
        cost = act_dcf(llrs, labels, p_target)
        assert actual.get_ydata()[i] == pytest.approx(cost, rel=1e-12)
        cost = min_dcf(llrs, labels, p_target)
        assert lowest.get_ydata()[i] == pytest.approx(cost, rel=1e-12)
    assert (lowest.get_ydata() <= actual.get_ydata()).all()
    assert lowest.get_linestyle() == "--"
    assert legend(figure) == ["one", "actual", "minimum", "without scores"]
    assert axes.get_xlabel() == "log odds of the prior (nats)"
    assert axes.get_ylabel() == "detection cost, normalised"
    (above,) = axes.child_axes
    marks = [float(t.get_text()) for t in above.get_xticklabels()]
    np.testing.assert_allclose(above.get_xticks(), logit(marks))
    assert above.get_xlabel() == "prior of a target"


def test_duration_figure():
    def bins(value):
        interval = Interval(value, value - 0.02, value + 0.04)
        return [
            DurationBin(1.0, 2.5, 1200, 3400, interval),
            DurationBin(2.5, 4.0, 3, 9, None),
            DurationBin(4.0, 9.0, 50, 60, interval),
        ]

    systems = {"one": bins(0.10), "two": bins(0.05)}
    figure = plots.duration_figure(systems)
    (axes,) = figure.axes
    assert legend(figure) == ["one", "two"]
    for holder, value in zip(axes.containers, (10, 5), strict=True):
        points, _, (bars,) = holder.lines
        assert points.get_ydata() == pytest.approx([value] * 2)
        assert np.round(points.get_xdata()).tolist() == [0, 2]
        for segment in bars.get_segments():
            assert segment[:, 1] == pytest.approx([value - 2, value + 4])
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "1.0 to 2.5 s\n1,200 / 3,400",
        "2.5 to 4.0 s\n3 / 9",
        "4.0 to 9.0 s\n50 / 60",
    ]
    assert axes.get_ylabel() == "EER (%), 95 % intervals"
    assert "targets / nontargets" in axes.get_xlabel()
    with pytest.raises(AttnError, match="want the same bins for all"):
        plots.duration_figure({"one": bins(0.1), "two": bins(0.1)[:2]})


def test_png_and_svg_are_written(trials, tmp_path):
    figure = plots.det_figure({"serialized MHA": trials[:2]})
    png, svg = plots.save_figure(figure, tmp_path / "pictures" / "det.v2")
    assert (png.name, svg.name) == ("det.v2.png", "det.v2.svg")
    assert sorted(f.name for f in png.parent.iterdir()) == [png.name, svg.name]
    pixels = matplotlib.image.imread(png)
    assert pixels.shape[1] == 1600
    # Nothing is cut off: a white frame stays on all sides.
    assert (pixels[:3] == 1).all() and (pixels[-3:] == 1).all()
    assert (pixels[:, :3] == 1).all() and (pixels[:, -3:] == 1).all()
    assert 0.01 < (pixels[..., :3] < 1).any(axis=2).mean() < 0.5
    texts = texts_of_svg(svg)
    rate = 100 * eer(*trials[:2])
    assert f"serialized MHA: EER {rate:.2f} %" in texts
    assert "false rejection (% of targets)" in texts
    assert "0.5" in texts


def test_the_same_figure_gives_the_same_svg(trials, tmp_path):
    for name in ("one", "two"):
        figure = plots.histogram_figure(*trials[:2])
        plots.save_figure(figure, tmp_path / name)
    one, two = ((tmp_path / f"{n}.svg").read_bytes() for n in ("one", "two"))
    assert one == two
    assert b"<dc:date>" not in one


def test_nothing_global_changes(trials, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = plots.bayes_error_figure({"one": trials[:2]})
    plots.save_figure(figure, tmp_path / "bayes")
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_imported(tmp_path):
    """A figure of pyplot stays in memory, and may want a display."""
    code = (
        "import sys; from speechbrain_attn.scoring import plots; "
        "assert 'matplotlib' not in sys.modules; "
        "f = plots.det_figure({'a': ([0, 1, 2, 3], [0, 1, 0, 1])}); "
        f"plots.save_figure(f, {str(tmp_path / 'det')!r}); "
        "assert 'matplotlib.pyplot' not in sys.modules; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "det.svg").exists()


def test_a_missing_matplotlib_is_said(monkeypatch, trials):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(AttnError, match=r"pip install 'speechbrain_attn\[pl"):
        plots.det_figure({"one": trials[:2]})
