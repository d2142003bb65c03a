"""README's commands and code run as they stand, on small stand-ins."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from speechbrain_attn.demo.results import rendered_files
from speechbrain_attn.scoring.store import EmbeddingStore

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

# What a reader puts in, or what makes the training small.
SMALL = (
    " --out_n_neurons=4 --number_of_epochs=1 --batch_size=8 --channels=16"
    " --embedding_size=8 --num_layers=2 --num_workers=0 --device=cpu"
)


def blocks(language):
    return [body for kind, body in BLOCKS if kind == language]


def commands_with(words):
    """Commands of the one bash block that has some words."""
    (block,) = (body for body in blocks("bash") if words in body)
    return commands(block)


def substitute(text, **pairs):
    """Text with each old string, which must occur, replaced by a new one."""
    for old, new in pairs.items():
        assert old in text, f"README does not say {old!r} any more"
        text = text.replace(old, str(new))
    return text


def commands(block):
    """The block's commands, each on one line, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+#.*", "", line) for line in lines]


def test_every_block_is_of_a_kind_that_is_run():
    assert [kind for kind, _ in BLOCKS].count("bash") == 4
    assert {kind for kind, _ in BLOCKS} == {"bash", "python", "yaml"}


def test_make_has_the_commands():
    for command in commands_with("make "):
        assert re.fullmatch(r"make [a-z]+", command)
        subprocess.run(
            [*command.split(), "--dry-run"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )


def test_stored_embeddings_are_scored(tmp_path):
    draw = np.random.default_rng(3)
    names = [f"id{speaker}/s/{take}" for speaker in "abcd" for take in "12"]
    store = tmp_path / "store"
    EmbeddingStore.create(store, names, draw.standard_normal((8, 4)))
    trials = tmp_path / "trials.txt"
    pairs = [(one, other) for one in names[::2] for other in names[1::2]]
    trials.write_text(
        "".join(f"{int(a[:3] == b[:3])} {a} {b}\n" for a, b in pairs)
    )
    (command,) = commands_with("speechbrain_attn.scoring")
    text = substitute(command, **{"STORE": store, "list.txt": trials})
    done = subprocess.run(
        [sys.executable, *text.split()[1:]],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "16 trials" in done.stdout and "cosine: EER" in done.stdout


def test_tables_and_pages_agree_with_their_data():
    for path, text in rendered_files(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path.name} differs from its data; run `make docs`"
        )


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists()


def test_lobe_and_pooling_in_python(capsys):
    (code,) = (b for b in blocks("python") if "SerializedMHA" in b)
    exec(code, {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("torch.Size([2, 1, ")
    assert second.endswith("torch.Size([2, 2, 300])")


def test_yaml_builds_a_network():
    (text,) = blocks("yaml")
    network = load_hyperpyyaml(text)["embedding_model"]
    assert network(torch.rand(2, 50, 80)).shape == (2, 1, 192)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    pytest.importorskip("espeakng_loader", reason="made-up voices")
    from speechbrain_attn.demo.voices import CorpusSettings, make_corpus

    return make_corpus(
        tmp_path_factory.mktemp("readme") / "corpus",
        CorpusSettings(num_train=4, num_validation=0, num_test=2),
        progress=False,
    )


def test_train_score_and_verify(corpus, tmp_path, monkeypatch, capsys):
    """Training and scoring, then what uses their model: Python, commands."""
    for name in ("recipes", "hparams"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    install, change, train, verify = commands_with("train_speaker")
    assert install == "pip install -e '.[plots]'"
    recipe = tmp_path / change.removeprefix("cd ")
    places = {
        "/path/to/VoxCeleb": corpus,
        "/path/to/veri_test2.txt": corpus / "veri_test.txt",
    }
    for command in (train + SMALL, verify):
        command = substitute(command, **places, **{"python ": ""})
        finished = subprocess.run(
            [sys.executable, *command.split()],
            cwd=recipe,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert finished.returncode == 0, finished.stderr
    assert "EER" in finished.stdout

    (code,) = (b for b in blocks("python") if "verify_files" in b)
    session = corpus / "wav" / "synth0005" / "session1"
    for number, name in enumerate(("one.wav", "other.wav"), start=1):
        shutil.copy(session / f"{number:05d}.wav", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert re.fullmatch(
        r"cosine -?[01]\.\d{3}, same speaker: (True|False)\n",
        capsys.readouterr().out,
    )
    run_commands_of_a_model(tmp_path, session)


def run_commands_of_a_model(folder, session):
    """The commands of "Use a model", in the folder of its two files."""
    for name in ("recordings", "ada"):
        shutil.copytree(session, folder / name)
    install, *others = commands_with("SPEECHBRAIN_ATTN_MODEL")
    assert install == "pip install -e '.[cli,plots]'"
    scripts = Path(sys.executable).parent
    finished = subprocess.run(
        ["bash", "-ec", "\n".join(others)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
    )
    assert finished.returncode == 0, finished.stderr
    assert "Ada" in finished.stdout
    assert (folder / "one.png").stat().st_size > 10_000
