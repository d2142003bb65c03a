"""Trial lists as columns of numbers, and the format that they are in."""

from typing import NamedTuple

import numpy as np

from speechbrain_attn.dataio.lines import fields_per_line, line_blocks
from speechbrain_attn.dataio.name_table import NameTable
from speechbrain_attn.errors import AttnError

_LONGEST_NAME = 1000  # bytes


class Format(NamedTuple):
    """A way to write a list: what a line holds, and the two labels."""

    name: str
    fields: tuple  # "enrolment", "test", "label" and perhaps "score"
    nontarget: str
    target: str

    @property
    def where(self):
        """Place of the label, in words."""
        return ("first", "second", "third")[self.fields.index("label")]


# Words tell more than digits, which may be utterances: Kaldi's comes first.
FORMATS = (
    Format("Kaldi", ("enrolment", "test", "label"), "nontarget", "target"),
    Format("VoxCeleb", ("label", "enrolment", "test"), "0", "1"),
    Format("label-last", ("enrolment", "test", "label"), "0", "1"),
    Format(
        "SpeechBrain scores", ("enrolment", "test", "label", "score"), "0", "1"
    ),
)


class Columns(NamedTuple):
    """Words of a list as numbers; those of a line stand in a row.

    ``names`` holds each word once, ``blocks`` arrays [lines, 3] int32 of
    indices into it, and ``scores`` [lines] float64 the fourth word, or None.
    """

    names: list
    blocks: list
    scores: np.ndarray


def read_columns(path, kind="trial list"):
    """Read a list with three words a line, or three and a score.

    Arguments
    ---------
    path : str or Path
        Text, plain or gzip.
    kind : str
        What the file is, as messages name it.

    Returns
    -------
    Columns

    Raises
    ------
    AttnError
        The file cannot be read, or a line is malformed; names file and line.
    """
    table, blocks, scores, width = NameTable(), [], [], None
    for number, body in line_blocks(path, kind):
        counts = fields_per_line(body)
        if width is None:
            with_score = np.count_nonzero(counts == 4)
            width = 4 if with_score > np.count_nonzero(counts == 3) else 3
        wrong = np.flatnonzero(counts != width)
        if len(wrong):
            line = body.split(b"\n")[wrong[0]].decode().strip()
            count = counts[wrong[0]]
            why = "Is the file cut short?"
            if count > width:
                why = "Names with blanks and comments are not taken."
            raise AttnError(
                f"{path} line {number + wrong[0]}: want {_wanted(width)}, got "
                f"{count} fields ({_quoted(line)}). {why}"
            )
        fields = body.split()
        if width == 4:
            scores.append(_read_scores(fields[3::4], path, number))
            del fields[3::4]
        longest = max(map(len, fields))
        if longest > _LONGEST_NAME:  # all would take as much memory
            place = [len(word) > _LONGEST_NAME for word in fields].index(True)
            raise AttnError(
                f"{path} line {number + place // 3}: a name of "
                f"{len(fields[place]):,} bytes "
                f"({_quoted(fields[place].decode())}); at most "
                f"{_LONGEST_NAME:,} are taken. Is it a trial list?"
            )
        numbers = table.numbers(np.array(fields, f"S{longest}"))
        blocks.append(numbers.reshape(-1, 3))
    scores = np.concatenate(scores) if scores else None
    return Columns(table.names(), blocks, scores)


def recognise_format(columns, path):
    """Find the format of a list from all of its lines.

    Utterances may be called 0 and 1: a column is the labels' only where every
    line has a label there, and where two columns are like that, the one that
    holds both labels.

    Arguments
    ---------
    columns : Columns
    path : str or Path
        The list, for messages.

    Returns
    -------
    Format

    Raises
    ------
    AttnError
        A line has no label, or the list can be read in two ways.

    Example
    -------
    >>> blocks = [np.array([[0, 1, 2], [3, 1, 0]], dtype=np.int32)]
    >>> columns = Columns(["1", "a", "0", "7"], blocks, None)
    >>> recognise_format(columns, "list.txt").name
    'label-last'
    """
    num_lines = sum(map(len, columns.blocks))
    width = 3 if columns.scores is None else 4
    counts = {
        form: _count_labels(columns, form)
        for form in FORMATS
        if len(form.fields) == width
    }
    fitting = [form for form in counts if sum(counts[form]) == num_lines]
    if not fitting:
        best = max(counts, key=lambda form: sum(counts[form]))
        raise AttnError(_not_a_label(columns, best, path, counts[best]))
    if fitting[0].name == "Kaldi":
        return fitting[0]
    # A list needs both kinds; one label only is what names look like.
    both = [form for form in fitting if min(counts[form])]
    if len(both) > 1:
        raise AttnError(
            f"{path} line 1: {_quoted(_line(columns, 0))} can be read in two "
            "ways, and so can all lines: 0 or 1 stands first and last. Write "
            "the labels as target and nontarget, last in the line."
        )
    return (both or fitting)[0]


def label_numbers(columns, form):
    """Indices into ``columns.names`` of (nontarget, target), -1 if absent."""
    return tuple(
        columns.names.index(word) if word in columns.names else -1
        for word in (form.nontarget, form.target)
    )


def _count_labels(columns, form):
    """Number of lines with (nontarget, target) where the label stands."""
    place = form.fields.index("label")
    return tuple(
        sum(np.count_nonzero(block[:, place] == n) for block in columns.blocks)
        for n in label_numbers(columns, form)
    )


def _not_a_label(columns, form, path, counts):
    """What is wrong where no format fits; ``form`` fits best."""
    if not sum(counts):
        return (
            f"{path} line 1: no label in {_quoted(_line(columns, 0))}, nor in "
            "any other line; want 0 or 1 first or last, or target or nontarget "
            "last."
            if columns.scores is None
            else f"{path} line 1: want the label 0 or 1 third, got "
            f"{_quoted(_line(columns, 0))}, in a list of four fields a line "
            f"({_wanted(4)})."
        )
    place = form.fields.index("label")
    labels = label_numbers(columns, form)
    words = np.concatenate([block[:, place] for block in columns.blocks])
    row = int(np.isin(words, labels, invert=True).argmax())
    return (
        f"{path} line {row + 1}: want the label {form.nontarget} or "
        f"{form.target} {form.where}, got {columns.names[words[row]]!r} "
        f"({_quoted(_line(columns, row))}); {sum(counts):,} of "
        f"{len(words):,} lines have it there."
    )


def _line(columns, row):
    """Words of a line, the score apart."""
    for block in columns.blocks:
        if row < len(block):
            return " ".join(columns.names[number] for number in block[row])
        row -= len(block)
    raise IndexError(row)


def _read_scores(fields, path, number):
    """Scores as float64; ``number`` is of the first line."""
    try:
        scores = np.fromiter(map(float, fields), np.float64, len(fields))
        wrong = np.flatnonzero(~np.isfinite(scores))
    except ValueError:
        wrong = [row for row, word in enumerate(fields) if not _is_number(word)]
    if len(wrong):
        raise AttnError(
            f"{path} line {number + wrong[0]}: want {_wanted(4)} with a "
            f"finite score, got {fields[wrong[0]].decode()!r} as the score."
        )
    return scores


def _is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return True


def _wanted(width):
    if width == 4:
        return '"enrolment test label score"'
    return '"label enrolment test" or "enrolment test label"'


def _quoted(line):
    return f'"{line}"' if len(line) <= 120 else f'"{line[:120]}..."'
