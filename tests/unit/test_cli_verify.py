"""verify: what is printed of two recordings and more."""

import json
import shutil

import numpy as np
import pytest
import torch
from cli_runs import Shell, write_recordings
from hub_folders import write_run

from speechbrain_attn import hub
from speechbrain_attn.cli import recordings
from speechbrain_attn.scoring.calibration import Calibration


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("hub") / "run") / "model"


def calibrated(model, folder, **options):
    """A copy of a model folder, with a calibration."""
    shutil.copytree(model, folder)
    draw = np.random.default_rng(0)
    scores = np.r_[draw.normal(0.6, 0.2, 300), draw.normal(0.1, 0.2, 700)]
    labels = np.arange(1000) < 300
    fitted = Calibration.fit(scores, labels, **options)
    fitted.save(folder / "calibration.json")
    return fitted


@pytest.fixture(scope="module")
def wavs(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("wavs"))


@pytest.fixture
def shell(model):
    return Shell(model)


def cosine(model, one, other):
    loaded = hub.load(model, device="cpu")
    sides = [loaded.encode_batch(loaded.load_audio(p)) for p in (one, other)]
    return torch.nn.functional.cosine_similarity(*sides, dim=-1).item()


def test_without_calibration_only_the_cosine_is_said(shell, model, wavs):
    one, other = wavs / "anna" / "0.wav", wavs / "anna" / "1.wav"
    done = shell.run("verify", one, other)
    first, second, third, _ = done.stdout.split("\n", 3)
    assert first == f"{one} and {other}: no decision"
    assert float(second.split()[1]) == pytest.approx(
        cosine(model, one, other), abs=1e-4
    )
    assert "has no calibration.json" in third
    assert "log-likelihood" not in done.stdout and done.stderr == ""


def test_a_calibration_gives_ratio_posterior_and_decision(
    model, wavs, tmp_path
):
    fitted = calibrated(model, tmp_path / "model")
    one, other = wavs / "anna" / "0.wav", wavs / "ben" / "1.wav"
    shell = Shell(tmp_path / "model")
    done = shell.json("verify", one, other, "--prior", 0.1)
    [pair] = done["pairs"]
    assert done["prior"] == 0.1 and done["threshold"] is None
    assert (pair["enrolment"], pair["test"]) == (str(one), str(other))
    expected = fitted.llr(cosine(model, one, other))
    assert pair["llr"] == pytest.approx(expected, abs=1e-3)
    posterior = Calibration.posterior(pair["llr"], 0.1)
    assert pair["posterior"] == pytest.approx(posterior)
    assert pair["same"] == (posterior >= 0.5)
    text = shell.run("verify", one, other, "--prior", 0.1).stdout
    word = "same speaker" if pair["same"] else "different speakers"
    assert text.startswith(f"{one} and {other}: {word}\n")
    assert f"log-likelihood ratio  {pair['llr']:+7.2f}\n" in text
    assert f"{pair['posterior']:7.4f}  (prior 0.1)\n" in text
    assert f"  {pair['meaning']}\n" in text


def test_durations_are_read_where_the_calibration_wants_them(
    model, wavs, tmp_path, monkeypatch
):
    durations = np.random.default_rng(1).uniform(1, 9, (1000, 2))
    fitted = calibrated(model, tmp_path / "model", durations=durations)
    one, other = wavs / "anna" / "0.wav", wavs / "anna" / "1.wav"
    expected = fitted.llr(cosine(model, one, other), [1.5, 2.5])
    done = Shell(tmp_path / "model").json("verify", one, other)
    assert done["pairs"][0]["llr"] == pytest.approx(expected, abs=1e-3)
    # Where a header does not tell, decoding does.
    monkeypatch.setattr(recordings, "_header", lambda _: None)
    done = Shell(tmp_path / "model").json("verify", one, other)
    assert done["pairs"][0]["llr"] == pytest.approx(expected, abs=1e-3)


def test_the_calibration_of_another_model_is_refused(model, wavs, tmp_path):
    calibrated(model, tmp_path / "model", model_sha256="0" * 64)
    words = ("verify", wavs / "anna/0.wav", wavs / "anna/1.wav")
    done = Shell(tmp_path / "model").run(*words, code=2)
    assert "calibration.json was fitted on another model's" in done.stderr


def test_the_first_is_compared_with_each_other(shell, wavs):
    one = wavs / "anna" / "0.wav"
    done = shell.json("verify", one, wavs, "--threshold", 0.5, code=1)
    tests = [pair["test"] for pair in done["pairs"]]
    assert tests == [
        str(wavs / name / f"{number}.wav")
        for name in ("anna", "ben")
        for number in (0, 1)
    ]
    # A recording is as itself.
    assert done["pairs"][0]["cosine"] == pytest.approx(1, abs=1e-5)
    assert done["pairs"][0]["same"] is True
    assert len(done["refused"]) == 6
    names = "\n".join(tests)
    again = shell.json("verify", one, "-", "--threshold", 0.5, stdin=names)
    assert again["pairs"] == done["pairs"]


def test_a_recording_on_stdin_is_the_first(shell, wavs):
    one, other = wavs / "anna" / "0.wav", wavs / "ben" / "0.wav"
    [direct] = shell.json("verify", one, other)["pairs"]
    done = shell.json("verify", "-", other, stdin=one.read_bytes())
    assert done["pairs"][0]["cosine"] == pytest.approx(direct["cosine"])
    assert done["pairs"][0]["enrolment"] == "-"


def test_only_tests_of_no_use_leave_no_pair(shell, wavs):
    words = ("verify", wavs / "anna/0.wav", wavs / "bad/silent.wav")
    done = shell.run(*words, "--json", code=2)
    assert json.loads(done.stdout)["pairs"] == []
    assert "silent.wav: is silent" in done.stderr


REFUSALS = [
    (["{a}"], "Missing argument"),
    (["{wavs}/anna", "{a}"], "{wavs}/anna: 2 recordings; give one"),
    (["{wavs}/bad/silent.wav", "{a}"], "was refused, so nothing is compared"),
    (["nix.wav", "{a}"], "nix.wav: no such audio file."),
    (["{a}", "{a}", "--prior", "1"], "prior: want a probability"),
    (["{a}", "{a}", "--prior", "x"], "Invalid value for '--prior'"),
    (["{a}", "{a}", "--threshold", "2"], "threshold=2: want a cosine"),
    (["{a}", "{a}", "--threshold", "eer"], "threshold=eer: This model has no"),
    (["{a}", "{wavs}/*.mp3"], "no file fits this pattern"),
]


@pytest.mark.parametrize(("words", "says"), REFUSALS)
def test_bad_input_is_one_sentence(shell, wavs, words, says):
    places = {"a": wavs / "anna" / "0.wav", "wavs": wavs}
    words = [word.format(**places) for word in words]
    done = shell.run("verify", *words, code=2)
    assert says.format(**places) in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_a_calibration_of_no_known_model_counts(model, tmp_path):
    fitted = calibrated(model, tmp_path / "model")
    loaded = hub.load(tmp_path / "model", device="cpu")
    assert loaded.own_calibration() == fitted
    assert hub.load(model, device="cpu").own_calibration() is None
