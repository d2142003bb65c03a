"""What must hold of any trial list, and of the table of its names."""

import gzip

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speechbrain_attn.dataio import lines, name_table
from speechbrain_attn.dataio.name_table import NameTable
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError

once = settings(derandomize=True, deadline=None, max_examples=150)
# Labels among the names, and names that differ in their padding only.
NAME = st.one_of(
    st.sampled_from(["0", "1", "target", "nontarget", "a", "aa", "é/ü.1"]),
    st.text("ab/._-é", min_size=1, max_size=20),
)
TRIALS = st.lists(st.tuples(NAME, NAME, st.booleans()), min_size=2, max_size=12)
FORMATS = {
    "VoxCeleb": "{label:d} {one} {other}",
    "label-last": "{one} {other} {label:d}",
    "Kaldi": "{one}\t{other} {word}",
    "SpeechBrain scores": "{one} {other} {label:d} {score:.6f}",
}


def has_both(labels):
    return {*labels} == {"0", "1"}


def write(path, rows, layout, pack):
    text = "".join(
        layout.format(
            one=one,
            other=other,
            label=label,
            word="target" if label else "nontarget",
            score=number / 3,
        )
        + "\n"
        for number, (one, other, label) in enumerate(rows)
    )
    path.write_bytes(pack(text.encode()))


@once
@given(
    TRIALS,
    st.sampled_from(sorted(FORMATS)),
    st.sampled_from([bytes, gzip.compress]),
    st.sampled_from([1, 10, 100, 1 << 18]),
)
def test_a_list_is_read_as_written_in_every_format(
    tmp_path_factory, rows, name, pack, block
):
    labels = [label for *_, label in rows]
    assume(True in labels and False in labels)
    path = tmp_path_factory.mktemp("lists") / "trials.txt"
    write(path, rows, FORMATS[name], pack)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        others = {"VoxCeleb": 1, "label-last": 0}
        if name in others and has_both(row[others[name]] for row in rows):
            with pytest.raises(AttnError, match="can be read in two ways"):
                trials_from_file(path)
            return
        tests = {other for _, other, _ in rows}
        assume(name != "VoxCeleb" or not tests <= {"target", "nontarget"})
        trials = trials_from_file(path)
    assert trials.format == name
    read = [
        (trials.utterances[one], trials.utterances[other], bool(label))
        for one, other, label in zip(
            trials.enrol, trials.test, trials.labels, strict=True
        )
    ]
    assert read == rows
    assert len({*trials.utterances}) == len(trials.utterances)
    assert {*trials.utterances} == {u for row in rows for u in row[:2]}


@once
@given(TRIALS, st.randoms(use_true_random=False))
def test_counts_ignore_order_of_lines_and_of_sides(
    tmp_path_factory, rows, random
):
    labels = [label for *_, label in rows]
    assume(True in labels and False in labels)
    path = tmp_path_factory.mktemp("lists") / "trials.txt"
    write(path, rows, FORMATS["Kaldi"], bytes)
    counts = trials_from_file(path).counts()
    seen = [(frozenset(pair), label) for *pair, label in rows]
    assert counts.targets == sum(labels)
    assert counts.nontargets == len(rows) - sum(labels)
    assert counts.self_trials == sum(one == other for one, other, _ in rows)
    assert counts.duplicated == len(seen) - len({*seen})
    both = {pair for pair, label in seen if (pair, not label) in seen}
    assert counts.conflicting == len(both)
    turned = [
        (*(pair if random.random() < 0.5 else pair[::-1]), label)
        for *pair, label in random.sample(rows, len(rows))
    ]
    write(path, turned, FORMATS["Kaldi"], bytes)
    assert trials_from_file(path).counts() == counts


@once
@given(st.lists(st.lists(NAME, min_size=1), max_size=5), st.booleans())
def test_a_name_table_is_a_dict(blocks, one_slot):
    """Also where the hash sends all names to a single slot."""
    with pytest.MonkeyPatch.context() as patch:
        if one_slot:
            patch.setattr(name_table, "_MULTIPLIER", 0)
        table, wanted = NameTable(), {}
        for block in blocks:
            numbers = [wanted.setdefault(name, len(wanted)) for name in block]
            fields = np.array([name.encode() for name in block])
            np.testing.assert_array_equal(table.numbers(fields), numbers)
    assert table.names() == list(wanted)


def test_a_name_table_grows():
    table, generator = NameTable(), np.random.default_rng(0)
    drawn = generator.integers(0, 20_000, (7, 3_000)).astype("S")
    numbers = [table.numbers(fields) for fields in drawn]
    wanted = {}
    for name in drawn.ravel().tolist():
        wanted.setdefault(name.decode(), len(wanted))
    assert table.names() == list(wanted)
    for fields, found in zip(drawn, numbers, strict=True):
        np.testing.assert_array_equal(
            found, [wanted[name.decode()] for name in fields.tolist()]
        )
