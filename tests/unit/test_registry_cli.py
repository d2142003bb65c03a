"""enroll, identify and speakers, as somebody types them."""

import json

import numpy as np
import pytest
import soundfile
from hub_folders import write_run

pytest.importorskip("typer")
import typer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from speechbrain_attn.cli import registry as commands  # noqa: E402
from speechbrain_attn.errors import AttnError  # noqa: E402
from speechbrain_attn.inference.registry import Registry  # noqa: E402
from speechbrain_attn.inference.registry_file import FILE  # noqa: E402
from speechbrain_attn.scoring.calibration import Calibration  # noqa: E402

RATE = 16000


@pytest.fixture(scope="module")
def app():
    app = typer.Typer()
    app.command("enroll")(commands.enroll)
    app.command("identify")(commands.identify)
    app.add_typer(commands.speakers, name="speakers")
    return app


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("hub") / "run") / "model"


@pytest.fixture(scope="module")
def wavs(tmp_path_factory):
    """Two "speakers", who differ in the colour of their noise."""
    folder = tmp_path_factory.mktemp("wavs")
    draw = np.random.default_rng(3)
    for speaker, slope in (("a", 0.97), ("b", -0.97)):
        for number in range(4):
            noise = draw.normal(0, 0.05, 2 * RATE)
            noise[1:] += slope * noise[:-1]
            # Syllables: four a second.
            noise *= np.sin(np.arange(2 * RATE) * 4 * np.pi / RATE) ** 2
            soundfile.write(folder / f"{speaker}{number}.wav", noise, RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE)
    return folder


class Shell:
    """Runs commands on one registry, with one model."""

    def __init__(self, app, model, wavs, folder):
        self.app, self.model, self.wavs = app, str(model), wavs
        self.folder = folder

    def run(self, *words, folder=None):
        words = [str(word) for word in words]
        where = ["--registry", str(folder or self.folder)]
        return CliRunner().invoke(
            self.app,
            [*words, *where],
            env={"SPEECHBRAIN_ATTN_MODEL": self.model},
        )

    def json(self, *words):
        done = self.run(*words, "--json")
        return json.loads(done.stdout)

    def files(self, *names):
        return [self.wavs / f"{name}.wav" for name in names]

    def refusal(self, *words, **options):
        """The message of the AttnError that a command ends with."""
        done = self.run(*words, **options)
        assert isinstance(done.exception, AttnError), done.output
        return str(done.exception)


@pytest.fixture
def shell(app, model, wavs, tmp_path):
    return Shell(app, model, wavs, tmp_path / "registry")


@pytest.fixture
def enrolled(shell):
    for name, files in (("anna", ["a0", "a1"]), ("ben", ["b0"])):
        done = shell.run("enroll", name, *shell.files(*files))
        assert done.exit_code == 0, done.output
        says = f"{name}: {len(files)} of {len(files)} recording(s) added\n"
        assert done.stdout == says
    return shell


def test_who_is_enrolled_is_found(enrolled):
    done = enrolled.run("identify", *enrolled.files("a2", "b2"), "--top", 1)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[-1] for line in lines[1::2]] == ["anna", "ben"]
    assert lines[0].endswith("a2.wav: no decision; nearest are")
    # How to get a decision, once and not among the results.
    assert "no decision: the model has no calibration.json" in done.stderr
    assert "speechbrain-attn speakers cohort" in done.stderr


def test_more_files_of_a_known_speaker(enrolled):
    found = enrolled.json("enroll", "anna", *enrolled.files("a1", "a2"))
    assert found == {"speaker": "anna", "added": 1, "known": 1, "refused": {}}
    listed = enrolled.json("speakers", "list")
    assert listed["speakers"][0] == {"name": "anna", "utterances": 3}


def test_a_cohort_gives_decisions(enrolled):
    done = enrolled.run("speakers", "cohort", *enrolled.files("b3", "b2", "b1"))
    assert done.exit_code == 0
    assert enrolled.json("speakers", "list")["cohort"] == 3
    files = enrolled.files("b0", "b2")
    found = enrolled.json("identify", *files, "--far", 0.25)
    assert found["voices"] == 2 and found["false_accept_rate"] == 0.25
    assert found["threshold"] < found["files"][0]["nearest"][0]["cosine"]
    decided = [(one["speaker"], one["decision"]) for one in found["files"]]
    # The very recording of ben, and one of the cohort itself.
    assert decided[0] == ("ben", "accepted")
    done = enrolled.run("identify", *files, "--far", 0.25)
    assert "b0.wav: ben\n" in done.stdout
    assert "accepted above a cosine of " in done.stderr
    rejected = [
        one
        for name in ("b1", "b2", "b3")
        for one in enrolled.json(
            "identify", *enrolled.files(name), "--far", 0.25
        )["files"]
    ]
    assert {one["decision"] for one in rejected} == {"rejected"}
    assert {one["speaker"] for one in rejected} == {None}
    says = "far=0.001: the registry's cohort of 3 recordings tells of rates"
    assert says in enrolled.refusal("identify", *files)


def test_the_calibration_of_the_model_gives_decisions(
    app, wavs, tmp_path, tmp_path_factory
):
    model = write_run(tmp_path / "run") / "model"
    draw = np.random.default_rng(0)
    scores = np.r_[draw.normal(0.8, 0.1, 500), draw.normal(0.2, 0.1, 5000)]
    labels = np.arange(5500) < 500
    calibration = Calibration.fit(scores, labels, trial_list="dev.txt")
    calibration.save(model / "calibration.json")
    shell = Shell(app, model, wavs, tmp_path / "registry")
    shell.run("enroll", "anna", *shell.files("a0"))
    found = shell.json("identify", *shell.files("a0"), "--far", 0.01)
    assert found["threshold"] == calibration.thresholds["fa_0.01"].score
    assert found["files"][0]["decision"] == "accepted"
    shell.run("enroll", "ben", *shell.files("b0"))
    found = shell.json("identify", *shell.files("a0"), "--far", 0.01)
    assert found["threshold"] == calibration.thresholds["fa_0.001"].score
    assert "dev.txt" in found["basis"] and found["notes"] == calibration.notes


def test_list_rename_and_remove(enrolled):
    assert enrolled.run("speakers", "rename", "ben", "B. B.").exit_code == 0
    done = enrolled.run("speakers", "list")
    assert done.stdout == "    1  B. B.\n    2  anna\n"
    assert "2 speaker(s); cohort of 0 recording(s)" in done.stderr
    assert enrolled.run("speakers", "remove", "anna").exit_code == 0
    assert enrolled.run("speakers", "list").stdout == "    1  B. B.\n"
    assert enrolled.run("speakers", "remove", "B. B.").exit_code == 0
    done = enrolled.run("identify", *enrolled.files("a0"))
    assert "nobody is enrolled; `speechbrain-attn" in str(done.exception)


def test_recordings_of_no_use_are_refused_and_the_others_taken(shell):
    files = shell.files("a0", "silent", "none")
    done = shell.run("enroll", "anna", *files)
    assert done.exit_code == 1
    assert done.stdout == "anna: 1 of 3 recording(s) added\n"
    assert "silent.wav: is silent" in done.stderr
    assert "none.wav: no such audio file" in done.stderr
    done = shell.run("identify", *files)
    assert done.exit_code == 1 and "is silent" in done.stderr
    refused = shell.json("identify", *files)["refused"]
    assert set(refused) == set(map(str, files[1:]))


def test_nothing_is_made_of_nothing(shell):
    done = shell.run("enroll", "anna", *shell.files("silent"))
    assert done.exit_code == 2 and not shell.folder.exists()
    assert done.stdout == "anna: 0 of 1 recording(s) added\n"


# fmt: off
REFUSED = [  # id, command, what the message must say
    ("name", ["enroll", "a\nb", "a0"], "speaker 'a\\nb': want a name on one"),
    ("empty", ["enroll", " ", "a0"], "speaker ' ': want a name, not empty"),
    ("remove", ["speakers", "remove", "ana"], "did you mean 'anna'?"),
    ("taken", ["speakers", "rename", "ben", "anna"], "has a speaker 'anna'"),
    ("far", ["identify", "a0", "--far", "1.5"], "between 0 and 1, got 1.5"),
]
# fmt: on


@pytest.mark.parametrize(
    "words, says", [pytest.param(*row[1:], id=row[0]) for row in REFUSED]
)
def test_what_makes_no_sense_is_refused(enrolled, words, says):
    known = {"a0": enrolled.wavs / "a0.wav"}
    assert says in enrolled.refusal(*(known.get(word, word) for word in words))


@pytest.mark.parametrize(
    "words", [["identify", "a0.wav"], ["speakers", "list"]], ids=lambda w: w[0]
)
def test_a_missing_registry(shell, tmp_path, words):
    says = f"{tmp_path}/none: folder not found. `speechbrain-attn enroll"
    assert says in shell.refusal(*words, folder=tmp_path / "none")
    assert "holds no registry" in shell.refusal(*words, folder=tmp_path)


def test_a_damaged_registry(enrolled):
    (enrolled.folder / FILE).write_bytes(b"voices" * 999)
    files = enrolled.files("a0")
    for words in (["identify"], ["enroll", "anna"]):
        says = enrolled.refusal(*words, *files)
        assert "registry.sqlite: is damaged (file is not a database)" in says


def test_a_registry_of_another_model(enrolled, tmp_path):
    other = write_run(tmp_path / "other", seed=5) / "model"
    stranger = Shell(enrolled.app, other, enrolled.wavs, enrolled.folder)
    files = enrolled.files("a0")
    for words in (["identify"], ["enroll", "anna"], ["speakers", "cohort"]):
        assert "holds voices of another model" in stranger.refusal(
            *words, *files
        )
    with Registry.open(enrolled.folder) as registry:
        assert dict(registry.speakers()) == {"anna": 2, "ben": 1}
