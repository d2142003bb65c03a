"""A tiny corpus of made-up voices, and overrides for runs of seconds."""

import numpy as np
import pytest
import soundfile

RATE = 16000
SPEAKERS = [f"id{number}" for number in range(10001, 10009)]


def voice(speaker, draw, seconds):
    """Harmonics of a pitch and a noise floor, both of the speaker."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 90 + 23 * speaker + draw.normal()
    tilt = 0.5 + 0.1 * speaker
    wave = sum(
        np.sin(2 * np.pi * pitch * k * time + draw.uniform(0, 6)) / k**tilt
        for k in range(1, 11)
    )
    return 0.05 * wave + 0.01 * draw.standard_normal(len(time))


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory):
    """Folder with wav/<speaker>/<session>/<utterance>.wav.

    Eight speakers, two sessions of three files; the first of each session
    lasts 3.1 s, as SpeechBrain's verification wants chunks of 3 s, the others
    1 s.
    """
    folder = tmp_path_factory.mktemp("corpus")
    draw = np.random.default_rng(7)
    for index, speaker in enumerate(SPEAKERS):
        for session in ("aaa", "bbb"):
            place = folder / "wav" / speaker / session
            place.mkdir(parents=True)
            for number in range(1, 4):
                seconds = 3.1 if number == 1 else 1.0
                wave = voice(index, draw, seconds)
                soundfile.write(place / f"{number:05d}.wav", wave, RATE)
    return folder


def write_trials(path, first, second):
    """All trials of two speakers across their sessions."""
    lines = [
        f"{int(a == b)} {a}/aaa/{i:05d}.wav {b}/bbb/{j:05d}.wav\n"
        for a in (first, second)
        for b in (first, second)
        for i in (2, 3)
        for j in (2, 3)
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def trials(tmp_path_factory):
    """Trial list of the first two speakers."""
    path = tmp_path_factory.mktemp("lists") / "test.txt"
    return write_trials(path, *SPEAKERS[:2])


@pytest.fixture(scope="session")
def validation_trials(tmp_path_factory):
    """Trial list of the next two, to be held back from training."""
    path = tmp_path_factory.mktemp("lists") / "validation.txt"
    return write_trials(path, *SPEAKERS[2:4])


@pytest.fixture(scope="session")
def tiny_run(tiny_corpus, trials):
    """Overrides for a training of seconds, as a dict to add to."""
    return {
        "data_folder": tiny_corpus,
        "verification_file": trials,
        "out_n_neurons": 6,
        "sentence_len": 0.5,
        "batch_size": 8,
        "number_of_epochs": 2,
        "num_workers": 0,
        "device": "cpu",
        "noprogressbar": True,
    }


@pytest.fixture(scope="session")
def tiny_xvector(tiny_run):
    """The same for hparams/baselines/xvector.yaml."""
    return {**tiny_run, "channels": 12, "stat_channels": 24, "emb_dim": 8}


@pytest.fixture(scope="session")
def tiny_ge2e(tiny_run):
    """The same for hparams/self_attentive_tdnn.yaml: 9 batches an epoch."""
    of_a_classifier = {"out_n_neurons", "sentence_len", "batch_size"}
    return {
        **{key: tiny_run[key] for key in tiny_run.keys() - of_a_classifier},
        "validation_file": "null",
        "num_speakers": 2,
        "num_utterances": 2,
        "min_frames": 40,
        "max_frames": 60,
        "channels": 12,
        "embedding_size": 8,
    }
