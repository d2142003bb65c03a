"""Praat TextGrids of where a pooling looks."""

import os
from pathlib import Path

from speechbrain_attn.errors import AttnError


def attention_textgrid(attention):
    """TextGrid of the stretches to which heads attend most, a tier a head.

    Arguments
    ---------
    attention : attention.Attention

    Returns
    -------
    str
        An interval's label is the weight that lies in it, a part of one;
        intervals in between have none. Where heads are weighed, their tiers'
        names tell their weights, too.
    """
    tiers = {}
    for number, name in enumerate(attention.names):
        if attention.head_weights is not None:
            name += f" (weight {attention.head_weights[number]:.3f})"
        tiers[name] = [
            (start, end, f"{weight:.3f}")
            for start, end, weight in attention.stretches(number)
        ]
    return textgrid(tiers, attention.duration_s)


def textgrid(tiers, duration_s):
    """Text of a TextGrid, in Praat's long format.

    Arguments
    ---------
    tiers : dict
        Name to a list of (start, end, label), in seconds, by time, without
        overlaps; an interval without a label fills each gap.
    duration_s : float
        Where all tiers end.

    Example
    -------
    >>> print(textgrid({"a": [(0.5, 1.0, "b")]}, 2.0).splitlines()[13])
            intervals: size = 3
    """
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {duration_s!r}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, labelled) in enumerate(tiers.items(), start=1):
        intervals = _without_gaps(labelled, duration_s)
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(name)}",
            "        xmin = 0",
            f"        xmax = {duration_s!r}",
            f"        intervals: size = {len(intervals)}",
        ]
        for index, (start, end, label) in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {start!r}",
                f"            xmax = {end!r}",
                f"            text = {_quoted(label)}",
            ]
    return "\n".join(lines) + "\n"


def write_textgrid(path, attention):
    """Write ``attention_textgrid(attention)``, under another name first.

    Raises
    ------
    AttnError
        The file cannot be written; the message names it.
    """
    partial = f"{path}.{os.getpid()}.tmp"
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(partial).write_text(attention_textgrid(attention), "utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise AttnError(
            f"{path}: cannot be written ({error.strerror})."
        ) from None


def _without_gaps(labelled, duration_s):
    intervals, end_before = [], 0.0
    for start, end, label in [*labelled, (duration_s, duration_s, "")]:
        if start > end_before:
            intervals.append((end_before, start, ""))
        if end > start:
            intervals.append((start, end, label))
        end_before = end
    return intervals


def _quoted(text):
    """A string of Praat's: a quote in it is written twice."""
    return '"' + text.replace('"', '""') + '"'
