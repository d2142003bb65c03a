"""``speechbrain-attn export-onnx``."""

import numpy as np
import pytest
from cli_runs import Shell
from hub_folders import write_run
from onnx_models import embed, expected, recordings, session_of

from speechbrain_attn import hub

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("cli") / "my_run") / "model"


def test_a_model_folder_becomes_a_file(folder, tmp_path):
    path = tmp_path / "new" / "a.onnx"
    shell = Shell("unused")
    done = shell.run("export-onnx", folder, path)
    first, second = done.stdout.splitlines()
    assert first == f"{path}: {path.stat().st_size / 1e6:.1f} MB"
    words = second.split("largest difference from the model ")[1].split(",")
    assert 0 <= float(words[0]) < 1e-4
    assert "largest cosine distance" in second
    session = session_of(path)
    assert session.get_modelmeta().custom_metadata_map["model"] == "my_run"
    waveforms, lengths = recordings(16_000, 4_001)
    np.testing.assert_allclose(
        embed(session, waveforms, lengths),
        expected(hub.load(folder), waveforms, lengths),
        atol=1e-4,
    )


def test_integers_and_json(folder, tmp_path):
    path = tmp_path / "a.onnx"
    found = Shell("unused").json("export-onnx", folder, path, "--int8")
    assert found.pop("largest_difference") > 1e-6
    assert found.pop("largest_cosine_distance") < 0.01
    assert found == {"file": str(path), "bytes": path.stat().st_size}
    metadata = session_of(path).get_modelmeta().custom_metadata_map
    assert metadata["precision"] == "int8"


@pytest.mark.parametrize("words, says", [
    (("nowhere", "a.onnx"), "nowhere: folder not found"),
    (("MODEL", "a.pt"), "a.pt: want the name of a file that ends in .onnx"),
    (("MODEL", "a.onnx", "--features", "sherpa"), "--compute_features="),
    (("MODEL", "a.onnx", "--features", "mel"), "'mel' is not one of"),
])  # fmt: skip
def test_what_is_wrong_is_one_sentence(folder, words, says, tmp_path):
    words = [str(folder) if word == "MODEL" else word for word in words]
    done = Shell("unused").run("export-onnx", *words, code=2)
    assert says in " ".join(done.stderr.replace("│", "").split())
    assert "Traceback" not in done.stderr
