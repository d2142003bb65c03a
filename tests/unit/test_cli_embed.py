"""embed: to a store, a numpy file, the screen."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from cli_runs import RATE, Shell, speech_like, write_recordings
from hub_folders import write_run

from speechbrain_attn import hub
from speechbrain_attn.cli import common, recordings
from speechbrain_attn.inference import extraction, long_audio
from speechbrain_attn.inference.store_extraction import left_out
from speechbrain_attn.scoring.store import EmbeddingStore


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("hub") / "run") / "model"


@pytest.fixture(scope="module")
def wavs(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("wavs"))


@pytest.fixture
def shell(model):
    return Shell(model)


@pytest.fixture(scope="module")
def expected(model, wavs):
    """Embeddings of anna's two recordings, by name."""
    loaded = hub.load(model, device="cpu")
    return {
        name: loaded.encode_batch(loaded.load_audio(wavs / f"{name}.wav"))
        .detach()
        .numpy()
        .ravel()
        for name in ("anna/0", "anna/1")
    }


def check(found, expected):
    assert list(found) == list(expected)
    for name, row in expected.items():
        np.testing.assert_allclose(found[name], row, atol=1e-5)


def test_json_names_files_as_given(shell, wavs, expected):
    paths = [wavs / f"{name}.wav" for name in expected]
    found = shell.json("embed", *paths)
    assert found["refused"] == {}
    rows = {str(wavs / name): row for name, row in expected.items()}
    check(found["embeddings"], rows)


def test_lines_hold_a_name_and_numbers(shell, wavs, expected):
    done = shell.run("embed", wavs / "anna")
    assert done.stderr == ""
    rows = dict(line.split("\t") for line in done.stdout.splitlines())
    found = {
        f"anna/{name}": [float(word) for word in words.split()]
        for name, words in rows.items()
    }
    check(found, expected)


def test_a_numpy_file_holds_ids_and_embeddings(shell, wavs, tmp_path, expected):
    path = tmp_path / "new" / "x.npz"
    done = shell.run("embed", wavs / "anna", "--output", path)
    assert done.stdout == f"{path}: 2 embeddings of size 6\n"
    with np.load(path) as arrays:
        names = [f"anna/{name}" for name in arrays["ids"]]
        check(dict(zip(names, arrays["embeddings"], strict=True)), expected)


def test_a_store_is_scored_and_gone_on_with(shell, wavs, tmp_path, expected):
    folder = tmp_path / "store"
    words = ("embed", wavs, "-o", folder)
    done = shell.json(*words, code=1)
    assert set(done["refused"]) == {
        str(wavs / "bad" / f"{name}.wav")
        for name in ("clipped", "empty", "loud", "short", "silent", "text")
    }
    store = EmbeddingStore.open(folder)
    assert store.ids == ["anna/0", "anna/1", "ben/0", "ben/1"]
    rows = store.embeddings[store.rows(list(expected))]
    check(dict(zip(expected, rows, strict=True)), expected)
    assert left_out(store) == done["refused"]
    # What is there already is the same.
    assert shell.json(*words, code=1) == done
    replaced = tmp_path / "replaced"
    replaced.mkdir()
    for name in ("anna", "ben"):
        shutil.copyfile(wavs / name / "0.wav", replaced / "x.aiff.wav")
        code = 0 if name == "anna" else 2
        said = shell.run("embed", replaced, "-o", tmp_path / "r", code=code)
    assert "r: was begun with audio files that were changed" in said.stderr
    # Trial lists name utterances so.
    trials = tmp_path / "trials.txt"
    trials.write_text("1 anna/0.wav anna/1.wav\n0 anna/0.wav ben/1.wav\n")
    out = tmp_path / "scores"
    stores = ("--embeddings", folder, "--output", out, "--replicates", 2)
    assert "EER" in shell.run("score", "--trials", trials, *stores).stdout
    assert (out / "results.json").exists()


def test_rates_and_channels_are_converted_and_said_once(
    shell, tmp_path, expected, wavs
):
    speech, _ = soundfile.read(wavs / "anna" / "0.wav")
    stereo = np.repeat(speech[:, None], 2, axis=1)
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.flac", stereo, RATE)
    done = shell.run("embed", tmp_path, "--json")
    assert done.stderr.count("16,000 Hz, 2 channels; such files are") == 1
    rows = json.loads(done.stdout)["embeddings"]
    for row in rows.values():
        # 16 bits of flac, and channels that are the same.
        np.testing.assert_allclose(row, expected["anna/0"], atol=1e-3)


@pytest.mark.parametrize("to_store", [False, True])
def test_long_recordings_go_in_blocks(shell, tmp_path, monkeypatch, to_store):
    speech = speech_like(21, seed=3)
    soundfile.write(tmp_path / "a.wav", speech, RATE, subtype="FLOAT")
    calls = []
    embed = long_audio.embed_long_audio

    def embed_long_audio(path, *network):
        calls.append(path)
        return embed(path, *network)

    def embedding():
        words = ("embed", tmp_path / "a.wav")
        if not to_store:
            [row] = shell.json(*words)["embeddings"].values()
            return row
        folder = tmp_path / f"store_{extraction.LONG_S}"
        shell.run(*words, "-o", folder)
        return EmbeddingStore.open(folder).embeddings[0]

    for module in (long_audio, extraction):
        monkeypatch.setattr(module, "embed_long_audio", embed_long_audio)
    in_one_pass = embedding()
    assert not calls
    for module in (long_audio, extraction):
        monkeypatch.setattr(module, "LONG_S", 20)
    np.testing.assert_allclose(embedding(), in_one_pass, atol=1e-5)
    assert calls == [str(tmp_path / "a.wav")]


def test_anyway_uses_what_is_of_no_use_and_says_so(shell, wavs):
    bad = wavs / "bad"
    done = shell.run(
        "embed", bad / "silent.wav", bad / "clipped.wav", "--anyway", "--json"
    )
    assert len(json.loads(done.stdout)["embeddings"]) == 2
    assert "silent.wav: is silent" in done.stderr
    assert done.stderr.count("used all the same") == 2


@pytest.mark.parametrize("to_store", [False, True])
def test_less_than_a_frame_is_never_used(shell, tmp_path, to_store):
    soundfile.write(tmp_path / "click.wav", [0.5] * 159, RATE)
    words = ["embed", tmp_path / "click.wav", "--anyway"]
    words += ["-o", tmp_path / "store"] if to_store else []
    done = shell.run(*words, code=2)
    says = "click.wav: lasts 0.0099 s; the shortest that can be embedded is 0.0"
    assert says in done.stderr and "all the same" not in done.stderr


@pytest.mark.parametrize("name", ["new/store", "new/x.npz", "there/store"])
def test_where_nothing_is_written_nothing_is_left(shell, wavs, tmp_path, name):
    (tmp_path / "there").mkdir()
    path = tmp_path / name
    done = shell.run("embed", wavs / "bad" / "silent.wav", "-o", path, code=2)
    assert f"{path} is not written" in done.stderr
    assert [one.name for one in tmp_path.rglob("*")] == ["there"]


def test_names_of_two_formats_keep_their_extensions(
    shell, wavs, tmp_path, expected
):
    for number, name in enumerate(("a.wav", "a.WAV", "b.wav")):
        source = wavs / "anna" / f"{number % 2}.wav"
        shutil.copyfile(source, tmp_path / name)
    found = shell.json("embed", tmp_path)["embeddings"]
    assert list(found) == ["a.WAV", "a.wav", "b"]
    np.testing.assert_allclose(found["a.wav"], expected["anna/0"], atol=1e-5)
    np.testing.assert_allclose(found["a.WAV"], expected["anna/1"], atol=1e-5)


def test_names_and_a_recording_on_stdin(shell, wavs, tmp_path, expected):
    names = "\n".join(str(wavs / f"{name}.wav") for name in expected)
    found = shell.json("embed", "-", stdin=names)["embeddings"]
    check(found, {str(wavs / name): row for name, row in expected.items()})
    sound = (wavs / "anna" / "0.wav").read_bytes()
    done = shell.run("embed", "-", "-o", tmp_path / "x", stdin=sound, code=2)
    assert "x: a recording on standard input goes into a FILE" in done.stderr
    check(
        shell.json("embed", "-", stdin=sound)["embeddings"],
        {"-": expected["anna/0"]},
    )
    done = shell.json("embed", "-", stdin=b"\x7fELF\0", code=2)
    assert "'-': Format not recognised" in done["refused"]["-"]


def test_a_file_that_lacks_its_end_is_said(shell, wavs, tmp_path):
    whole, cut = wavs / "anna" / "0.wav", tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[: 44 + 2 * RATE])
    done = shell.run("embed", cut, "--json")
    assert "cut.wav: is cut short: 1.00 s are there, more" in done.stderr
    assert str(tmp_path / "cut") in json.loads(done.stdout)["embeddings"]
    assert "cut short" not in shell.run("embed", whole).stderr


def test_some_refused_and_all_refused_end_otherwise(shell, wavs):
    good, silent = wavs / "anna" / "0.wav", wavs / "bad" / "silent.wav"
    assert shell.run("embed", good, silent, code=1).stdout
    assert not shell.run("embed", silent, code=2).stdout


def test_weights_that_are_not_finite_are_said(shell, wavs, monkeypatch):
    load = hub.load

    def broken(*arguments, **options):
        model = load(*arguments, **options)
        next(model.mods.embedding_model.parameters()).data.fill_(torch.nan)
        return model

    monkeypatch.setattr(hub, "load", broken)
    done = shell.run("embed", wavs / "anna" / "0.wav", code=2)
    assert "0.wav: its embedding is not finite" in done.stderr


REFUSALS = [
    # words after `embed`, code, sentence on stderr
    (["{wavs}/bad/silent.wav"], 2, "silent.wav: is silent: its loudest 0.2 s"),
    (["{wavs}/bad/short.wav"], 2, "of speech; want 0.5 s or more. --anyway"),
    (["{wavs}/bad/clipped.wav"], 2, "of its samples are cut off, want 1 %"),
    (["{wavs}/bad/loud.wav"], 2, "loud.wav: exceeds full scale: its peak is"),
    (["{wavs}/bad/text.wav"], 2, "text.wav: cannot be decoded"),
    (["{wavs}/bad/empty.wav"], 2, "empty.wav: cannot be decoded"),
    (["not_there.wav"], 2, "not_there.wav: no such audio file."),
    (["{wavs}/*.mp3"], 2, "embed: {wavs}/*.mp3: no file fits this pattern."),
    (["{tmp}"], 2, "embed: {tmp}: no audio files there; want names that end"),
    (
        ["{wavs}/bad/silent.wav", "-o", "{tmp}/x.npz"],
        2,
        "embed: no recording is of use; {tmp}/x.npz is not written.",
    ),
    (
        ["{wavs}/anna", "-o", "{tmp}/x.npy"],
        2,
        "embed: --output {tmp}/x.npy: embeddings go into a folder, or into a",
    ),
    (
        ["{wavs}/anna", "-o", "{wavs}/bad/text.wav"],
        2,
        "text.wav: cannot be written",
    ),
    (
        ["{wavs}/anna", "{wavs}/ben", "-o", "{tmp}/x"],
        2,
        "anna/0.wav and {wavs}/ben/0.wav: would both be named 0.wav. Embed",
    ),
    (["{wavs}/anna", "--model", "nix"], 2, "embed: nix: folder not found."),
    (["{wavs}/anna", "--model", "a/b"], 2, "write hf://a/b"),
    (["{wavs}/anna", "--model", "{wavs}"], 2, "is not a model folder"),
    (["{wavs}/anna", "--device", "nix"], 2, "no such device here; it has cpu"),
    (["{wavs}/anna", "--nix"], 2, "No such option: --nix"),
    ([], 2, "Missing argument"),
]


@pytest.mark.parametrize(("words", "code", "says"), REFUSALS)
def test_bad_input_is_one_sentence(shell, wavs, tmp_path, words, code, says):
    words = [word.format(wavs=wavs, tmp=tmp_path) for word in words]
    done = shell.run("embed", *words, code=code)
    assert says.format(wavs=wavs, tmp=tmp_path) in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_the_model_of_the_variable_is_named_so(wavs):
    done = Shell("nix").run("embed", wavs / "anna", code=2)
    assert "folder not found. (SPEECHBRAIN_ATTN_MODEL names it.)" in done.stderr


def test_the_newest_model_of_the_demo_is_taken(model, wavs, monkeypatch):
    from speechbrain_attn.demo import run

    place = model.parents[1]
    monkeypatch.chdir(place)
    monkeypatch.setattr(run, "ROOT", place / "elsewhere")
    nowhere = Shell("")
    done = nowhere.run("embed", wavs / "anna", code=2)
    assert "no model: give --model FOLDER or --model hf://" in done.stderr
    left = place / run.OUTPUT / "synthetic_voices" / "serialized_mha"
    left.mkdir(parents=True)
    (left / "model").symlink_to(model)
    done = nowhere.run("embed", wavs / "anna")
    assert "which `make demo` left; it has heard synthetic" in done.stderr
    assert done.stdout.count("\n") == 2


def test_progress_is_silent_without_a_terminal(capsys):
    assert list(common.progress(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    assert recordings.AUDIO_EXTENSIONS[0] == ".wav"
