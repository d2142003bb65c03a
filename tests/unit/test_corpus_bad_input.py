"""Preparation of a corpus: what is wrong with files, lists and folders."""

import errno
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from corpus_trees import (
    RECIPE,
    load_recipe,
    make_tree,
    reported,
    rows,
    speakers,
    write_audio,
    write_list,
)

from speechbrain_attn.dataio import manifest
from speechbrain_attn.errors import AttnError

recipe = load_recipe("voxceleb_prepare")
TRIALS = ("t1/x.y/0.wav", "t1/x.y/1.wav"), ("t1/x.y/0.wav", "t2/x.y/2.wav")


@pytest.fixture
def corpus(tmp_path):
    make_tree(tmp_path / "data")
    write_list(tmp_path / "trials.txt", *TRIALS)
    return tmp_path


def prepare(corpus, **options):
    options = {"seg_dur": 0.2, "data_folder": corpus / "data", **options}
    recipe.prepare_voxceleb(
        save_folder=corpus / "save",
        verification_pairs_file=corpus / "trials.txt",
        **options,
    )
    return corpus / "save"


# Files


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def cut_flac(folder):
    cut(write_audio(folder / "odd.flac"))


def cut_wav(folder):
    cut(write_audio(folder / "odd.wav", seconds=1.0))


def empty(folder):
    (folder / "odd.wav").touch()


def no_samples(folder):
    soundfile.write(folder / "odd.wav", np.zeros((0, 1)), 16000)


def no_audio(folder):
    (folder / "odd.ogg").write_text("not audio at all, " * 100)


def link_to_nothing(folder):
    (folder / "odd.wav").symlink_to(folder / "gone.wav")


def nan_samples(folder):
    samples = np.full(8000, np.nan, dtype=np.float32)
    soundfile.write(folder / "odd.wav", samples, 16000, subtype="FLOAT")


def silence(folder):
    write_audio(folder / "odd.wav", level=0)


def half_silence(folder):
    samples = np.r_[np.zeros(4000), np.ones(4000) / 2]
    soundfile.write(folder / "odd.wav", samples, 16000)


def stereo(folder):
    write_audio(folder / "odd.wav", channels=2)


def slow(folder):
    write_audio(folder / "odd.wav", rate=8000)


def short(folder):
    write_audio(folder / "odd.wav", seconds=0.15)


def tiny(folder):
    write_audio(folder / "odd.wav", seconds=0.05)


def too_high(folder):
    write_audio(folder.parent / "odd.wav")


def too_deep(folder):
    write_audio(folder / "deeper" / "odd.wav")


LOUD = {"amp_th": 5e-4}
# fmt: off
ODD = [  # how the file is odd, options, rows it makes, reason, detail
    (cut_flac, {}, 0, "cannot be read", "the file is cut short"),
    (empty, {}, 0, "cannot be read", "the file is empty"),
    (no_samples, {}, 0, "cannot be read", "the file holds no samples"),
    (no_audio, {}, 0, "cannot be read", "Format not recognised"),
    (link_to_nothing, {}, 0, "cannot be read", "No such file or directory"),
    (nan_samples, LOUD, 0, "cannot be read", "holds NaN or infinite samples"),
    (silence, LOUD, 0, "silent", ""),
    (half_silence, LOUD, 1, "partly silent", ""),
    (cut_wav, {}, 2, "cut short", "0.50 s are there"),
    (stereo, {}, 2, "several channels", "2"),
    (slow, {}, 2, "another sample rate", "8000 a second"),
    (short, {}, 0, "shorter than a chunk", "0.15 s"),
    (short, {"keep_short": True}, 1, None, None),
    (tiny, {"keep_short": True}, 0, "too short to hold speech", "0.050 s"),
    (too_high, {}, 0, "not at <speaker>/<session>/<utterance>", ""),
    (too_deep, {}, 0, "not at <speaker>/<session>/<utterance>", ""),
]
# fmt: on


@pytest.mark.parametrize(
    "make, options, num_rows, reason, detail",
    ODD,
    ids=[f"{row[0].__name__}-{'-'.join(row[1])}" for row in ODD],
)
def test_odd_files_are_reported(
    corpus, capsys, make, options, num_rows, reason, detail
):
    """Faults (c), (d) and (g) among them."""
    make(corpus / "data/s1/x.y")
    save = prepare(corpus, **options)
    made = [
        row
        for row in rows(save, "train") + rows(save, "dev")
        if "odd." in row["wav"]
    ]
    assert len(made) == num_rows
    report = rows(save, "preparation_report")
    if reason is None:
        assert report == []
        return
    (row,) = report
    left_out = "no" if num_rows else "yes"
    assert (row["reason"], row["left_out"]) == (reason, left_out)
    assert detail in row["detail"] and "odd." in row["path"]
    said = "1 file left out" if left_out == "yes" else "1 file kept"
    assert f"{said}: {reason} (" in capsys.readouterr().out


def test_lengths_are_counted_at_16_khz(corpus):
    """Faults (c) and (g): 0.5 s at 8 kHz in two channels is 0.5 s."""
    write_audio(corpus / "data/s9/x/odd.wav", rate=8000, channels=2)
    save = prepare(corpus, random_segment=True)
    (row,) = [row for row in rows(save, "train") if row["spk_id"] == "s9"]
    assert (row["duration"], row["stop"]) == ("0.5", "8000")
    assert len(rows(save, "preparation_report")) == 2


def test_a_file_with_two_oddities_is_left_out_in_both_rows(corpus):
    write_audio(corpus / "data/s1/x.y/odd.wav", seconds=0.15, channels=2)
    left_out = [
        row["left_out"] for row in rows(prepare(corpus), "preparation_report")
    ]
    assert left_out == ["yes", "yes"]


def test_nan_is_not_looked_for_without_amp_th(corpus):
    """Control: nothing is decoded then, so only the reader finds it."""
    nan_samples(corpus / "data/s1/x.y")
    assert reported(prepare(corpus)) == {}


def test_trials_keep_short_files(corpus):
    write_audio(corpus / "data/t1/x.y/0.wav", seconds=0.05)
    save = prepare(corpus)
    assert [row["stop"] for row in rows(save, "enrol")] == ["800"]
    assert reported(save) == {"0.wav": ("too short to hold speech", "no")}


# Lists, folders and options: one error each, which says how to mend it


def missing_trials(corpus):
    shutil.rmtree(corpus / "data/t2")
    os.remove(corpus / "data/t1/x.y/1.wav")


def broken_trial(corpus):
    (corpus / "data/t2/x.y/2.wav").write_bytes(b"")


def trial_without_speaker(corpus):
    write_list(corpus / "trials.txt", ("t1/0", "t1/1"), ("t1/0", "t2/2"))


def no_list(corpus):
    os.remove(corpus / "trials.txt")


def no_folder(corpus):
    os.rename(corpus / "data", corpus / "datas")


def nothing_in_it(corpus):
    shutil.rmtree(corpus / "data")
    (corpus / "data/archives").mkdir(parents=True)
    (corpus / "data/vox1.zip").touch()


def one_level_less(corpus):
    shutil.rmtree(corpus / "data")
    write_audio(corpus / "data/s1/0.wav")


def all_in_the_list(corpus):
    for speaker in ("s1", "s2", "s3"):
        shutil.rmtree(corpus / "data" / speaker)


def same_file_twice(corpus):
    shutil.copytree(corpus / "data/s1", corpus / "data/dev/s1")
    shutil.copytree(corpus / "data", corpus / "data/test")


def dollar(corpus):
    os.rename(corpus / "data/s1", corpus / "data/s$1")


def not_utf8(corpus):
    os.rename(
        os.fsencode(corpus / "data/s1"), os.fsencode(corpus) + b"/data/\xff"
    )


def single_files(corpus):
    for speaker in ("s1", "s2", "s3"):
        for number in (1, 2):
            os.remove(corpus / f"data/{speaker}/x.y/{number}.wav")


def save_folder_is_a_file(corpus):
    (corpus / "save").touch()


def nothing(corpus):
    pass


RATIO = "split_ratio"
BAD = [  # what is wrong, options, what the message must say
    (
        missing_trials,
        {},
        r"trials.txt line 1: 't1/x.y/1' is not in .*/data; 2 of the list's 3 "
        "utterances are missing. Do the list and the data folder belong",
    ),
    (
        broken_trial,
        {},
        r"trials.txt line 2: 't2/x.y/2' cannot be read \(.*/2.wav\), and so 1 "
        "of the list's 3 utterances. Replace the files",
    ),
    (
        trial_without_speaker,
        {},
        "line 1: want <speaker>/<session>/<utterance>, got 't1/0'",
    ),
    (no_list, {}, r"trials.txt: cannot be read \(No such file or directory\)"),
    (no_folder, {}, "/data: no such data folder; give the folder"),
    (
        nothing_in_it,
        {},
        "no audio file; the folder holds archives, vox1.zip. Unpack",
    ),
    (one_level_less, {}, "Found 1 audio files elsewhere, such as .*/s1/0.wav"),
    (
        all_in_the_list,
        {},
        "for train; left out were 6 of speakers in the trial lists",
    ),
    (
        nothing,
        {"seg_dur": 3.0},
        "for train; .* 9 shorter than a chunk. .*keep_short=True",
    ),
    (nothing, {"amp_th": 0.5}, "no file is left for train; .* 9 silent"),
    (single_files, {}, "for dev: of 3 usable files each speaker has one"),
    (
        same_file_twice,
        {},
        "/dev/s1/.* and .*/test/dev/s1/.*: both would be utterance 's1/x.y/0'",
    ),
    (dollar, {}, r"data/s\$1/x.y/0.wav: the path holds '\$'.* 3 files"),
    (not_utf8, {}, r"data/\\udcff/x.y/0.wav: the path .* is not UTF-8"),
    (save_folder_is_a_file, {}, r"save: cannot be made .* \(File exists\)"),
    (nothing, {"splits": ["valid"]}, r"splits=\['valid'\]: want some of"),
    (nothing, {"splits": []}, r"splits=\[\]: want some of"),
    (nothing, {RATIO: [90]}, r"split_ratio=\[90\]: want the parts"),
    (nothing, {RATIO: [0, 9]}, r"split_ratio=\[0, 9\]: want the parts"),
    (nothing, {RATIO: [1, 0]}, "gives nothing to 'dev'; leave 'dev' out"),
    (nothing, {"seg_dur": 0}, "seg_dur=0: want seconds, 0.1 or more"),
    (nothing, {"source": "zips"}, "source=zips: archives are not unpacked"),
]


@pytest.mark.parametrize(
    "spoil, options, says", BAD, ids=[row[0].__name__ for row in BAD]
)
def test_bad_input_is_one_error_that_says_how_to_mend_it(
    corpus, spoil, options, says
):
    spoil(corpus)
    with pytest.raises(AttnError, match=says):
        prepare(corpus, **options)


def test_the_good_corpus_is_accepted(corpus):
    """Control: a gate that refuses everything would pass the table above."""
    assert speakers(prepare(corpus), "train") == {"s1", "s2", "s3"}


def test_the_report_shows_the_files_that_an_error_is_about(corpus):
    broken_trial(corpus)
    with pytest.raises(AttnError, match="cannot be read"):
        prepare(corpus)
    assert reported(corpus / "save") == {"2.wav": ("cannot be read", "yes")}


def test_folders_given_twice_are_refused(corpus):
    with pytest.raises(AttnError, match="Give each data folder once"):
        prepare(corpus, data_folder=[corpus / "data", corpus / "data"])


# Writing


def full_disk(path, lines):
    """Writes half of dev.csv, then fails as a full disk does."""
    with open(path, "w") as file:
        for line in lines:
            file.write(line)
            if "dev.csv" in path:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return 1


def test_a_write_error_leaves_the_earlier_files_whole(corpus, monkeypatch):
    save = prepare(corpus)
    before = {path.name: path.read_bytes() for path in save.glob("*.csv")}
    write_audio(corpus / "data/s1/x.y/9.wav")
    monkeypatch.setattr(manifest, "_write_lines", full_disk)
    says = r"save/dev.csv: cannot be written \(No space left on device\)"
    with pytest.raises(AttnError, match=says):
        prepare(corpus)
    after = {path.name: path.read_bytes() for path in save.iterdir()}
    assert after == before  # no temporary file either
    monkeypatch.undo()
    wavs = "".join(row["wav"] for row in rows(prepare(corpus), "train"))
    assert "s1/x.y/9.wav" in wavs


KILLED = """
import os, signal, sys
from speechbrain_attn.dataio import manifest

replace = os.replace
def killed(source, target):
    if "dev.csv" in target:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
manifest.os.replace = killed
sys.path.insert(0, sys.argv.pop(1))
import voxceleb_prepare
voxceleb_prepare.main(sys.argv[1:])
"""


def test_a_killed_run_is_done_again(corpus):
    """Killed when train.csv is new and dev.csv is old."""
    save = prepare(corpus)
    before = {path.name: path.read_bytes() for path in save.glob("*.csv")}
    arguments = [corpus / "data", save, "--seg-dur", "0.25"]
    arguments += ["--verification-file", corpus / "trials.txt"]
    command = [sys.executable, "-c", KILLED, RECIPE, *arguments]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert (save / "train.csv").read_bytes() != before["train.csv"]
    prepare(corpus)
    after = {path.name: path.read_bytes() for path in save.glob("*.csv")}
    assert after == before
