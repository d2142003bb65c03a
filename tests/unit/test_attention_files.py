"""What is drawn and written of an attention: pictures, TextGrids, output."""

import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import soundfile
import torch
from hub_folders import write_run
from PIL import Image

from speechbrain_attn import hub
from speechbrain_attn.cli.attend import attend
from speechbrain_attn.errors import AttnError
from speechbrain_attn.inference.attention import Attention, attention_of
from speechbrain_attn.inference.attention_picture import attention_figure
from speechbrain_attn.inference.textgrid import (
    attention_textgrid,
    textgrid,
    write_textgrid,
)
from speechbrain_attn.scoring.plot_style import style
from speechbrain_attn.scoring.plots import save_figure

RATE = 16000
SAMPLES = 13000
DURATION_S = SAMPLES / RATE


def drawn_attention(heads, frames=27, weighed=False):
    weights = np.random.default_rng(3).dirichlet(np.ones(frames), heads)
    return Attention(
        weights=weights,
        edges_s=np.linspace(0, DURATION_S, frames + 1),
        names=[f"layer {number + 1}" for number in range(heads)],
        head_weights=weights[:, 0] / weights[:, 0].sum() if weighed else None,
        pooling="Drawn",
    )


def read_textgrid(text):
    """Tiers of a TextGrid: {name: [(xmin, xmax, text)]}; a strict reader.

    Each line must be what the long format wants at its place.
    """
    lines = iter(text.splitlines())

    def value(form):
        line = next(lines)
        found = re.fullmatch(form, line.strip())
        assert found, f"{line!r} is not {form!r}"
        return found[1] if found.groups() else None

    def quoted(key):
        return value(f'{key} = "((?:[^"]|"")*)"').replace('""', '"')

    value('File type = "ooTextFile"')
    value('Object class = "TextGrid"')
    value("")
    value("xmin = 0")
    end = float(value("xmax = (.+)"))
    value("tiers[?] <exists>")
    tiers = {}
    number_of_tiers = int(value(r"size = (\d+)"))
    value(r"item \[\]:")
    for number in range(1, number_of_tiers + 1):
        value(rf"item \[{number}\]:")
        value('class = "IntervalTier"')
        name = quoted("name")
        value("xmin = 0")
        assert float(value("xmax = (.+)")) == end
        intervals = []
        size = int(value(r"intervals: size = (\d+)"))
        for index in range(1, size + 1):
            value(rf"intervals \[{index}\]:")
            start, stop = (
                float(value(f"{x} = (.+)")) for x in ("xmin", "xmax")
            )
            intervals.append((start, stop, quoted("text")))
        tiers[name] = intervals
    assert list(lines) == []
    return tiers, end


def check_tiling(intervals, end):
    """Praat refuses gaps, overlaps and intervals of no length."""
    assert intervals[0][0] == 0 and intervals[-1][1] == end
    for start, stop, _ in intervals:
        assert start < stop
    for (_, stop, _), (start, _, _) in zip(
        intervals, intervals[1:], strict=False
    ):
        assert stop == start


def test_textgrid_fills_gaps_and_keeps_quotes():
    tiers, end = read_textgrid(
        textgrid(
            {
                'a "quoted" name': [(0.25, 0.5, 'say "a"'), (0.5, 0.75, "b")],
                "whole": [(0.0, 1.5, "c")],
                "empty": [],
            },
            1.5,
        )
    )
    assert end == 1.5
    assert tiers == {
        'a "quoted" name': [
            (0.0, 0.25, ""),
            (0.25, 0.5, 'say "a"'),
            (0.5, 0.75, "b"),
            (0.75, 1.5, ""),
        ],
        "whole": [(0.0, 1.5, "c")],
        "empty": [(0.0, 1.5, "")],
    }


def test_textgrid_of_an_attention_holds_half_of_each_head():
    attention = drawn_attention(3, weighed=True)
    tiers, end = read_textgrid(attention_textgrid(attention))
    assert end == DURATION_S
    weights = attention.head_weights
    assert list(tiers) == [
        f"layer {number + 1} (weight {weights[number]:.3f})"
        for number in range(3)
    ]
    for head, intervals in enumerate(tiers.values()):
        check_tiling(intervals, end)
        labelled = [(a, b, float(text)) for a, b, text in intervals if text]
        expected = attention.stretches(head)
        assert np.array(labelled) == pytest.approx(
            np.array(expected), abs=5.1e-4
        )
        assert 0.49 < sum(weight for *_, weight in labelled) < 0.7


def test_textgrid_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AttnError, match="a.TextGrid: cannot be written"):
        write_textgrid(tmp_path / "file" / "a.TextGrid", drawn_attention(1))


def test_up_to_six_heads_have_a_curve_each():
    attention = drawn_attention(6)
    wav = 0.3 * torch.randn(SAMPLES)
    figure = attention_figure(attention, wav, RATE, "one.wav")
    wave, mel, *curves = figure.axes
    assert len(curves) == 6
    assert wave.get_title(loc="left") == "one.wav"
    for axes in figure.axes:
        assert axes.get_xlim() == (0, DURATION_S)
        assert axes.get_ylabel()
    assert curves[-1].get_xlabel() == "time (s)"
    for head, axes in enumerate(curves):
        whole, most = axes.patches
        values, edges, _ = whole.get_data()
        assert values == pytest.approx(attention.weights[head] * 27)
        assert edges == pytest.approx(attention.edges_s)
        kept = most.get_data().values
        assert kept.sum() / 27 >= 0.5 - 1e-9
        assert kept.sum() / 27 - kept[kept > 0].min() / 27 < 0.5
        title = axes.get_title(loc="left")
        effective = attention.effective_frames()[head]
        assert f"layer {head + 1}: {effective:.1f} effective frames of 27" in (
            title
        )
        assert f"{attention.entropies()[head]:.2f} nats" in title
        share = 100 * attention.entropy_shares()[head]
        assert f"({share:.1f} % of ln 27)" in title


@pytest.mark.parametrize("heads, weighed", [(7, False), (40, False), (3, True)])
def test_more_heads_and_weighed_ones_are_rows(heads, weighed):
    attention = drawn_attention(heads, weighed=weighed)
    figure = attention_figure(attention, torch.randn(SAMPLES), RATE)
    _, _, image, bars = figure.axes
    (mesh,) = image.collections
    values = np.asarray(mesh.get_array()).reshape(heads, 27)
    assert values == pytest.approx(attention.weights * 27)
    edges = np.asarray(mesh.get_coordinates())[0, :, 0]
    assert edges == pytest.approx(attention.edges_s)
    labels = [label.get_text() for label in image.get_yticklabels()]
    step = 1 if heads <= 32 else 2
    assert labels == attention.names[::step]
    widths = [bar.get_width() for bar in bars.patches]
    expected = attention.effective_frames()
    if weighed:
        expected = attention.head_weights
    assert widths == pytest.approx(expected)
    # The first head is above, and its bar stands beside it.
    assert image.get_ylim() == bars.get_ylim() == (heads + 0.5, 0.5)


def test_the_spectrogram_lies_where_it_sounds():
    """A tone of 1 kHz from 0.4 to 0.6 s, on axes of seconds and of mel."""
    time = torch.arange(SAMPLES) / RATE
    tone = torch.sin(2 * torch.pi * 1000 * time)
    wav = torch.where((time >= 0.4) & (time < 0.6), tone, 0.0)
    figure = attention_figure(drawn_attention(1), wav, RATE)
    axes = figure.axes[1]
    (image,) = axes.images
    left, right, bottom, top = image.get_extent()
    loud = image.get_array() > -20
    rows, columns = np.nonzero(loud)
    times = left + (columns + 0.5) * (right - left) / loud.shape[1]
    assert times.min() == pytest.approx(0.4, abs=0.011)
    assert times.max() == pytest.approx(0.6, abs=0.011)
    mels = bottom + (np.median(rows) + 0.5) * (top - bottom) / loud.shape[0]
    ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    places = {label.get_text(): at for at, label in ticks}
    assert mels == pytest.approx(places["1"], abs=(top - bottom) / 80)
    assert top == pytest.approx(places["8"])


def test_a_png_keeps_the_colours_of_its_scales(tmp_path):
    """A PNG of 256 colours, also where a colour has few pixels."""
    figure = attention_figure(drawn_attention(7), torch.randn(SAMPLES), RATE)
    (png,) = save_figure(figure, tmp_path / "few", ["png"])
    with style():
        figure.savefig(tmp_path / "all.png")
    few, true = (
        np.unique(np.reshape(pixels, (-1, 3)).astype(int), axis=0)
        for pixels in (
            Image.open(path).convert("RGB")
            for path in (png, tmp_path / "all.png")
        )
    )
    apart = abs(few[:, None] - true).max(-1)
    assert apart.min(0).max() <= 5 and apart.min(1).max() <= 5


def test_silence_and_one_frame_are_drawn(tmp_path):
    attention = Attention(
        np.ones((1, 1)), np.array([0, 0.01]), ["hop 1"], None, "Drawn"
    )
    figure = attention_figure(attention, torch.zeros(160), RATE)
    (png,) = save_figure(figure, tmp_path / "silence", ["png"])
    assert png.stat().st_size > 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder and a recording."""
    folder = tmp_path_factory.mktemp("attend")
    write_run(folder / "run")
    draw = np.random.default_rng(5)
    soundfile.write(folder / "a.wav", 0.1 * draw.normal(size=SAMPLES), RATE)
    return folder


def run_attend(folder, **options):
    attend(
        str(folder / "a.wav"),
        model=str(folder / "run" / "model"),
        device="cpu",
        anyway=True,
        **options,
    )


def expected_attention(folder):
    model = hub.load(folder / "run" / "model", device="cpu")
    return attention_of(model, model.load_audio(folder / "a.wav"))


def test_attend_prints_a_line_for_each_head(folder, capsys):
    run_attend(folder)
    title, _, *lines = capsys.readouterr().out.splitlines()
    assert title == "SerializedAttentionPooling: 82 frames in 0.81 s"
    expected = expected_attention(folder)
    entropies, effective = expected.entropies(), expected.effective_frames()
    for number, line in enumerate(lines):
        assert line.startswith(f"layer {number + 1} ")
        assert f" {entropies[number]:.3f} " in line
        assert line.endswith(f" {effective[number]:.1f}")
    assert len(lines) == 2


def test_attend_writes_what_it_was_asked_for(folder, tmp_path, capsys):
    picture = tmp_path / "new" / "a.b.png"
    run_attend(folder, output=picture, svg=True, textgrid=True, json=True)
    names = {path.name for path in picture.parent.iterdir()}
    assert names == {"a.b.png", "a.b.svg", "a.b.TextGrid"}
    root = ElementTree.parse(picture.with_suffix(".svg")).getroot()
    texts = ["".join(t.itertext()) for t in root.iter() if "text" in t.tag]
    assert "time (s)" in texts
    title = "/".join((folder / "a.wav").parts[-3:])
    assert f"{title}: SerializedAttentionPooling" in texts
    text = picture.with_suffix(".TextGrid").read_text(encoding="utf-8")
    assert list(read_textgrid(text)[0]) == ["layer 1", "layer 2"]
    printed = capsys.readouterr()
    values = json.loads(printed.out)
    assert values.pop("file") == str(folder / "a.wav")
    assert values == expected_attention(folder).to_dict()
    assert str(picture) in printed.err


@pytest.mark.parametrize(
    "options, says",
    [
        ({"svg": True}, "--svg and --textgrid go beside the picture"),
        ({"textgrid": True}, "--output PICTURE.png"),
        ({"output": "a.jpg"}, "--output=a.jpg: want a name that ends in .png"),
    ],
)
def test_options_that_do_not_fit_are_said(folder, options, says, tmp_path):
    if "output" in options:
        options = {"output": type(tmp_path)(options["output"])}
    with pytest.raises(AttnError, match=says):
        run_attend(folder, **options)


def test_attend_takes_one_recording(folder, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"")
    with pytest.raises(AttnError, match="2 recordings; give one"):
        attend(str(tmp_path), model=str(folder / "run" / "model"))
