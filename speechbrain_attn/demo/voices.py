"""A small corpus of made-up voices in VoxCeleb's layout.

    python -m speechbrain_attn.demo.voices FOLDER

writes ``FOLDER/wav/<speaker>/<session>/<utterance>.wav`` (16 kHz, mono, 16
bit), the trial lists ``veri_dev.txt`` (validation speakers) and
``veri_test.txt`` (test speakers), and a README that says that nobody speaks
here: all voices are synthetic (espeak-ng). It serves to see every step run,
not to say how well a system does on people.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from speechbrain_attn.demo.channels import apply_channel, draw_channel
from speechbrain_attn.demo.espeak import ACCENTS, open_espeak
from speechbrain_attn.demo.sentences import make_sentence
from speechbrain_attn.errors import AttnError, exit_on_error

SAMPLE_RATE = 16000  # samples per second
_SETTINGS_FILE = "corpus.json"
_README = """\
Synthetic voices: every recording in this folder was made by a program
(espeak-ng, by speechbrain_attn.demo.voices). Nobody speaks here. A result on
it shows that the programs run; it says nothing about real speech.
"""


@dataclass(frozen=True)
class CorpusSettings:
    """What a made-up corpus holds; equal settings give equal bytes.

    Attributes
    ----------
    num_train, num_validation, num_test : int
        Speakers of each split; nobody is in two.
    num_sessions : int
        Of each speaker. Each session has a channel of its own.
    num_utterances : int
        Of each session.
    min_s, max_s : float
        Shortest and longest utterance, in seconds.
    seed : int
        Of everything that is drawn.
    """

    num_train: int = 60
    num_validation: int = 12
    num_test: int = 16
    num_sessions: int = 2
    num_utterances: int = 5
    min_s: float = 3.0
    max_s: float = 5.0
    seed: int = 1234

    def check(self):
        """Raise AttnError where the settings make no corpus."""
        least = {"num_sessions": 1, "num_utterances": 1}
        for name in ("num_train", "num_validation", "num_test", *least):
            value = getattr(self, name)
            if value < least.get(name, 0):
                raise AttnError(
                    f"{name}: want at least {least.get(name, 0)}, got {value}."
                )
        if not 0.1 <= self.min_s <= self.max_s:
            raise AttnError(
                "utterances of min_s to max_s seconds: want 0.1 <= min_s <= "
                f"max_s, got {self.min_s} and {self.max_s}."
            )


@dataclass(frozen=True)
class Voice:
    """One made-up speaker: what stays the same in all that it says.

    ``accent`` and ``variant`` are espeak-ng's; ``rate`` is in words per
    minute, ``pitch`` and ``pitch_range`` are on espeak-ng's scale of 0 to 99.
    ``warp`` is the factor on all frequencies, as of a shorter vocal tract.
    """

    name: str
    accent: str
    variant: str
    rate: float
    pitch: float
    pitch_range: float
    warp: float


def make_corpus(folder, settings=None, progress=True):
    """Write the corpus, or keep the one that is there.

    Arguments
    ---------
    folder : str or Path
        Made where it is missing.
    settings : CorpusSettings
        None gives the defaults: 880 utterances, about an hour.
    progress : bool
        Show a bar.

    Returns
    -------
    Path
        The folder; its ``wav`` is what VoxCeleb calls the data folder's.

    Raises
    ------
    AttnError
        espeakng-loader is missing, the settings make no corpus, or the folder
        holds a corpus with other settings.
    """
    folder, settings = Path(folder), settings or CorpusSettings()
    settings.check()
    done = folder / _SETTINGS_FILE
    if done.exists():
        there = json.loads(done.read_text())
        if there != asdict(settings):
            raise AttnError(
                f"{folder} holds made-up voices with other settings: {there}; "
                f"asked for {asdict(settings)}. Name another folder, or "
                "delete this one."
            )
        return folder
    _write_wavs(folder, settings, progress)
    names = _split_names(settings)
    rng = np.random.default_rng([settings.seed, 2])
    for split, stem in (("validation", "veri_dev"), ("test", "veri_test")):
        lines = draw_trials(names[split], settings, rng)
        (folder / f"{stem}.txt").write_text("".join(lines))
    (folder / "README.txt").write_text(_README)
    # Written last: without it, a corpus is unfinished and is made again.
    partial = done.with_suffix(".tmp")
    partial.write_text(json.dumps(asdict(settings), indent=2) + "\n")
    partial.replace(done)
    return folder


def _split_names(settings):
    """Speaker names of each split, {split: list of str}."""
    sizes = {
        "train": settings.num_train,
        "validation": settings.num_validation,
        "test": settings.num_test,
    }
    numbers = iter(range(1, sum(sizes.values()) + 1))
    return {
        split: [f"synth{next(numbers):04d}" for _ in range(size)]
        for split, size in sizes.items()
    }


def draw_voices(names, variants, rng):
    """Draw speakers as different as possible.

    Each quantity takes evenly spaced values over all speakers, in an order of
    its own (a Latin hypercube), and no variant comes twice before all came.
    """
    count = len(names)

    def spread(low, high):
        return rng.permutation(np.linspace(low, high, count))

    def deal(values):
        rounds = -(-count // len(values))
        return np.concatenate([rng.permutation(values) for _ in range(rounds)])

    columns = zip(
        names,
        deal(ACCENTS),
        deal(variants),
        spread(130, 200),
        spread(15, 85),
        spread(20, 80),
        spread(0.85, 1.18),
        strict=False,  # the dealt columns are longer
    )
    return [Voice(*column) for column in columns]


def _write_wavs(folder, settings, progress):
    names = [n for split in _split_names(settings).values() for n in split]
    rng = np.random.default_rng([settings.seed, 1])
    per_speaker = settings.num_sessions * settings.num_utterances
    with (
        open_espeak(settings.seed) as espeak,
        tqdm(
            total=len(names) * per_speaker,
            desc="made-up voices",
            unit="utt",
            disable=not progress,
        ) as bar,
    ):
        for voice in draw_voices(names, espeak.variants, rng):
            for session in range(1, settings.num_sessions + 1):
                channel = draw_channel(rng, SAMPLE_RATE)
                target = folder / "wav" / voice.name / f"session{session}"
                target.mkdir(parents=True, exist_ok=True)
                for number in range(1, settings.num_utterances + 1):
                    speech = _say(espeak, voice, settings, rng)
                    speech = apply_channel(channel, speech, rng)
                    soundfile.write(
                        target / f"{number:05d}.wav",
                        speech,
                        SAMPLE_RATE,
                        subtype="PCM_16",
                    )
                    bar.update()


def _say(espeak, voice, settings, rng):
    """One utterance of a voice without its channel, [samples]."""
    wanted = int(rng.uniform(settings.min_s, settings.max_s) * SAMPLE_RATE)
    # People do not keep one pitch and one pace from sentence to sentence.
    rate = voice.rate * rng.uniform(0.93, 1.07) / voice.warp
    pitch = np.clip(voice.pitch + rng.uniform(-4, 4), 0, 99)
    speech = np.zeros(0, dtype=np.float32)
    while len(speech) < wanted:
        sentence = espeak.speak(
            make_sentence(rng),
            voice.accent,
            voice.variant,
            rate,
            pitch,
            voice.pitch_range,
        )
        # Played faster by the warp, which moves the formants too.
        sentence = soxr.resample(
            sentence, espeak.sample_rate * voice.warp, SAMPLE_RATE
        )
        speech = np.concatenate([speech, sentence])
    return speech[:wanted]


def draw_trials(names, settings, rng):
    """Draw a balanced trial list in VoxCeleb's format.

    Targets are all pairs of utterances of one speaker across sessions (within
    the session, where speakers have only one); there are equally many
    nontargets as far as the speakers allow. No pair comes twice.

    Returns
    -------
    list of str
        Lines ``1 speaker/session/utterance.wav speaker/session/utterance.wav``
        (1 for targets, 0 for nontargets).
    """
    utterances = [
        (name, session, f"{name}/session{session}/{number:05d}.wav")
        for name in names
        for session in range(1, settings.num_sessions + 1)
        for number in range(1, settings.num_utterances + 1)
    ]
    targets, nontargets = [], []
    for one, other in combinations(utterances, 2):
        if one[0] != other[0]:
            nontargets.append((one[2], other[2]))
        elif one[1] != other[1] or settings.num_sessions == 1:
            targets.append((one[2], other[2]))
    count = min(len(targets), len(nontargets))
    lines = []
    for label, pairs in (("1", targets), ("0", nontargets)):
        for index in rng.permutation(len(pairs))[:count]:
            lines.append(f"{label} {' '.join(rng.permutation(pairs[index]))}\n")
    return [lines[index] for index in rng.permutation(len(lines))]


@exit_on_error
def main(arguments=None):
    """Command line of this file."""
    parser = argparse.ArgumentParser(
        prog="python -m speechbrain_attn.demo.voices",
        description="Write a small corpus of synthetic voices.",
    )
    parser.add_argument("folder", help="where to write it")
    for name, default in asdict(CorpusSettings()).items():
        parser.add_argument(
            f"--{name}",
            type=type(default),
            default=default,
            help=f"default: {default}",
        )
    options = vars(parser.parse_args(arguments))
    folder = options.pop("folder")
    make_corpus(folder, CorpusSettings(**options))
    print(f"{folder}: synthetic voices in wav/, trial lists veri_*.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
