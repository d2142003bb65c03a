"""The command as a whole: help, completion, export, what it ends with."""

import os
import subprocess
import sys

import pytest
from cli_runs import Shell, write_recordings
from hub_folders import write_run

from speechbrain_attn import __version__
from speechbrain_attn.cli import app as app_module
from speechbrain_attn.hub import load

COMMANDS = (
    "embed",
    "verify",
    "enroll",
    "identify",
    "speakers",
    "attend",
    "score",
    "export",
    "export-onnx",
    "demo",
)
PROGRAM = [sys.executable, "-m", "speechbrain_attn.cli"]


def run(*words, code=0, **options):
    """A process of its own, which must end with a code."""
    done = subprocess.run(
        [*PROGRAM, *map(str, words)], capture_output=True, **options
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("hub") / "run")


@pytest.fixture
def shell(trained):
    return Shell(trained / "model")


def test_help_lists_every_command(shell):
    done = shell.run("--help")
    for command in COMMANDS:
        assert f"│ {command} " in done.stdout
    assert "exit code is 0" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_explained(shell, command):
    done = shell.run(command, "--help")
    assert f"speechbrain-attn {command}" in done.stdout
    assert done.stderr == ""
    # No text of the code's own markup.
    assert "``" not in done.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from speechbrain_attn.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'soundfile', 'speechbrain'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules)"
        " else 0)"
    )
    for words in (["--help"], ["embed", "--help"], ["export", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True
        )
        assert done.returncode == 0, done.stderr


def test_help_comes_at_once():
    # Time at work, since other programs may be at work, too.
    begin = os.times()
    assert b"Commands" in run("--help").stdout
    end = os.times()
    user = end.children_user - begin.children_user
    assert user + end.children_system - begin.children_system < 1


def test_the_version_is_that_of_the_package(shell):
    assert shell.run("--version").stdout.strip() == __version__


def test_a_process_verifies_with_names_that_are_no_utf8(trained, tmp_path):
    wavs = write_recordings(tmp_path / "wavs")
    name = os.fsencode(wavs / "anna") + b"/\xff.wav"
    os.rename(os.fsencode(wavs / "anna" / "0.wav"), name)
    done = subprocess.run(
        [*PROGRAM, "verify", name, wavs / "ben" / "1.wav", "nix.wav"],
        capture_output=True,
        env={**os.environ, "SPEECHBRAIN_ATTN_MODEL": str(trained / "model")},
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(name + b" and ")
    assert done.stderr.decode() == "nix.wav: no such audio file.\n"


def test_a_process_ends_with_2_and_one_sentence(tmp_path):
    done = run("embed", tmp_path, code=2)
    assert done.stdout == b""
    assert done.stderr.startswith(b"speechbrain-attn embed: ")
    assert done.stderr.count(b"\n") == 1


def test_a_fault_of_ours_keeps_its_traceback(shell, monkeypatch, tmp_path):
    def broken(*arguments, **options):
        raise KeyError("a fault")

    monkeypatch.setattr("speechbrain_attn.hub.export.export", broken)
    done = shell.run("export", tmp_path, tmp_path, code=1)
    assert isinstance(done.exception, KeyError)


def test_shells_can_complete(monkeypatch):
    done = run(
        env={
            **os.environ,
            "_SPEECHBRAIN_ATTN_COMPLETE": "complete_bash",
            "COMP_WORDS": "speechbrain-attn ve",
            "COMP_CWORD": "1",
        }
    )
    assert done.stdout.decode().split() == ["verify"]


def test_without_typer_one_sentence_says_how_to_get_it():
    code = (
        "import sys; sys.modules['typer'] = None\n"
        "from speechbrain_attn.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "speechbrain-attn: needs typer: pip install 'speechbrain_attn[cli]', "
        "or pip install typer.\n"
    )


def test_export_makes_a_folder_that_loads(shell, trained, tmp_path):
    folder = tmp_path / "model"
    done = shell.run(
        *("export", trained, folder, "--standalone"),
        *("--licence", "mit", "--dataset", "some/corpus"),
    )
    assert done.stdout.strip() == str(folder)
    card = (folder / "README.md").read_text()
    assert "license: mit" in card and "some/corpus" in card
    assert len(list(folder.glob("*.py"))) == 1
    assert load(folder, device="cpu").calibration is None


REFUSALS = [
    (["export", "nix", "{tmp}/m"], "export: nix: folder not found."),
    (["export", "{tmp}", "{tmp}/m"], "{tmp}: holds no trained model."),
    (["export", "{run}", "{tmp}"], "is there already and is no model folder"),
    (["export", "{run}", "{tmp}/m", "--push-to", "x"], "want user/name"),
    (
        ["export", "{run}", "{tmp}/m", "--evaluation", "{tmp}"],
        "results.json: is missing.",
    ),
    (
        ["export", "{run}", "{tmp}/m", "--attention-picture", "a.png"],
        "a.png: no such picture.",
    ),
    (["export", "{run}"], "Missing argument"),
    (["score"], "the following arguments are required"),
    (
        ["score", "--embeddings", "nix", "--trials", "nix"],
        "nix: no such folder. Want a store",
    ),
    (["score", "--nix", "1"], "speechbrain-attn score: error:"),
    (["demo", "--data", "nix"], "--data and --trials go together"),
    (["demo", "--system", "nix"], "speechbrain-attn demo: error:"),
    (["nix"], "No such command 'nix'"),
]


@pytest.mark.parametrize(("words", "says"), REFUSALS)
def test_bad_input_is_one_sentence(shell, trained, tmp_path, words, says):
    places = {"run": trained, "tmp": tmp_path}
    words = [word.format(**places) for word in words]
    done = shell.run(*words, code=2)
    assert says.format(**places) in done.stderr
    assert "Traceback" not in done.stderr


def test_the_commands_are_those_that_are_tested():
    group = app_module.typer.main.get_command(app_module.app)
    assert set(group.commands) == set(COMMANDS)
