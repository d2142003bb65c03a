"""The source of a network in one file: SpeechBrain alone loads it."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch
from hub_folders import write_run
from speechbrain.inference.interfaces import foreign_class
from speechbrain.inference.speaker import EncoderClassifier

from speechbrain_attn import hub
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub import standalone
from speechbrain_attn.hub.export import export
from speechbrain_attn.hub.standalone import standalone_module, standalone_name

LOBES = "speechbrain_attn.lobes.models"
SYSTEMS = {
    "self_attentive_tdnn": "SelfAttentiveTDNN",
    "double_mha": "DoubleMHA",
    "serialized_mha": "SerializedMHA",
    "ge2e_lstm": "GE2ELSTM",
}
OTHERS = [
    "speechbrain_attn.lobes.features.KaldiFbank",
    "speechbrain_attn.lobes.features.Fbank",
    "speechbrain_attn.lobes.features.SentenceNormalization",
    f"{LOBES}.heads.DoubleMHAHead",
    f"{LOBES}.heads.SerializedMHAHead",
    "speechbrain_attn.nnet.pooling.ChannelAttentiveStatisticsPooling",
    "torch.nn.Identity",
]
# The package is there, but cannot be imported; all else is as it is.
WITHOUT_THE_PACKAGE = """
import json, sys
import torch

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "speechbrain_attn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from speechbrain.inference.interfaces import foreign_class

found = []
for folder, module in json.loads(sys.argv[1]):
    model = foreign_class(
        source=folder, pymodule_file=module, classname="EncoderClassifier"
    )
    wavs = torch.sin(torch.arange(8000) ** 1.5).unsqueeze(0)
    network = model.mods.embedding_model
    found.append(
        [model.encode_batch(wavs).flatten().tolist(), type(network).__module__]
    )
print(json.dumps(found))
"""


def module_of(folder):
    (path,) = folder.glob("*.py")
    return path.name


@pytest.fixture
def folders(tmp_path):
    """Two models whose modules differ, as those of two versions would."""
    found = []
    for seed in (0, 1):
        run = write_run(tmp_path / f"run{seed}", seed=seed)
        if seed == 1:
            path = run / "model" / "hyperparams.yaml"
            text = path.read_text()
            kaldi = text.replace("features.Fbank", "features.KaldiFbank")
            path.write_text(kaldi.replace("  top_db: 60\n", ""))
        folder = tmp_path / f"model{seed}"
        found.append(export(run, folder, standalone=True))
    return found


def test_loads_where_the_package_is_not_installed(folders, tmp_path):
    """Two in one process, neither of which gets the other's classes."""
    names = [module_of(folder) for folder in folders]
    assert names[0] != names[1]
    assert all(name.startswith("serialized_mha_") for name in names)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_THE_PACKAGE,
            json.dumps([[str(f), module_of(f)] for f in folders]),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    wavs = torch.sin(torch.arange(8000) ** 1.5).unsqueeze(0)
    for folder, (values, module) in zip(folders, found, strict=True):
        expected = hub.load(folder).encode_batch(wavs).flatten()
        torch.testing.assert_close(torch.tensor(values), expected)
        assert f"{module}.py" == module_of(folder)


def test_with_the_package_all_doors_open(folders):
    folder = folders[0]
    wavs = torch.randn(1, 8000)
    foreign = foreign_class(
        source=str(folder),
        pymodule_file=module_of(folder),
        classname="EncoderClassifier",
    )
    plain = EncoderClassifier.from_hparams(str(folder))
    expected = hub.load(folder).encode_batch(wavs)
    assert torch.equal(foreign.encode_batch(wavs), expected)
    assert torch.equal(plain.encode_batch(wavs), expected)
    # The installed package is used, not the file's classes.
    network = type(foreign.mods.embedding_model)
    assert network.__module__ == f"{LOBES}.serialized_mha"


def test_the_card_shows_the_door(folders):
    text = (folders[0] / "README.md").read_text()
    assert f'pymodule_file="{module_of(folders[0])}"' in text
    assert 'classname="EncoderClassifier"' in text


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_fits_into_one_file(system, tmp_path):
    names = [f"{LOBES}.{system}.{SYSTEMS[system]}", *OTHERS]
    source = standalone_module(names)
    path = tmp_path / standalone_name(system, source)
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in names[:-1]:
        cls = getattr(module, name.rpartition(".")[2])
        assert cls.__module__ == path.stem
    torch.manual_seed(0)
    network = getattr(module, SYSTEMS[system])().eval()
    feats = torch.randn(1, 50, network.input_size)
    torch.manual_seed(0)
    parts = __import__(f"{LOBES}.{system}", fromlist=[SYSTEMS[system]])
    original = getattr(parts, SYSTEMS[system])().eval()
    with torch.no_grad():
        assert torch.equal(network(feats), original(feats))


def test_names_follow_the_source():
    one, other = (standalone_name("double_mha", text) for text in "ab")
    assert one != other and one == standalone_name("double_mha", "a")


@pytest.mark.parametrize(
    "sources, says",
    [
        (
            {"a": "X = 1", "b": "def X():\n    return 2"},
            "X is defined in a and",
        ),
        ({"a": "class C:\n    pass", "b": "C, D = 1, 2"}, "C is defined in a"),
    ],
)
def test_two_things_of_one_name_are_refused(sources, says):
    with pytest.raises(AttnError, match=says):
        standalone._refuse_collisions(sources)


def test_imports_that_cannot_be_put_together_are_refused(tmp_path, monkeypatch):
    (tmp_path / "imports_oddly.py").write_text(
        "from speechbrain_attn.errors import AttnError as Oh\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AttnError, match="imports_oddly line 1: from"):
        standalone._collect("imports_oddly", {}, set())
