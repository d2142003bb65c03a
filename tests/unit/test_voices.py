"""The made-up voices: layout, seeds, speakers, trial lists, bad input."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("espeakng_loader", reason="made-up voices: extra 'demo'")

from speechbrain_attn.demo.channels import apply_channel, draw_channel
from speechbrain_attn.demo.espeak import ACCENTS, open_espeak
from speechbrain_attn.demo.voices import (
    CorpusSettings,
    draw_trials,
    draw_voices,
    main,
    make_corpus,
)
from speechbrain_attn.errors import AttnError

TINY = CorpusSettings(
    num_train=3,
    num_validation=2,
    num_test=2,
    num_sessions=2,
    num_utterances=2,
    min_s=1.1,
    max_s=1.7,
    seed=7,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("voices"), TINY, progress=False)


def wav_bytes(folder):
    paths = sorted(Path(folder, "wav").rglob("*.wav"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def trials(path):
    return [line.split() for line in Path(path).read_text().splitlines()]


def test_layout_is_that_of_voxceleb(corpus):
    paths = sorted((corpus / "wav").glob("*/*/*.wav"))
    assert len(paths) == 7 * 2 * 2
    for path in paths:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (16000, 1)
        assert info.subtype == "PCM_16"
        assert 1.1 <= info.duration <= 1.7
        samples, _ = soundfile.read(path)
        level_db = 10 * np.log10(np.mean(samples**2))
        assert -34 < level_db < -18
    assert "synthetic" in (corpus / "README.txt").read_text().lower()


def test_same_seed_gives_same_bytes_whatever_was_spoken_before(
    corpus, tmp_path
):
    with open_espeak(seed=99) as espeak:
        espeak.speak("Something else.", "en", "whisper", 150, 50, 50)
        again = make_corpus(tmp_path / "again", TINY, progress=False)
    assert wav_bytes(again) == wav_bytes(corpus)
    for name in ("veri_dev.txt", "veri_test.txt"):
        assert (again / name).read_text() == (corpus / name).read_text()


def test_another_process_gives_the_same_bytes(corpus, tmp_path):
    options = [f"--{k}={v}" for k, v in vars(TINY).items()]
    module = "speechbrain_attn.demo.voices"
    subprocess.run(
        [sys.executable, "-m", module, tmp_path, *options],
        check=True,
        capture_output=True,
    )
    assert wav_bytes(tmp_path) == wav_bytes(corpus)


def test_another_seed_gives_other_recordings(corpus, tmp_path):
    other = make_corpus(tmp_path, replace(TINY, seed=8), progress=False)
    assert not set(wav_bytes(other).values()) & set(wav_bytes(corpus).values())


def test_second_call_keeps_what_is_there(tmp_path):
    small = replace(TINY, num_train=1, num_validation=0, num_test=0)
    make_corpus(tmp_path, small, progress=False)
    path = next(tmp_path.rglob("*.wav"))
    path.write_bytes(b"kept")
    make_corpus(tmp_path, small, progress=False)
    assert path.read_bytes() == b"kept"
    # An interrupted corpus has no settings file and is made again.
    (tmp_path / "corpus.json").unlink()
    make_corpus(tmp_path, small, progress=False)
    assert path.read_bytes() != b"kept"


def test_other_settings_in_the_same_folder_are_refused(corpus):
    with pytest.raises(AttnError, match="other settings.*another folder"):
        make_corpus(corpus, replace(TINY, seed=9), progress=False)


@pytest.mark.parametrize(
    "name, speakers", [("veri_dev", {4, 5}), ("veri_test", {6, 7})]
)
def test_trials_are_balanced_across_sessions_without_repeats(
    corpus, name, speakers
):
    rows = trials(corpus / f"{name}.txt")
    assert Counter(label for label, *_ in rows) == {"1": 8, "0": 8}
    assert len({frozenset(sides) for _, *sides in rows}) == 16
    for label, *sides in rows:
        one, other = (side.split("/") for side in sides)
        assert all((corpus / "wav" / side).exists() for side in sides)
        assert {int(one[0][5:]), int(other[0][5:])} <= speakers
        assert (one[0] == other[0]) == (label == "1")
        if label == "1":
            assert one[1] != other[1]


def test_one_session_gives_targets_within_it():
    settings = replace(TINY, num_sessions=1, num_utterances=3)
    lines = draw_trials(["a", "b"], settings, np.random.default_rng(0))
    assert Counter(line[0] for line in lines) == {"1": 6, "0": 6}


def test_voices_differ_in_everything():
    variants = [f"variant{index}" for index in range(104)]
    names = [f"synth{index:04d}" for index in range(88)]
    voices = draw_voices(names, variants, np.random.default_rng(3))
    assert [voice.name for voice in voices] == names
    for field in ("variant", "rate", "pitch", "pitch_range", "warp"):
        assert len({getattr(voice, field) for voice in voices}) == 88
    accents = Counter(voice.accent for voice in voices)
    assert accents == dict.fromkeys(ACCENTS, 11)


def test_pitch_and_warp_are_heard():
    """A higher setting makes a higher voice, a faster rate a shorter one."""
    with open_espeak() as espeak:

        def seconds_and_zero_crossings(rate, pitch):
            speech = espeak.speak("Oh no, no.", "en", "m1", rate, pitch, 50)
            crossings = np.count_nonzero(np.diff(np.sign(speech)))
            return len(speech) / espeak.sample_rate, crossings / len(speech)

        slow, _ = seconds_and_zero_crossings(120, 50)
        fast, low = seconds_and_zero_crossings(220, 10)
        _, high = seconds_and_zero_crossings(220, 90)
    assert slow > 1.3 * fast
    assert high > 1.1 * low


def test_every_accent_and_variant_speaks():
    with open_espeak() as espeak:
        assert len(espeak.variants) >= 100
        for accent in ACCENTS:
            espeak.speak("A word.", accent, "f2", 170, 50, 50)
        for variant in espeak.variants:
            speech = espeak.speak("A word.", "en-us", variant, 170, 50, 50)
            assert np.abs(speech).max() > 0.01


def test_unknown_accent_is_refused():
    with open_espeak() as espeak:
        with pytest.raises(AttnError, match=r"no voice 'zz\+f2'; accents: en"):
            espeak.speak("A word.", "zz", "f2", 170, 50, 50)


def test_channel_sets_level_and_noise():
    rng = np.random.default_rng(5)
    channel = draw_channel(rng)
    speech = np.zeros(32000)
    speech[:16000] = np.sin(np.arange(16000) * 0.3)
    recorded = apply_channel(channel, speech, rng)
    assert recorded.dtype == np.float32 and recorded.shape == speech.shape

    def level_db(samples):
        return 10 * np.log10(np.mean(samples**2))

    assert level_db(recorded) == pytest.approx(channel.level_db, abs=0.3)
    # The last quarter is beyond the room's tail: noise alone.
    noise_db = channel.level_db - channel.snr_db
    assert level_db(recorded[24000:]) == pytest.approx(noise_db, abs=1.5)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"num_sessions": 0}, "num_sessions: want at least 1, got 0"),
        ({"num_train": -1}, "num_train: want at least 0, got -1"),
        ({"min_s": 0.0}, "min_s <= max_s, got 0.0 and 1.7"),
        ({"min_s": 2.0}, "min_s <= max_s, got 2.0 and 1.7"),
    ],
)
def test_settings_that_make_no_corpus(tmp_path, change, says):
    with pytest.raises(AttnError, match=says):
        make_corpus(tmp_path / "none", replace(TINY, **change))
    assert not (tmp_path / "none").exists()


def test_missing_espeak_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(SystemExit, match="^2$"):
        main([str(tmp_path)])
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.endswith("pip install espeakng-loader")
