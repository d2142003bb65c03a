"""Audio files in blocks are the audio files, sample by sample."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_attn.dataio import audio_blocks
from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.audio_blocks import waveform_blocks
from speechbrain_attn.errors import AudioError

RATES = (8000, 11_025, 16_000, 22_050, 44_100, 48_000)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(audio_blocks, "_BLOCK_SECONDS", 1)


def noise(rate, seconds=3.37, channels=1):
    draw = np.random.default_rng(rate)
    return draw.normal(0, 0.1, (int(rate * seconds), channels))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", (1, 2))
def test_blocks_join_to_the_file_at_any_rate(tmp_path, rate, channels):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(rate, channels=channels), rate)
    blocks = list(waveform_blocks(path))
    assert len(blocks) > 3
    assert {block.dtype for block in blocks} == {torch.float32}
    assert torch.equal(torch.cat(blocks), read_waveform(path))


@pytest.mark.parametrize("kind", ("wav", "ogg", "mp3", "m4a"))
def test_blocks_join_to_files_of_any_kind(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "m4a":
        write_m4a(path)
    else:
        soundfile.write(path, noise(44_100), 44_100)
    # libsndfile rounds an mp3 differently where a read begins.
    torch.testing.assert_close(
        torch.cat(list(waveform_blocks(path))),
        read_waveform(path),
        atol=1e-7 if kind == "mp3" else 0.0,
        rtol=0.0,
    )


def write_m4a(path):
    av = pytest.importorskip("av", reason="m4a needs the extra av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="stereo")
        wav = np.ascontiguousarray(noise(44_100, channels=2).T, dtype="f4")
        frame = av.AudioFrame.from_ndarray(wav, format="fltp", layout="stereo")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AudioError, match="b.wav: no such audio file"):
        next(waveform_blocks(tmp_path / "b.wav"))


def test_what_is_no_audio_is_named(tmp_path):
    path = tmp_path / "b.wav"
    path.write_text("no sound")
    with pytest.raises(AudioError, match="b.wav: cannot be decoded"):
        next(waveform_blocks(path))


@pytest.mark.parametrize("rate", (16_000, 48_000))
def test_an_empty_file_is_named(tmp_path, rate):
    path = tmp_path / "b.wav"
    soundfile.write(path, np.zeros(0), rate)
    with pytest.raises(AudioError, match="b.wav: holds no samples"):
        next(waveform_blocks(path))


def test_nan_is_named_with_its_place(tmp_path):
    path = tmp_path / "b.wav"
    wav = noise(16_000)
    wav[40_000] = np.nan
    soundfile.write(path, wav, 16_000, subtype="FLOAT")
    blocks = waveform_blocks(path)
    assert len(next(blocks)) + len(next(blocks)) == 32_000
    with pytest.raises(AudioError, match="b.wav: holds NaN.* near 2 s"):
        next(blocks)
