"""Corpora in tar shards: written, read in place, gone on with after a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import numpy as np
import pytest
import soundfile
import torch
from corpus_trees import load_recipe, make_tree, rows, write_audio, write_list

from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.audio_blocks import waveform_blocks
from speechbrain_attn.dataio.headers import read_header
from speechbrain_attn.dataio.shard_writing import ShardOptions, write_shards
from speechbrain_attn.dataio.shards import open_audio, shard_members
from speechbrain_attn.dataio.tree import find_utterances
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.dataio.utterance_files import trial_files
from speechbrain_attn.errors import AttnError, AudioError

ROOT = Path(__file__).parents[2]
SHARD = 0.05  # megabytes: three files of 0.5 s, and the one that goes over
FORMATS = ("wav", "flac", "ogg", "opus", "mp3")


def shards(source, folder, **options):
    """Write shards of 50 kB; returns what the user is told."""
    options = {"shard_megabytes": SHARD, "num_threads": 2, **options}
    return write_shards(ShardOptions(str(source), str(folder), **options))


def members(folder):
    """{speaker/session/name: path}."""
    paths, _ = shard_members(str(folder))
    return {os.path.splitext(name)[0]: path for name, path in paths.items()}


def left_out(folder):
    """{file name: reason}."""
    with open(folder / "left_out.csv", newline="") as file:
        return {
            Path(row["path"]).name: row["reason"]
            for row in csv.DictReader(file)
        }


@pytest.fixture
def source(tmp_path):
    """Fifteen wav files of five speakers."""
    return make_tree(tmp_path / "data")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "shards"


# Reading


def test_members_read_as_the_files_do(tmp_path, folder):
    """Any format, rate and number of channels, whole and in part."""
    source = tmp_path / "data"
    for extension in FORMATS:
        write_audio(source / "s1" / "a" / f"x.{extension}.{extension}")
    write_audio(source / "s2" / "a" / "low.wav", rate=8000, channels=2)
    shards(source, folder)
    found = {item.utterance_id: item.path for item in _utterances(source)}
    assert len(found) == len(FORMATS) + 1
    assert members(folder).keys() == found.keys()
    for name, path in members(folder).items():
        assert read_header(path) == read_header(found[name])
        with open_audio(path) as window:
            assert window.read() == Path(found[name]).read_bytes()
        for bounds in ((0, None), (2000, 5000), (7000, 99999)):
            ours = read_waveform(path, *bounds)
            assert torch.equal(ours, read_waveform(found[name], *bounds)), name
        blocks = torch.cat(list(waveform_blocks(path)))
        assert torch.equal(
            blocks, torch.cat(list(waveform_blocks(found[name])))
        )


def _utterances(folder):
    return find_utterances(str(folder)).utterances


def test_m4a_members_are_read(tmp_path, folder):
    av = pytest.importorskip("av")
    path = tmp_path / "data" / "s1" / "a" / "x.m4a"
    path.parent.mkdir(parents=True)
    draw = np.random.default_rng(3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(20):
            samples = draw.uniform(-0.1, 0.1, (1, 1024)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shards(tmp_path / "data", folder)
    (member,) = members(folder).values()
    assert read_header(member) == read_header(str(path))
    assert torch.equal(read_waveform(member), read_waveform(path))


def test_manifests_of_shards_are_those_of_the_files(tmp_path, source, folder):
    """But for the paths: so an epoch is the same, batch by batch."""
    shards(source, folder)
    prepare = load_recipe("voxceleb_prepare").prepare_voxceleb
    pairs = [("t1/x.y/0.wav", "t1/x.y/1.wav"), ("t1/x.y/0.wav", "t2/x.y/2.wav")]
    trials = write_list(tmp_path / "trials.txt", *pairs)
    places = {source: tmp_path / "one", folder: tmp_path / "two"}
    for data, save in places.items():
        prepare(data, save, trials, seg_dur=0.2)
    for name in ("train", "dev", "enrol", "test"):
        one, two = (rows(save, name) for save in places.values())
        assert len(one) == len(two) > 0
        for ours, theirs in zip(one, two, strict=True):
            assert theirs.pop("wav").startswith(str(folder))
            del ours["wav"]
            assert ours == theirs
    train = rows(places[folder], "train") + rows(places[folder], "dev")
    assert {row["spk_id"] for row in train} == {"s1", "s2", "s3"}
    files = trial_files(trials_from_file(trials), folder)
    expected = members(folder)
    assert files == {name: expected[name] for name in files} and len(files) == 3


# The next one needs an epoch of webdataset, which leaves its files to be
# closed by the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_webdataset_reads_each_utterance_once(source, folder):
    webdataset = pytest.importorskip("webdataset")
    shards(source, folder)
    tars = sorted(map(str, folder.glob("*.tar")))
    assert len(tars) > 2
    stream = webdataset.WebDataset(tars, shardshuffle=False)
    found = {example["__key__"]: example["wav"] for example in stream}
    assert len(found) == 15
    body = (source / "s1" / "x.y" / "0.wav").read_bytes()
    assert found["s1/x.y/0"] == body


# Writing


def test_the_index_counts_each_shard(source, folder):
    (said,) = shards(source, folder)
    assert said.endswith("15 utterances of 5 speakers, 0.0 h, in 4 shards.")
    index = json.loads((folder / "shards.json").read_text())["shards"]
    assert [shard["utterances"] for shard in index] == [4, 4, 4, 3]
    assert sum(shard["seconds"] for shard in index) == pytest.approx(7.5)
    for shard in index:
        tar = folder / f"{shard['name']}.tar"
        assert tar.stat().st_size == shard["bytes"]
        in_it = [name for name, p in members(folder).items() if f"{tar}@" in p]
        speakers = {name.split("/")[0] for name in in_it}
        assert (shard["utterances"], shard["speakers"]) == (
            len(in_it),
            len(speakers),
        )
        assert len(speakers) > 1  # they are mixed


def test_files_of_no_use_are_left_out_and_listed(tmp_path, source, folder):
    (source / "s1" / "x.y" / "empty.wav").touch()
    (source / "s1" / "x.y" / "text.flac").write_text("no sound")
    (source / "s1" / "x.y" / "gone.wav").symlink_to(tmp_path / "nothing")
    write_audio(source / "s1" / "high.wav")
    write_audio(source / "s1" / "x.y" / "0.flac")
    *_, said = shards(source, folder)
    assert said.startswith("5 files left out")
    assert len(members(folder)) == 15
    reasons = left_out(folder)
    assert reasons["empty.wav"] == "the file is empty"
    assert reasons["text.flac"] and reasons["gone.wav"]
    assert reasons["high.wav"] == "not at <speaker>/<session>/<utterance>"
    assert reasons["0.flac"].startswith("the same as ")


def test_flac_keeps_16_bits_and_makes_one_form_of_all(tmp_path, folder):
    source = tmp_path / "data"
    samples = np.random.default_rng(5).integers(-(2**15), 2**15, 8000)
    place = source / "s1" / "a"
    place.mkdir(parents=True)
    soundfile.write(place / "x.wav", samples.astype(np.int16), 16000)
    loud = np.array([2.0, -2.0] * 4000)
    soundfile.write(place / "loud.wav", loud, 16000, subtype="FLOAT")
    write_audio(place / "low.wav", rate=8000, channels=2)
    soundfile.write(
        place / "nan.wav", np.full(800, np.nan), 16000, subtype="FLOAT"
    )
    shards(source, folder, audio="flac")
    found = members(folder)
    assert all(path.endswith(".flac") for path in found.values())
    exact = read_waveform(place / "x.wav")
    assert torch.equal(read_waveform(found["s1/a/x"]), exact)
    assert read_waveform(found["s1/a/loud"]).abs().min() > 0.999
    assert read_header(found["s1/a/low"])[:3] == (8000, 16000, 1)
    assert left_out(folder) == {
        "nan.wav": "holds NaN or infinite samples; write it again from its "
        "source, or remove it from the list."
    }


def test_a_manifest_counts_each_file_once_by_its_speaker(
    tmp_path, source, folder
):
    manifest = tmp_path / "m.csv"
    with open(manifest, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["ID", "wav", "spk_id"])
        for number in range(4):
            path = source / "s1" / "x.y" / f"{number // 2}.wav"
            out.writerow([f"chunk{number}", path, "anna"])
    shards(manifest, folder)
    assert members(folder).keys() == {"anna/x.y/0", "anna/x.y/1"}


# Killed and gone on with

KILLER = """\
import os, signal, sys
from speechbrain_attn.dataio import shard_writing

left = 10
audio_of = shard_writing._ShardWriter._audio_of

def die(writer, path):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return audio_of(writer, path)

shard_writing._ShardWriter._audio_of = die
options = shard_writing.ShardOptions(*sys.argv[1:], "original", 0.05, 1)
shard_writing.write_shards(options)
"""


@pytest.fixture
def killed(source, folder):
    """Shards of a run that was killed in the third of four."""
    done = subprocess.run([sys.executable, "-c", KILLER, source, folder])
    assert done.returncode == -signal.SIGKILL
    names = sorted(path.name for path in folder.glob("*.tar"))
    assert names == ["shard-000000.tar", "shard-000001.tar"]
    return folder


def test_a_killed_run_keeps_what_is_whole(tmp_path, source, killed):
    with pytest.raises(AttnError, match=r"shards: its shards are not all th"):
        find_utterances(str(killed))
    kept = {path: path.stat().st_mtime_ns for path in killed.glob("*.tar")}
    shards(source, killed)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    whole = tmp_path / "whole"
    shards(source, whole)
    # Nothing is left of the half-written one, and all else is equal.
    names = {path.name for path in killed.iterdir()}
    assert names == {path.name for path in whole.iterdir()}
    for name in names:
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert "nothing to do" in shards(source, killed)[0]


def test_what_does_not_belong_together_is_refused(tmp_path, source, killed):
    with pytest.raises(AttnError, match=r"begun with audio=original, and th"):
        shards(source, killed, audio="flac")
    with pytest.raises(AttnError, match=r"begun with shard_megabytes=0\.05,"):
        shards(source, killed, shard_megabytes=2)
    lock = filelock.FileLock(killed / ".lock")
    with lock, pytest.raises(AttnError, match="another process is writing"):
        shards(source, killed)
    write_audio(source / "s9" / "x.y" / "0.wav")
    with pytest.raises(AttnError, match="begun with other files"):
        shards(source, killed)
    with pytest.raises(AttnError, match=r"data: holds s1 and no shards\.json"):
        shards(source, source)


# Bad input


def test_bad_sources_and_options_are_refused(tmp_path, source, folder):
    manifest = tmp_path / "m.csv"
    manifest.write_text("ID,wav\n1,x.wav\n")
    two = tmp_path / "t.csv"
    two.write_text("ID,wav,spk_id\n1,a/x.wav,s\n2,a/x.wav,r\n")
    root = tmp_path / "r.csv"
    root.write_text("ID,wav,spk_id\n1,$data_root/a/x.wav,s\n")
    nameless = tmp_path / "o.csv"
    nameless.write_text("ID,wav,spk_id\n1,a/x.wav,s\n2,a/x.wav,\n")
    broken = tmp_path / "broken"
    (broken / "s" / "a").mkdir(parents=True)
    (broken / "s" / "a" / "x.wav").write_text("no sound")
    full = tmp_path / "full"
    shards(source, full)
    # fmt: off
    bad = [  # source, options, what the message must say
        (tmp_path / "none", {}, r"none: no such data folder"),
        (tmp_path / "n.csv", {}, r"n\.csv: cannot be read"),
        (manifest, {}, r"m\.csv: has no column 'spk_id'"),
        (nameless, {}, r"o\.csv line 3: wav='a/x\.wav' and spk_id=''; want"),
        (two, {}, r"line 3: a/x\.wav is of speaker 'r' here and of 's' before"),
        (root, {}, r"line 2: wav='\$data_root/.*; write the folder in the pla"),
        (broken, {}, r"none of 1 files can be read, such as .*x\.wav"),
        (full, {}, r"full: lies in shards already, such as .*@"),
        (source, {"audio": "mp3"}, r"audio='mp3'; want one of original, flac"),
        (source, {"shard_megabytes": 0}, r"shard_megabytes=0; want more"),
        (source, {"num_threads": 0}, r"threads=0; want 1 or more"),
    ]
    # fmt: on
    for number, (place, options, says) in enumerate(bad):
        with pytest.raises(AttnError, match=says):
            shards(place, tmp_path / f"out{number}", **options)


def test_broken_shards_are_refused_by_name(source, folder):
    shards(source, folder)
    tar, index = folder / "shard-000001.tar", folder / "shard-000002.json"
    path = next(p for p in members(folder).values() if f"{tar}@" in p)
    body = tar.read_bytes()
    tar.write_bytes(body[:600])
    with pytest.raises(AttnError, match=r"000001\.tar: has 600 bytes, and sh"):
        find_utterances(str(folder))
    with pytest.raises(AudioError, match=r"000001\.tar@.*cannot be decoded"):
        read_waveform(path.replace("@512+", "@1024+"))
    tar.unlink()
    with pytest.raises(AttnError, match=r"000001\.tar: this shard cannot be"):
        find_utterances(str(folder))
    with pytest.raises(AudioError, match=r"000001\.tar@.*no such audio file"):
        read_waveform(path)
    with pytest.raises(AudioError, match="No such file"):
        read_header(path)
    shards(source, folder)  # the same command writes it anew
    assert tar.read_bytes() == body
    index.write_text("{")
    with pytest.raises(AttnError, match=r"000002\.json: this index of shards"):
        find_utterances(str(folder))
    (folder / "shards.json").write_text('{"shards": 3}')
    with pytest.raises(AttnError, match=r"shards\.json: is no index of shards"):
        find_utterances(str(folder))


def test_a_full_disk_is_one_sentence_and_finished_shards_stay(
    source, folder, monkeypatch
):
    for room in (0, 4):  # files that still find room: none, or a shard
        left = iter(range(room))

        def sync(_, left=left):
            if next(left, None) is None:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", sync)
        says = r"shards: cannot be written \(No space left"
        with pytest.raises(AttnError, match=says):
            shards(source, folder, num_threads=1)
    assert len(list(folder.glob("*.tar"))) == 1
    monkeypatch.undo()
    shards(source, folder)
    assert len(members(folder)) == 15


def test_the_script_writes_and_refuses(source, folder):
    script = ROOT / "recipes" / "VoxCeleb" / "make_shards.py"
    done = [
        subprocess.run(
            [sys.executable, script, source, folder, *more],
            capture_output=True,
            text=True,
        )
        for more in ([], ["--audio", "flac"])
    ]
    assert [one.returncode for one in done] == [0, 2]
    assert "15 utterances of 5 speakers, 0.0 h, in 1 shards" in done[0].stdout
    assert done[1].stderr.startswith("make_shards.py: ")
    assert len(done[1].stderr.splitlines()) == 1
