"""Fine-tuning a pretrained model by the training script and its YAML."""

import re
import signal

import pytest
import torch
from killed_runs import KILLER
from pretrained_folders import write_host_folder
from recipe_runs import RECIPE, ROOT, options, run, run_many
from speechbrain.inference.speaker import EncoderClassifier

from speechbrain_attn.hub import load
from speechbrain_attn.hub.export import export

SCRIPT = RECIPE / "train_speaker_embeddings.py"
STAND_IN = ROOT / "tests" / "recipes" / "host_stand_in.py"
YAML = RECIPE / "hparams" / "finetune" / "pretrained.yaml"
STEPS = 8


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return write_host_folder(tmp_path_factory.mktemp("models") / "ecapa")


@pytest.fixture(scope="module")
def tiny_finetune(tiny_run, pretrained):
    """Overrides for a fine-tuning of seconds."""
    without = {"number_of_epochs", "out_n_neurons"}
    return {
        **{key: tiny_run[key] for key in tiny_run.keys() - without},
        "pretrained": pretrained,
        "out_n_neurons": 6,
        "total_steps": STEPS,
    }


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory, tiny_finetune):
    """Output folders by system."""
    root = tmp_path_factory.mktemp("finetuned")
    systems = {
        "own": {"frozen_steps": 3},
        "frozen": {
            "frozen_steps": STEPS,
            "files_per_speaker": 0,
            "min_epoch_steps": "null",
        },
        "serialized": {
            "pooling": "serialized",
            "precision": "bf16",
            "num_sub_centres": 2,
            "top_k": 2,
            "max_grad_norm": 1000,
        },
    }
    folders = {name: root / name for name in systems}
    done = run_many(
        SCRIPT,
        [
            [
                YAML,
                *options(
                    {**tiny_finetune, **more, "output_folder": root / name}
                ),
            ]
            for name, more in systems.items()
        ],
    )
    assert [said for code, said in done if code] == []
    return folders


def weights(folder, name="embedding_model"):
    return torch.load(folder / f"{name}.ckpt", weights_only=True)


def differing(some, others):
    """Names of the values that two state dicts do not share."""
    assert some.keys() == others.keys()
    return {key for key in some if not torch.equal(some[key], others[key])}


def test_the_network_learns_with_the_statistics_that_it_came_with(
    finetuned, pretrained
):
    before, after = weights(pretrained), weights(finetuned["own"] / "model")
    moved = differing(before, after)
    assert not [key for key in moved if "running" in key or "num_b" in key]
    parameters = {key for key in before if "running" not in key}
    assert len(moved) > 0.8 * len(parameters)


def test_frozen_to_the_end_only_the_classifier_learns(finetuned, pretrained):
    model = finetuned["frozen"] / "model"
    assert differing(weights(pretrained), weights(model)) == set()
    assert weights(model, "classifier")["weight"].shape == (6, 6)


def test_classes_may_have_several_vectors(finetuned):
    model = finetuned["serialized"] / "model"
    assert weights(model, "classifier")["weight"].shape == (6 * 2, 6)
    wavs = 0.1 * torch.randn(2, 16000)
    scores, *_ = load(model, device="cpu").classify_batch(wavs)
    assert scores.shape == (2, 6)


def test_killed_in_the_first_checkpoint_it_starts_anew(
    finetuned, tiny_finetune, tmp_path
):
    """Of which the host leaves no more than an empty CKPT.yaml."""
    torn = tmp_path / "save" / "CKPT+2026-01-01+00-00-00+00"
    torn.mkdir(parents=True)
    (torn / "CKPT.yaml").touch()
    given = {**tiny_finetune, "output_folder": tmp_path, "frozen_steps": 3}
    done = run(SCRIPT, YAML, *options(given))
    assert done.returncode == 0, done.stdout
    assert "CKPT.yaml is missing or broken" in done.stdout
    for name in ("embedding_model", "classifier"):
        ours = weights(tmp_path / "model", name)
        assert not differing(ours, weights(finetuned["own"] / "model", name))


def test_killed_in_the_last_validation_it_still_ends(
    tiny_finetune, validation_trials, tmp_path
):
    """After a checkpoint at the very last step, in the middle of an epoch."""
    overrides = {
        **tiny_finetune,
        "total_steps": 12,  # two of the second epoch
        "min_epoch_steps": 1,
        "ckpt_interval_minutes": 0,
        "ckpt_interval_steps": 2,
        "validation_file": validation_trials,
        "average_checkpoints": 2,
    }
    killer = tmp_path / "killer.py"
    killer.write_text(KILLER)
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    train = [SCRIPT, YAML, *options({**overrides, "output_folder": broken})]
    done = run(killer, "2:_fit_valid", *train)
    assert done.returncode == -signal.SIGKILL, done.stdout
    done = run(*train)
    assert done.returncode == 0, done.stdout
    done = run(SCRIPT, YAML, *options({**overrides, "output_folder": whole}))
    assert done.returncode == 0, done.stdout
    assert not differing(weights(broken / "model"), weights(whole / "model"))
    for folder in (broken, whole):
        log = (folder / "train_log.txt").read_text()
        assert len(log.splitlines()) == 2


def report(folder):
    """What a run logged of its start; later runs of the process follow."""
    log = (folder / "log.txt").read_text()
    return log.split("Started from")[1].split("Going into epoch")[0]


def test_the_run_says_what_it_took(finetuned):
    said = {system: report(folder) for system, folder in finetuned.items()}
    assert "starts from the model's mean embedding of each of 6" in said["own"]
    assert "mean embedding of each of 6" in said["serialized"]
    assert "mean embedding" not in said["frozen"]
    for system in ("own", "frozen"):
        assert "asp, AttentiveStatisticsPooling: loaded" in said[system]
        assert not re.search(r"\w: new, ", said[system])
    assert "pooling, SerializedAttentionPooling: new" in said["serialized"]
    assert "asp of the model" in said["serialized"]


@pytest.mark.parametrize("system", ["own", "serialized"])
def test_the_model_folder_stands_alone(finetuned, pretrained, tmp_path, system):
    """It loads here and in SpeechBrain, exports, and names no other folder."""
    model = finetuned[system] / "model"
    assert str(pretrained) not in (model / "hyperparams.yaml").read_text()
    wavs = 0.1 * torch.randn(2, 16000)
    embeddings = load(model, device="cpu").encode_batch(wavs)
    host = EncoderClassifier.from_hparams(
        source=str(model), savedir=str(tmp_path / "savedir")
    )
    torch.testing.assert_close(host.encode_batch(wavs), embeddings)
    exported = export(finetuned[system], tmp_path / "exported", standalone=True)
    again = load(exported, device="cpu").encode_batch(wavs)
    assert torch.equal(again, embeddings)


def test_a_finetuned_model_can_be_finetuned(finetuned, tiny_finetune, tmp_path):
    """With its own pooling, with another, and by the host's script."""
    words = {**tiny_finetune, "pretrained": finetuned["serialized"] / "model"}
    lines = [
        [YAML, *options({**words, **more, "output_folder": tmp_path / name})]
        for name, more in (
            ("own", {}),
            ("again", {"pooling": "self_attentive"}),
        )
    ]
    assert [said for code, said in run_many(SCRIPT, lines) if code] == []
    assert not re.search(r"\w: new, ", report(tmp_path / "own"))
    said = report(tmp_path / "again")
    assert "pooling, SelfAttentivePooling: new" in said
    assert "encoder, ProjectedTrunk: loaded, " in said
    words |= {"split_ratio": "[90,10]", "output_folder": tmp_path / "host"}
    ((code, said),) = run_many(STAND_IN, [["train", YAML, *options(words)]])
    assert code == 0, said
    assert len(list((tmp_path / "host" / "save").glob("CKPT*"))) == 1


def test_two_processes_stay_together_when_the_trunk_wakes(
    tiny_finetune, tmp_path
):
    """Each leaves the weights that it ended with."""
    overrides = {
        **tiny_finetune,
        "pooling": "self_attentive",
        "frozen_steps": 3,
        "files_per_speaker": 0,
        "distributed_backend": "gloo",
        "output_folder": tmp_path / "run",
    }
    watcher = tmp_path / "watcher.py"
    watcher.write_text(
        "import os, runpy, sys, speechbrain, torch\n"
        "write = torch.save\n"
        "fit = speechbrain.Brain.fit\n"
        "def watched(brain, *args, **options):\n"
        "    fit(brain, *args, **options)\n"
        "    network = brain.hparams.modules['embedding_model']\n"
        "    rank = os.environ['RANK']\n"
        f"    write(network.state_dict(), '{tmp_path}/' + rank + '.ckpt')\n"
        "speechbrain.Brain.fit = watched\n"
        "sys.argv = sys.argv[1:]\n"
        "sys.path[0] = os.path.dirname(sys.argv[0])\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = run(
        *("-m", "torch.distributed.run", "--nproc_per_node=2"),
        *("--master_port=29713", watcher, SCRIPT, YAML, *options(overrides)),
    )
    assert done.returncode == 0, done.stdout
    ranks = [weights(tmp_path, number) for number in "01"]
    assert differing(*ranks) == set()
    before = weights(tiny_finetune["pretrained"])["mfa.conv.conv.weight"]
    after = ranks[0]["encoder.mfa.conv.conv.weight"]
    assert not torch.equal(before, after)


def test_what_cannot_be_is_refused_with_a_sentence(tiny_finetune, tmp_path):
    empty = write_host_folder(tmp_path / "empty")
    torch.save({}, empty / "embedding_model.ckpt")
    slow = write_host_folder(tmp_path / "slow", rate=8000)
    # fmt: off
    refused = [
        ({"pretrained": tmp_path / "no"}, "no: folder not found."),
        ({"pretrained": tmp_path}, "is not a model folder"),
        ({"pretrained": empty}, "holds no parameters"),
        ({"pretrained": slow}, "is for audio at 8000 Hz"),
        ({"pretrained": "someone/model"}, "write hf://someone/model"),
        ({"pooling": "sum"}, "pooling=sum: want own"),
        ({"files_per_speaker": 2.5}, "files_per_speaker=2.5: want a whole"),
        ({"frozen_steps": "abc"}, "frozen_steps=abc: want a whole number"),
        ({"min_epoch_steps": "abc"}, "min_epoch_steps=abc: want a whole"),
        ({"num_sub_centres": 0}, "num_sub_centres=0: want a whole number"),
        ({"top_k": -1}, "top_k=-1: want a whole number"),
        ({"top_k_margin": -1}, "top_k_margin=-1: want radians"),
    ]
    # fmt: on
    lines = [
        [
            YAML,
            *options({**tiny_finetune, **bad, "output_folder": tmp_path / "x"}),
        ]
        for bad, _ in refused
    ]
    for (code, said), (bad, expected) in zip(
        run_many(SCRIPT, lines), refused, strict=True
    ):
        assert code == 2 and expected in said, (bad, said)
        assert "Traceback" not in said
