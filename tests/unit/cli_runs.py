"""What the tests of the command line share: recordings, and a shell."""

import json

import numpy as np
import soundfile
from typer.testing import CliRunner

from speechbrain_attn.cli import common
from speechbrain_attn.cli.app import app

RATE = 16000


def speech_like(seconds, slope=0.97, seed=0, rate=RATE):
    """Coloured noise in four syllables a second, [samples] float32."""
    noise = np.random.default_rng(seed).normal(0, 0.05, int(seconds * rate))
    noise[1:] += slope * noise[:-1]
    swing = np.sin(np.arange(len(noise)) * 4 * np.pi / rate) ** 2
    return (noise * swing).astype(np.float32)


def write_recordings(folder):
    """Two "speakers" of two recordings each, and some of no use."""
    for speaker, slope in (("anna", 0.97), ("ben", -0.97)):
        (folder / speaker).mkdir(parents=True)
        for number in range(2):
            wav = speech_like(1.5 + number, slope, seed=number)
            soundfile.write(folder / speaker / f"{number}.wav", wav, RATE)
    bad = folder / "bad"
    bad.mkdir()
    soundfile.write(bad / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(bad / "short.wav", speech_like(0.3), RATE)
    loud = speech_like(2) * 100
    soundfile.write(bad / "clipped.wav", np.clip(loud, -1, 1), RATE)
    soundfile.write(bad / "loud.wav", loud, RATE, subtype="FLOAT")
    (bad / "text.wav").write_text("no sound")
    (bad / "empty.wav").touch()
    return folder


class Shell:
    """Runs ``speechbrain-attn`` in this process, with one model."""

    def __init__(self, model):
        self.model = str(model)

    def run(self, *words, code=0, stdin=None):
        """The result of a command, which must end with a code."""
        common._said.clear()
        done = CliRunner().invoke(
            app,
            [str(word) for word in words],
            prog_name="speechbrain-attn",
            input=stdin,
            env={common.MODEL_VARIABLE: self.model, "COLUMNS": "80"},
        )
        assert done.exit_code == code, (done.output, done.exception)
        return done

    def json(self, *words, code=0, stdin=None):
        done = self.run(*words, "--json", code=code, stdin=stdin)
        return json.loads(done.stdout)
