"""Preparation of a corpus: manifests, splits, and running it again."""

import json
import os

import numpy as np
import pytest
from corpus_trees import (
    load_recipe,
    make_tree,
    reported,
    rows,
    speakers,
    write_audio,
    write_list,
)
from speechbrain.dataio.dataset import DynamicItemDataset

from speechbrain_attn.dataio import headers
from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.tree import find_utterances

recipe = load_recipe("voxceleb_prepare")


@pytest.fixture
def corpus(tmp_path):
    """Three speakers to train on and a list where t2 is on one side only."""
    make_tree(tmp_path / "data")
    pairs = [("t1/x.y/0.wav", "t1/x.y/1.wav"), ("t1/x.y/0.wav", "t2/x.y/2.wav")]
    write_list(tmp_path / "trials.txt", *pairs)
    return tmp_path


@pytest.fixture
def prepare(corpus):
    """Prepares the corpus with 0.2 s chunks; returns the save folder."""

    def run(data=corpus / "data", save=corpus / "save", **options):
        trials = options.pop("trials", corpus / "trials.txt")
        options.setdefault("seg_dur", 0.2)
        recipe.prepare_voxceleb(data, save, trials, **options)
        return save

    return run


# Manifests


def test_train_rows_are_chunks_and_trial_rows_are_whole_files(corpus, prepare):
    save = prepare()
    row = next(
        r for r in rows(save, "train") if r["wav"].endswith("s1/x.y/0.wav")
    )
    assert row == {
        "ID": "s1--x.y--0_0.0_0.2",  # the session's dot stays
        "duration": "0.5",
        "wav": str(corpus / "data/s1/x.y/0.wav"),
        "start": "0",
        "stop": "3200",
        "spk_id": "s1",
    }
    enrol, test = rows(save, "enrol"), rows(save, "test")
    assert [row["ID"] for row in enrol] == ["t1/x.y/0"]
    assert [row["ID"] for row in test] == ["t1/x.y/1", "t2/x.y/2"]
    assert {(row["start"], row["stop"]) for row in enrol + test} == {
        ("0", "8000")
    }


def test_chunks_do_not_overlap_nor_leave_the_file(corpus, prepare):
    write_audio(corpus / "data/s1/long/a.wav", seconds=0.75)
    save = prepare(seg_dur=0.2)
    bounds = [
        (row["ID"], row["start"], row["stop"])
        for row in rows(save, "train") + rows(save, "dev")
        if row["wav"].endswith("long/a.wav")
    ]
    assert bounds == [
        ("s1--long--a_0.0_0.2", "0", "3200"),
        ("s1--long--a_0.2_0.4", "3200", "6400"),
        ("s1--long--a_0.4_0.6", "6400", "9600"),
    ]


def test_random_segment_makes_one_row_a_file(prepare):
    save = prepare(random_segment=True)
    made = rows(save, "train") + rows(save, "dev")
    assert len(made) == 9
    assert {(row["start"], row["stop"]) for row in made} == {("0", "8000")}


def test_the_hosts_reader_takes_every_manifest(corpus, prepare):
    save = prepare(validation_pairs_file=corpus / "trials.txt")
    for name in ("train", "dev", "enrol", "test"):
        data = DynamicItemDataset.from_csv(
            csv_path=str(save / f"{name}.csv"),
            replacements={"data_root": "unused"},
        )
        data.add_dynamic_item(read_row, ["wav", "start", "stop"], "sig")
        data.set_output_keys(["id", "sig", "duration", "spk_id"])
        item = data[0]
        assert len(item["sig"]) == (3200 if name in ("train", "dev") else 8000)
        assert item["duration"] == 0.5


def read_row(wav, start, stop):
    return read_waveform(wav, int(start), int(stop))


def test_only_the_wanted_splits_are_written(corpus, prepare):
    # VoxCeleb2 with VoxCeleb1's list: its files need not be there to train.
    trials = write_list(
        corpus / "other.txt", ("u1/a/0", "u1/a/1"), ("u1/a/0", "u2/a/0")
    )
    save = prepare(splits=["train", "dev"], trials=trials)
    assert speakers(save, "train") == {"s1", "s2", "s3", "t1", "t2"}
    assert sorted(path.name for path in save.iterdir()) == [
        "dev.csv",
        "preparation.json",
        "preparation_report.csv",
        "train.csv",
    ]


# Who is kept out of training


def test_speakers_of_both_columns_are_kept_out_of_training(prepare):
    """Fault (a): t2 is on the test side only."""
    assert speakers(prepare(), "train", "dev") == {"s1", "s2", "s3"}


def test_speakers_of_the_validation_list_are_kept_out(corpus, prepare):
    names = ("s1/x.y/0.wav", "s1/x.y/1.wav"), ("s1/x.y/0.wav", "s2/x.y/0.wav")
    listed = write_list(corpus / "validation.txt", *names)
    save = prepare(validation_pairs_file=listed)
    assert speakers(save, "train", "dev") == {"s3"}


def test_a_validation_list_of_speakers_of_the_test_is_warned_of(
    corpus, prepare, caplog
):
    """Each time, also where the manifests are there already."""
    own = ("s1/x.y/0.wav", "s1/x.y/1.wav"), ("s1/x.y/0.wav", "s2/x.y/0.wav")
    prepare(validation_pairs_file=write_list(corpus / "own.txt", *own))
    assert "share" not in caplog.text
    mixed = write_list(corpus / "mixed.txt", *own, ("s1/x.y/0", "t2/x.y/0"))
    for _ in range(2):
        caplog.clear()
        prepare(validation_pairs_file=mixed)
        assert "share 1 of 2 speakers, such as 't2': the test" in caplog.text
    prepare(validation_pairs_file=corpus / "trials.txt")
    assert "share 2 of 2 speakers, such as 't1'" in caplog.text


@pytest.mark.parametrize("form", ["{}", "{}.wav", "wav/{}.wav", "{}.m4a"])
def test_list_may_name_utterances_in_other_ways(corpus, prepare, form):
    names = [form.format(name) for name in ("t1/x.y/0", "t1/x.y/1", "t2/x.y/2")]
    trials = write_list(corpus / "named.txt")
    trials.write_text(
        f"1 {names[0]} {names[1]}\r\n0 {names[0]} {names[2]}\r\n\n"
    )
    save = prepare(trials=trials)
    assert speakers(save, "train", "dev") == {"s1", "s2", "s3"}
    assert [row["wav"] for row in rows(save, "enrol")] == [
        str(corpus / "data/t1/x.y/0.wav")
    ]


# Train and dev


def test_dev_takes_its_part_and_leaves_each_speaker_in_training(
    corpus, prepare
):
    write_audio(corpus / "data/single/x/0.wav")
    save = prepare(split_ratio=[50, 50])
    train = {row["wav"] for row in rows(save, "train")}
    dev = {row["wav"] for row in rows(save, "dev")}
    assert (len(train), len(dev)) == (5, 5)
    assert not train & dev
    assert speakers(save, "train") == {"s1", "s2", "s3", "single"}
    save = prepare(split_ratio=[1, 99])  # more than there is to spare
    assert speakers(save, "train") == {"s1", "s2", "s3", "single"}
    assert len({row["wav"] for row in rows(save, "dev")}) == 6


def test_dev_may_have_speakers_of_its_own(prepare):
    save = prepare(split_speaker=True)
    train, dev = speakers(save, "train"), speakers(save, "dev")
    assert (len(train), len(dev)) == (2, 1)
    assert train | dev == {"s1", "s2", "s3"} and not train & dev


def test_two_calls_draw_equal_parts_and_another_seed_others(corpus, prepare):
    """Fault (h)."""
    first = prepare(save=corpus / "a", split_ratio=[60, 40])
    second = prepare(save=corpus / "b", split_ratio=[60, 40])
    other = prepare(save=corpus / "c", split_ratio=[60, 40], seed=1)
    for name in ("train", "dev", "enrol", "test"):
        assert rows(first, name) == rows(second, name)
    assert rows(first, "dev") != rows(other, "dev")


# Where the speakers lie


@pytest.mark.parametrize(
    "level",
    ["wav", "dev/aac", "dev/wav", "test/wav", "vox1_dev_wav/wav", "VoxCeleb2"],
)
def test_speakers_are_found_below_the_archives_folders(corpus, prepare, level):
    moved = corpus / "moved" / level
    moved.parent.mkdir(parents=True)
    os.rename(corpus / "data", moved)
    (corpus / "moved" / "meta").mkdir()  # as VoxCeleb1 has it
    save = prepare(data=corpus / "moved")
    assert speakers(save, "train") == {"s1", "s2", "s3"}
    assert {row["ID"] for row in rows(save, "enrol")} == {"t1/x.y/0"}


@pytest.mark.parametrize("joined", [True, False])
def test_several_folders_are_one_corpus(corpus, prepare, joined):
    """Fault (e): the trials lie in one of the folders only."""
    (corpus / "second").mkdir()
    for speaker in ("s3", "t2"):
        os.rename(corpus / "data" / speaker, corpus / "second" / speaker)
    folders = [str(corpus / "data"), str(corpus / "second")]
    save = prepare(data=", ".join(folders) if joined else folders)
    assert speakers(save, "train") == {"s1", "s2", "s3"}
    assert {row["ID"] for row in rows(save, "test")} == {"t1/x.y/1", "t2/x.y/2"}


def test_a_comma_may_be_part_of_the_name(corpus, prepare):
    os.rename(corpus / "data", corpus / "a,b")
    assert speakers(prepare(data=str(corpus / "a,b")), "train")


def test_linked_speakers_are_followed_and_hidden_files_are_not_seen(
    corpus, prepare
):
    os.rename(corpus / "data/s3", corpus / "elsewhere")
    (corpus / "data/s3").symlink_to(corpus / "elsewhere")
    (corpus / "data/s3/circle").symlink_to(corpus / "data/s3")
    (corpus / "data/s1/x.y/._0.wav").write_bytes(b"left by macOS")
    save = prepare()
    wavs = {row["wav"] for row in rows(save, "train") + rows(save, "dev")}
    assert str(corpus / "data/s3/x.y/1.wav") in wavs
    assert "._0.wav" not in reported(save)


@pytest.mark.parametrize("link", ["dev", "dev_", "s1/up", "s1/x.y/up"])
def test_links_to_folders_above_show_nothing_twice(corpus, prepare, link):
    """Also one that is called as an archive's folder is."""
    before = len(find_utterances(corpus / "data").utterances)
    (corpus / "data" / link).symlink_to(corpus / "data")
    found = find_utterances(corpus / "data")
    assert len(found.utterances) == before and not found.misplaced


def test_noises_beside_the_speakers_are_no_speakers(corpus, prepare):
    write_audio(corpus / "data/noise/pointsource/0.wav")
    write_audio(corpus / "data/rir/small/0.wav")
    assert speakers(prepare(), "train") == {"s1", "s2", "s3"}


def test_formats_and_the_spare_copy_of_an_utterance(corpus, prepare):
    for extension in ("flac", "ogg", "opus", "WAV"):
        write_audio(corpus / f"data/s4/x/{extension}.{extension}", seconds=0.45)
    write_audio(corpus / "data/s4/x/flac.ogg")
    save = prepare(random_segment=True)
    made = {
        row["ID"].split("--")[2]: int(row["stop"])
        for row in rows(save, "train") + rows(save, "dev")
        if row["spk_id"] == "s4"
    }
    length = "_0.0_0.45"
    assert made == {
        name + length: 7200 for name in ("flac", "ogg", "opus", "WAV")
    }
    reason = "the same utterance in another format"
    assert reported(save) == {"flac.ogg": (reason, "yes")}


def test_m4a_is_read_where_its_decoder_is(corpus, prepare, monkeypatch):
    path = corpus / "data/s1/x.y/new.m4a"
    path.write_bytes(b"not really")
    monkeypatch.setattr(headers, "can_decode_m4a", lambda: False)
    save = prepare()
    (row,) = rows(save, "preparation_report")
    assert row["detail"] == "m4a needs PyAV: pip install av"
    assert row["left_out"] == "yes"


def test_m4a_header_tells_the_length(tmp_path):
    av = pytest.importorskip("av", reason="PyAV writes the file")
    path = tmp_path / "a.m4a"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = np.zeros((1, 1024), dtype=np.float32)
        for start in range(0, 16 * 1024, 1024):
            frame = av.AudioFrame.from_ndarray(silence, "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    header = headers.read_header(str(path))
    assert (header.samples, header.channels) == (16 * 1024, 1)


# Running it again


def test_a_second_run_does_nothing(prepare, capsys, monkeypatch):
    save = prepare()
    before = {path: path.stat().st_mtime_ns for path in save.iterdir()}
    capsys.readouterr()
    prepare()
    assert "nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in save.iterdir()}


def add_a_file(corpus):
    write_audio(corpus / "data/s1/x.y/9.wav")


def change_a_file(corpus):
    write_audio(corpus / "data/s1/x.y/1.wav", seconds=0.8)


def change_the_list(corpus):
    """Fault (b): the list's path stays, what it says does not."""
    with open(corpus / "trials.txt", "a") as file:
        file.write("0 t1/x.y/0.wav s1/x.y/0.wav\n")


def remove_a_manifest(corpus):
    os.remove(corpus / "save/dev.csv")


def break_the_state(corpus):
    (corpus / "save/preparation.json").write_text("{")


@pytest.mark.parametrize(
    "change",
    [
        add_a_file,
        change_a_file,
        change_the_list,
        remove_a_manifest,
        break_the_state,
    ],
)
def test_a_change_is_noticed(corpus, prepare, capsys, change):
    save = prepare()
    change(corpus)
    capsys.readouterr()
    prepare()
    assert "nothing to do" not in capsys.readouterr().out
    fresh = prepare(save=corpus / "fresh")
    for name in ("train", "dev", "enrol", "test"):
        assert rows(save, name) == rows(fresh, name)


@pytest.mark.parametrize(
    "option",
    [
        {"amp_th": 0.01},  # fault (b) as well
        {"split_ratio": [80, 20]},
        {"seg_dur": 0.25},
        {"split_speaker": True},
        {"random_segment": True},
        {"keep_short": True},
        {"seed": 1},
        {"splits": ["train", "dev"]},
    ],
    ids=lambda option: next(iter(option)),
)
def test_a_changed_option_is_noticed(prepare, capsys, option):
    prepare()
    capsys.readouterr()
    prepare(**option)
    assert "nothing to do" not in capsys.readouterr().out


def test_a_decoder_that_came_later_is_noticed(prepare, capsys, monkeypatch):
    monkeypatch.setattr(headers, "can_decode_m4a", lambda: False)
    prepare()
    monkeypatch.setattr(headers, "can_decode_m4a", lambda: True)
    capsys.readouterr()
    prepare()
    assert "nothing to do" not in capsys.readouterr().out


def test_state_is_json_and_survives_moving_the_manifests(
    corpus, prepare, capsys
):
    save = prepare()
    json.loads((save / "preparation.json").read_text())
    os.rename(save, corpus / "moved")
    capsys.readouterr()
    prepare(save=corpus / "moved")
    assert "nothing to do" in capsys.readouterr().out


def test_skip_prep_returns_at_once(tmp_path):
    recipe.prepare_voxceleb("none", tmp_path / "save", "none", skip_prep=True)
    assert not (tmp_path / "save").exists()


def test_command_line(corpus, capsys):
    arguments = [str(corpus / "data"), str(corpus / "save")]
    arguments += ["--verification-file", str(corpus / "trials.txt")]
    assert recipe.main([*arguments, "--seg-dur", "0.2"]) == 0
    assert "train.csv: 16 rows, 8 files, 3 speakers." in capsys.readouterr().out
    assert recipe.main([*arguments, "--seg-dur", "9"]) == 2
    assert "no file is left for train" in capsys.readouterr().err
