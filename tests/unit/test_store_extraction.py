"""Extraction to a store: whole after kills, and never mixed."""

import csv
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from store_runs import network
from torch import nn

from speechbrain_attn.errors import AttnError, AudioError
from speechbrain_attn.hub.fingerprint import (
    file_states_sha256,
    network_sha256,
)
from speechbrain_attn.inference import extraction, store_extraction
from speechbrain_attn.inference.buckets import length_buckets
from speechbrain_attn.inference.extraction import extract_embeddings
from speechbrain_attn.inference.journal import Journal, embeddings_at, entries
from speechbrain_attn.inference.store_extraction import (
    extract_to_store,
    num_left_out,
)
from speechbrain_attn.lobes.features import Fbank

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("store_runs.py")
NUM_FILES = 23


@pytest.fixture(scope="module")
def wavs(tmp_path_factory):
    """Folder of noise of prime sizes, not in order of length."""
    folder = tmp_path_factory.mktemp("wavs")
    draw = np.random.default_rng(2)
    for number in range(NUM_FILES):
        wav = draw.normal(0, 0.1, 3001 + 997 * (number * 7 % NUM_FILES))
        soundfile.write(folder / f"{number:02d}.wav", wav, 16000)
    return folder


@pytest.fixture(scope="module")
def files(wavs):
    return {path.stem: path for path in sorted(wavs.glob("*.wav"))}


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """The store of a run from start to end."""
    folder = tmp_path_factory.mktemp("whole")
    return extract_to_store(folder, files, *network())


def contents(folder):
    """{name: bytes} of a store's files, without its locks."""
    return {
        path.name: path.read_bytes()
        for path in Path(folder).iterdir()
        if not path.name.startswith(".lock")
    }


def test_a_store_holds_what_extraction_in_memory_gives(files, whole):
    found, ids = extract_embeddings(files, *network(), progress=False)
    assert whole.ids == ids == list(files)
    np.testing.assert_array_equal(whole.embeddings, found)
    seconds = [soundfile.info(path).duration for path in files.values()]
    np.testing.assert_allclose(whole.durations, seconds, rtol=1e-6)
    assert num_left_out(whole) == 0
    assert set(contents(whole.folder)) == {
        "durations.npy",
        "embeddings.npy",
        "ids.txt",
        "left_out.csv",
        "store.json",
    }


def test_a_finished_store_is_opened_and_not_made_again(files, whole, tmp_path):
    again = extract_to_store(
        whole.folder, files, *network(note=tmp_path / "forwards")
    )
    np.testing.assert_array_equal(again.embeddings, whole.embeddings)
    assert not (tmp_path / "forwards").exists()


def start(store, wavs, note, seconds):
    return subprocess.Popen(
        [sys.executable, DRIVER, store, wavs, note, str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_and_run_again_it_is_the_store_of_one_run(
    wavs, files, whole, tmp_path
):
    store, note = tmp_path / "store", tmp_path / "forwards"
    work = store / "unfinished"
    with start(store, wavs, note, 0.1) as process:
        wait_for(lambda: len(entries(work)) >= 3, process)

        # Meanwhile another process may not write there.
        said = "another process is writing this store. Wait until it ends, or"
        with pytest.raises(AttnError, match=said):
            extract_to_store(store, files, *network())

        process.send_signal(signal.SIGKILL)
    finished = entries(work)
    note.unlink()
    done = {row for entry, _ in finished.values() for row in entry.rows}
    assert 3 <= len(done) < NUM_FILES

    again = extract_to_store(store, files, *network(note=note))
    assert contents(store) == contents(whole.folder)
    assert len(again) == NUM_FILES
    forwards = [int(line) for line in note.read_text().split()]
    assert sum(forwards) == NUM_FILES - len(done)  # nothing twice


def journal_cut_at(finished, work, lines_end, data_end):
    """A work folder as a kill leaves it, with both files cut."""
    work.mkdir(parents=True)
    for path in finished.iterdir():
        (work / path.name).write_bytes(path.read_bytes())
    for suffix, end in ((".jsonl", lines_end), (".f32", data_end)):
        os.truncate(work / f"part-0{suffix}", end)


@pytest.fixture(scope="module")
def finished_work(files, tmp_path_factory):
    """The work folder just before its parts become a store."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            store_extraction, "_finish", lambda *_: 1 / 0, raising=True
        )
        with pytest.raises(ZeroDivisionError, match="division"):
            extract_to_store(folder, files, *network())
    return folder / "unfinished"


@pytest.mark.parametrize("part", [0.0, 0.21, 0.5, 0.83, 1.0])
def test_a_kill_at_any_byte_loses_the_last_batch_only(
    files, whole, finished_work, tmp_path, part
):
    """The line is written after its embeddings, so it may lag behind."""
    lines = (finished_work / "part-0.jsonl").stat().st_size
    data = (finished_work / "part-0.f32").stat().st_size
    work = tmp_path / "unfinished"
    journal_cut_at(finished_work, work, max(0, int(part * lines) - 1), data)
    text = (work / "part-0.jsonl").read_bytes()
    assert len(entries(work)) == text.count(b"\n")
    extract_to_store(tmp_path, files, *network())
    assert contents(tmp_path) == contents(whole.folder)


def test_embeddings_that_a_power_cut_took_are_made_again(
    files, whole, finished_work, tmp_path
):
    lines = (finished_work / "part-0.jsonl").stat().st_size
    work = tmp_path / "unfinished"
    journal_cut_at(finished_work, work, lines, 100)  # in the fifth row
    with open(work / "part-0.f32", "ab") as file:
        file.write(bytes(5000))
    assert len(entries(work)) < len(entries(finished_work))
    extract_to_store(tmp_path, files, *network())
    assert contents(tmp_path) == contents(whole.folder)


@pytest.mark.parametrize("left", ["store.json", "ids.txt"])
def test_a_kill_while_the_store_appears(
    files, whole, finished_work, tmp_path, left
):
    """Either all files are there and the work too, or some files are."""
    lines = (finished_work / "part-0.jsonl").stat().st_size
    data = (finished_work / "part-0.f32").stat().st_size
    journal_cut_at(finished_work, tmp_path / "unfinished", lines, data)
    for name, body in contents(whole.folder).items():
        if left == "store.json" or name not in ("store.json", left):
            (tmp_path / name).write_bytes(body)
    extract_to_store(tmp_path, files, *network())
    assert contents(tmp_path) == contents(whole.folder)


def test_more_or_fewer_processes_may_go_on(
    files, whole, finished_work, tmp_path
):
    """Parts of an earlier group of two are taken over by one process."""
    work = tmp_path / "unfinished"
    journal_cut_at(finished_work, work, 0, 0)
    rows, data = entries(finished_work), finished_work / "part-0.f32"
    everything = np.fromfile(data, np.float32).reshape(-1, 6)
    start = 0
    with Journal(work, 0) as first, Journal(work, 1) as second:
        for number, (entry, _) in rows.items():
            end = start + len(entry.rows)
            if number % 3:
                (first, second)[number % 3 - 1].append(
                    number, entry.rows, entry.samples, {}, everything[start:end]
                )
            start = end
    assert 0 < len(entries(work)) < len(rows)
    extract_to_store(tmp_path, files, *network())
    assert contents(tmp_path) == contents(whole.folder)


def test_a_process_of_a_larger_group_that_lives_on_is_waited_for(
    files, tmp_path
):
    (tmp_path / ".lock-1").touch()
    with (
        store_extraction._lock(tmp_path / ".lock-1"),
        pytest.raises(AttnError, match="another process is writing"),
    ):
        extract_to_store(tmp_path, files, *network())
    assert len(extract_to_store(tmp_path, files, *network())) == NUM_FILES


@pytest.fixture
def with_bad(files, tmp_path):
    """The files, and three that cannot be embedded."""
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "short.wav", [0.1] * 159, 16000)
    bad = {
        "x/missing": tmp_path / "missing.wav",
        "x/text": tmp_path / "text.wav",
        "x/short": tmp_path / "short.wav",
    }
    return {"x/missing": bad.pop("x/missing"), **files, **bad}


def test_files_that_cannot_be_read_are_listed_and_the_rest_goes_on(
    with_bad, whole, tmp_path
):
    store = extract_to_store(tmp_path / "store", with_bad, *network())
    assert store.ids == whole.ids
    # The short file shares a batch with others, whose last bits it may move.
    np.testing.assert_allclose(store.embeddings, whole.embeddings, atol=1e-5)
    np.testing.assert_array_equal(store.durations, whole.durations)
    assert num_left_out(store) == 3
    with open(store.folder / "left_out.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["utterance", "path", "reason"]
    assert [row[:2] for row in rows] == [
        [name, str(with_bad[name])]
        for name in ("x/missing", "x/text", "x/short")
    ]
    for row, reason in zip(
        rows,
        ("no such audio file", "cannot be decoded", "lasts 0.0099 s"),
        strict=True,
    ):
        assert reason in row[2]
    says = "no utterance 'x/text'; 1 of 1 are missing; left_out.csv there tells"
    with pytest.raises(AttnError, match=says):
        store.rows(["x/text"])
    says = "is finished without 3 of 26 files; left_out.csv .* Mend them"
    with pytest.raises(AttnError, match=says):
        extract_to_store(store.folder, with_bad, *network(), on_error="stop")


def test_stop_ends_at_a_bad_file_and_goes_on_when_it_is_mended(
    with_bad, files, tmp_path
):
    store = tmp_path / "store"
    with pytest.raises(AudioError, match="'x/missing': .*no such audio file"):
        extract_to_store(store, with_bad, *network(), on_error="stop")
    assert not (store / "store.json").exists()
    for name in ("x/missing", "x/text", "x/short"):
        Path(with_bad[name]).write_bytes(files["00"].read_bytes())
    store = extract_to_store(store, with_bad, *network(), on_error="stop")
    assert len(store) == NUM_FILES + 3 and num_left_out(store) == 0


def test_stop_tries_again_what_an_unfinished_run_left_out(
    files, finished_work, tmp_path
):
    """And of the two entries of a batch the better one counts."""
    lines = (finished_work / "part-0.jsonl").stat().st_size
    data = (finished_work / "part-0.f32").stat().st_size
    work = tmp_path / "unfinished"
    journal_cut_at(finished_work, work, lines, data)
    entry, place = entries(work)[2]
    for name in ("part-0.jsonl", "part-0.f32"):
        os.truncate(work / name, 0)
    with Journal(work, 0) as journal:
        journal.append(
            2,
            entry.rows[1:],
            entry.samples[1:],
            {entry.rows[0]: "was broken then"},
            embeddings_at(entry, (finished_work / place[0].name, place[1]))[1:],
        )
    store = extract_to_store(tmp_path, files, *network(), on_error="stop")
    assert num_left_out(store) == 0 and len(store) == NUM_FILES


def test_an_embedding_that_is_not_finite_is_left_out(files, tmp_path):
    class Overflowing(nn.Module):
        exact_padding = True

        def forward(self, x, lengths):
            sums = x.sum(1)
            sums[(lengths * x.shape[1]).round() == 19] = float("inf")
            return sums

    # Sentence normalisation would leave sums of zero.
    parts = Fbank(n_mels=40), lambda x, lengths: x, Overflowing()
    store = extract_to_store(tmp_path, files, *parts)
    assert num_left_out(store) == 1
    assert "00" not in store.ids and np.isfinite(store.embeddings).all()


def test_no_file_that_can_be_embedded_is_an_error(tmp_path):
    files = {"a": tmp_path / "none.wav", "b": tmp_path / "none.wav"}
    says = "none of 2 files could be embedded. The first: utterance 'a'"
    with pytest.raises(AttnError, match=says):
        extract_to_store(tmp_path / "store", files, *network())
    wav = np.random.default_rng(2).normal(0, 0.1, 16000)
    soundfile.write(tmp_path / "none.wav", wav, 16000)  # it was not mounted
    assert len(extract_to_store(tmp_path / "store", files, *network())) == 2


def test_a_file_without_a_length_shares_no_batch():
    """It may be long by the time that it is read."""
    lengths = {"a": 0, "b": 16000, "c": 0, "d": 15000}
    assert length_buckets(lengths, 1000) == [["b", "d"], ["a"], ["c"]]


# fmt: off
OTHERS = [  # id, what differs, what the message must say
    ("weights", {"network": network(seed=6)},
     r"begun with another model or other weights \(\w{64}, now \w{64}\)"),
    ("features", {"network": (Fbank(n_mels=40, f_min=50), *network()[1:])},
     "another model or other weights"),
    ("lobe", {"network": (*network()[:2], network()[2].lobe)},
     r"another network \(WatchedLobe, now SerializedMHA\)"),
    ("files", {"drop": "07"}, "another list of files"),
    ("precision", {"precision": "bf16"},
     r"another precision \(fp32, now bf16\). Run with what it was begun with"),
]
# fmt: on


@pytest.mark.parametrize("state", ["finished", "unfinished"])
@pytest.mark.parametrize(
    "change, says", [pytest.param(*row[1:], id=row[0]) for row in OTHERS]
)
def test_what_was_begun_otherwise_is_refused(
    files, whole, finished_work, tmp_path, state, change, says
):
    folder = whole.folder if state == "finished" else finished_work.parent
    before = contents(whole.folder)
    change = dict(change)
    parts = change.pop("network", network())
    drop = change.pop("drop", None)
    files = {name: path for name, path in files.items() if name != drop}
    with pytest.raises(AttnError, match=says):
        extract_to_store(folder, files, *parts, **change)
    assert contents(whole.folder) == before


def test_other_batches_are_refused_only_while_the_work_is_under_way(
    files, whole, finished_work, monkeypatch
):
    monkeypatch.setitem(extraction._BATCH_FRAMES, "cpu", 300)
    says = r"begun with other batches \(\w{64}, now \w{64}\)"
    with pytest.raises(AttnError, match=says):
        extract_to_store(finished_work.parent, files, *network())
    assert len(extract_to_store(whole.folder, files, *network())) == len(files)


# fmt: off
BAD = [  # id, arguments, what the message must say
    ("on_error", {"on_error": "go"},
     "on_error: want one of skip, stop, got 'go'"),
    ("precision", {"precision": "int8"}, "precision 'int8' is not known"),
    ("no_files", {"files": {}}, "no utterances to embed"),
    ("name", {"files": {"a\nb": "x"}}, "want a name on one line"),
]
# fmt: on


@pytest.mark.parametrize(
    "change, says", [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_arguments_are_refused(files, tmp_path, change, says):
    change = {"files": files, **change}
    with pytest.raises(AttnError, match=says):
        extract_to_store(tmp_path, change.pop("files"), *network(), **change)


def test_a_folder_that_cannot_be_written_is_refused(files, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AttnError, match="file/x: cannot be written"):
        extract_to_store(tmp_path / "file" / "x", files, *network())


@pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="of systems that can"
)
def test_a_full_disk_is_said_and_the_same_command_goes_on(
    files, whole, tmp_path
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        says = r"store: cannot be written \(No space left on device\); make"
        with pytest.raises(AttnError, match=says):
            extract_to_store(tmp_path / "store", files, *network())
    extract_to_store(tmp_path / "store", files, *network())
    assert contents(tmp_path / "store") == contents(whole.folder)


@pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="of systems that can"
)
def test_room_is_taken_before_a_file_is_mapped(tmp_path):
    """A sparse file: its first page without room would end the process."""
    path = tmp_path / "all.npy"
    with open(path, "wb") as file:
        file.truncate(300_000)
    assert path.stat().st_blocks * 512 < 300_000
    store_extraction._take_room(path)
    assert path.stat().st_blocks * 512 >= 300_000


def test_the_hash_of_a_network_knows_what_it_computes():
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(3)
    first = network_sha256([norm])
    assert network_sha256([norm.eval()]) == first
    norm.running_mean += 1
    second = network_sha256([norm])
    norm.eps = 0.1
    assert len({first, second, network_sha256([norm])}) == 3
    assert network_sha256([len]) != network_sha256([max])


def test_a_file_replaced_under_its_name_is_another_file(tmp_path):
    path = tmp_path / "a.wav"
    files, hashes = {"a": path}, []
    hashes.append(file_states_sha256(files))  # not there
    for samples in ("one", "three"):
        path.write_text(samples)
        hashes.append(file_states_sha256(files))
    assert len(set(hashes)) == 3
    assert file_states_sha256(files) == hashes[-1]
