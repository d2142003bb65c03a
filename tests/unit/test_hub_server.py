"""Up to a hub and down again, in ways that the host's users have."""

import json
import os
import subprocess
import sys

import pytest
import torch
from hub_folders import write_run
from hub_server import Hub

from speechbrain_attn import hub
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.export import export, push

# Each way of loading embeds the same noise.
PROGRAM = """
import json, os, sys, warnings
import torch

def refuse(*args, **kwargs):
    raise OSError("no right to make links")

os.symlink = refuse
warnings.simplefilter("ignore")  # of a cache without links
from speechbrain.inference.speaker import EncoderClassifier, SpeakerRecognition
from speechbrain.utils.fetching import LocalStrategy
from speechbrain_attn import hub
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.export import export

def embedding(model):
    wavs = torch.sin(torch.arange(8000) ** 1.5).unsqueeze(0)
    return model.encode_batch(wavs).flatten().tolist()

def copied(folder):
    return EncoderClassifier.from_hparams(
        "anna/voices", savedir=folder, local_strategy=LocalStrategy.COPY
    )

def every_way(folder):
    return {
        "plain": embedding(EncoderClassifier.from_hparams("anna/voices")),
        "verifier": embedding(SpeakerRecognition.from_hparams("anna/voices")),
        "copied": embedding(copied(folder)),
        "ours": embedding(hub.load("hf://anna/voices")),
    }

def said(name):
    try:
        hub.load(name)
    except AttnError as error:
        return str(error)

"""
ONLINE = """
export("run", "model", push_to="anna/voices", standalone=True)
found = {"first": every_way("copy1")}
export("run2", "model2", push_to="anna/voices")
found["second"] = {"ours": embedding(hub.load("hf://anna/voices"))}
old = sys.argv[1]
found["old"] = {"ours": embedding(hub.load("hf://anna/voices@" + old))}
found["unknown"] = said("hf://anna/nothing")
found["unmarked"] = said("anna/voices")
print(json.dumps(found))
"""
OFFLINE = """
print(json.dumps({"second": every_way("copy2"), "unknown": said("hf://a/b")}))
"""


def run(program, folder, *arguments, **environment):
    """Run a program in a process of its own: settings are read once in it."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "HF_HOME": str(folder / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_TOKEN": "hf_of_a_test",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def embedding_of(folder):
    wavs = torch.sin(torch.arange(8000) ** 1.5).unsqueeze(0)
    return hub.load(folder).encode_batch(wavs).flatten()


def assert_all_equal(ways, expected):
    for way, values in ways.items():
        torch.testing.assert_close(
            torch.tensor(values), expected, msg=lambda m, w=way: f"{w}: {m}"
        )


def test_up_and_down_in_every_way_and_offline(tmp_path):
    """One test, since each process takes seconds to begin."""
    first = embedding_of(write_run(tmp_path / "run") / "model")
    second = embedding_of(write_run(tmp_path / "run2", seed=1) / "model")
    assert not torch.allclose(first, second)
    with Hub() as server:
        settings = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": server.address}
        found = run(PROGRAM + ONLINE, tmp_path, "v1", **settings)
        asked = len(server.requests)
        settings["HF_HUB_OFFLINE"] = "1"
        offline = run(PROGRAM + OFFLINE, tmp_path, **settings)
        assert len(server.requests) == asked
    assert_all_equal(found["first"], first)
    # The cache never stands in for what the hub has now.
    assert_all_equal(found["second"], second)
    assert_all_equal(found["old"], first)
    assert_all_equal(offline["second"], second)
    for text in (found["unknown"], offline["unknown"]):
        assert "cannot be had from the hub" in text
    assert "anna/voices: folder not found" in found["unmarked"]
    assert "write hf://anna/voices" in found["unmarked"]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    uploaded = {
        str(path.relative_to(tmp_path / "model2")): path.read_bytes()
        for path in (tmp_path / "model2").rglob("*")
        if path.is_file()
    }
    # The first one's module is gone.
    assert server.repos["anna/voices"] == uploaded
    assert b'source="anna/voices"' in uploaded["README.md"]


def test_what_cannot_be_uploaded_is_said(tmp_path):
    folder = export(write_run(tmp_path / "run"), tmp_path / "model")
    with pytest.raises(AttnError, match="anna/voices: not uploaded .*offline"):
        push(folder, "anna/voices")
    with pytest.raises(AttnError, match="push_to='voices': want user/name"):
        push(folder, "voices")
