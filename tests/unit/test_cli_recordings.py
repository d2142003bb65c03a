"""Names on a command line, and on its stdin, to audio files."""

import errno
import io
import os
import sys

import numpy as np
import pytest
import soundfile
from cli_runs import RATE

from speechbrain_attn.cli.recordings import audio_paths, file_of
from speechbrain_attn.errors import AttnError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with some files."""
    for name in ("b/2.wav", "b/1.FLAC", "b/c/3.aiff", "b/._1.wav", "a.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    (tmp_path / "b" / "notes.txt").touch()
    (tmp_path / "b" / ".hidden").mkdir()
    (tmp_path / "b" / ".hidden" / "4.wav").touch()
    (tmp_path / "none").mkdir()
    (tmp_path / "[x].wav").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stdin(monkeypatch):
    def fill(content):
        stream = io.TextIOWrapper(io.BytesIO(content))
        monkeypatch.setattr(sys, "stdin", stream)

    return fill


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (["a.wav", "not_there.wav"], ["a.wav", "not_there.wav"]),
        (["a.wav", "b/2.wav", "a.wav"], ["a.wav", "b/2.wav"]),
        (["b"], ["b/1.FLAC", "b/2.wav", "b/c/3.aiff"]),
        (["b/"], ["b/1.FLAC", "b/2.wav", "b/c/3.aiff"]),
        (["b/*.wav"], ["b/2.wav"]),
        (["**/*.wav"], ["[x].wav", "a.wav", "b/2.wav"]),
        (["[x].wav"], ["[x].wav"]),
        (["b*"], ["b/1.FLAC", "b/2.wav", "b/c/3.aiff"]),  # as a shell has it
        # A file that somebody names or matches may be called anything.
        (["b/notes.txt", "b/*"], ["b/notes.txt", "b/1.FLAC", "b/2.wav"]),
    ],
)
def test_files_folders_and_patterns(folder, arguments, paths):
    assert audio_paths(arguments) == paths


def test_names_come_from_stdin(folder, stdin):
    stdin("a.wav\n\n  b \r\nü \udcff.wav".encode(errors="surrogateescape"))
    found = audio_paths(["-"])
    assert found[:2] == ["a.wav", "b/1.FLAC"] and found[-1] == "ü \udcff.wav"


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "AIFF", "MP3"])
def test_a_recording_comes_from_stdin(stdin, kind, tmp_path, monkeypatch):
    content = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    soundfile.write(content, noise, RATE, format=kind)
    stdin(content.getvalue())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").mkdir()  # has no say
    assert audio_paths(["-"]) == ["-"]
    path = file_of("-")
    assert soundfile.info(path).frames == RATE
    os.remove(path)
    assert file_of("other.wav") == "other.wav"


def test_no_room_for_what_comes_from_stdin_is_said(stdin, monkeypatch):
    def full(path, *args):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr("builtins.open", full)
    stdin(b"RIFF\0")
    says = r"-: cannot be kept in .* \(No space left on device\). Set TMPDIR"
    with pytest.raises(AttnError, match=says):
        audio_paths(["-"])


def test_links_show_no_recording_twice(folder):
    """But one that is elsewhere is found."""
    for link, target in (
        ("b/a_loop", "."),
        ("b/c/up", ".."),
        ("b/also_c", "c"),
        ("b/away", "../none"),
    ):
        (folder / link).symlink_to(target)
    (folder / "none" / "x.wav").touch()
    assert audio_paths(["b"]) == [
        "b/1.FLAC",
        "b/2.wav",
        "b/c/3.aiff",
        "b/away/x.wav",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none"], r"none: no audio files there; .*\.wav, \.flac"),
        (["b/*.mp3"], r"b/\*\.mp3: no file fits this pattern"),
        (["-"], "-: want names of audio files on standard input"),
    ],
)
def test_what_names_nothing_is_refused(folder, stdin, arguments, says):
    stdin(b"\n")
    with pytest.raises(AttnError, match=says):
        audio_paths(arguments)
