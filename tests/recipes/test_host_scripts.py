"""Our YAML files under SpeechBrain's own training and cosine scripts.

Under a stand-in that reads the keys which those scripts read, and, where the
environment variable SPEECHBRAIN_REPO names a clone of SpeechBrain, under the
unmodified scripts themselves.
"""

import json
import os
from pathlib import Path

import pytest
from recipe_runs import RECIPE, options, run_many
from speechbrain.utils.run_opts import RunOptions

HPARAMS = RECIPE.parents[1] / "hparams"
STAND_IN = Path(__file__).with_name("host_stand_in.py")

TRAIN_KEYS = set(
    """data_folder train_annotation valid_annotation sample_rate sentence_len
    random_chunk save_folder output_folder verification_file split_ratio
    skip_prep prepare_noise_data prepare_rir_data modules opt_class
    checkpointer epoch_counter dataloader_options compute_cost lr_annealing
    error_stats train_logger wav_augment""".split()
)
VERIFY_KEYS = set(
    """data_folder output_folder save_folder verification_file split_ratio
    skip_prep train_data enrol_data test_data n_train_snts
    train_dataloader_opts enrol_dataloader_opts test_dataloader_opts
    pretrainer compute_features mean_var_norm embedding_model""".split()
)
# Sizes of seconds; those of a network go to its verification YAML as well.
SYSTEMS = {
    "self_attentive_tdnn_aam": {"channels": 12, "embedding_size": 8},
    "double_mha": {"channels": 2, "embedding_size": 8, "num_heads": 2},
    "serialized_mha": {"channels": 12, "embedding_size": 8, "num_layers": 2},
}
BASELINES = {
    "baselines/xvector": {"channels": 8, "stat_channels": 16, "emb_dim": 8},
    "baselines/ecapa_tdnn": {"channels": 8, "stat_channels": 24, "emb_dim": 8},
    "baselines/resnet": {
        "channels": "[4,4,4,4]",
        "block_sizes": "[1,1,1,1]",
        "emb_dim": 8,
    },
}


def train_words(system, sizes, tiny_run, folder):
    words = {**tiny_run, **sizes, "number_of_epochs": 1}
    words["output_folder"] = folder / system
    return [HPARAMS / f"{system}.yaml", *options(words)]


def verify_words(system, sizes, corpus, trials, folder):
    (checkpoint,) = (folder / system / "save").glob("CKPT*")
    words = {
        "data_folder": corpus,
        "verification_file": trials,
        "pretrain_path": checkpoint,
        "output_folder": folder / f"verify_{system}",
        "device": "cpu",
        **sizes,
    }
    network = system.removesuffix("_aam")
    return [HPARAMS / f"verification_{network}.yaml", *options(words)]


def check_runs(done):
    assert [said for code, said in done if code != 0] == []


def check_trained(folder, systems):
    for system in systems:
        log = (folder / system / "train_log.txt").read_text()
        assert "epoch: 1" in log and "ErrorRate" in log
        assert len(list((folder / system / "save").glob("CKPT*"))) == 1


def check_scored(folder, systems, trials):
    for system in systems:
        scores = (folder / f"verify_{system}" / "scores.txt").read_text()
        assert len(scores.splitlines()) == len(trials.read_text().splitlines())


def keys_read(said):
    (line,) = [x for x in said.splitlines() if x.startswith("keys read:")]
    return set(json.loads(line.removeprefix("keys read:")))


def test_stand_in_trains_and_verifies(tmp_path, tiny_run, tiny_corpus, trials):
    everything = {**SYSTEMS, **BASELINES}
    done = run_many(
        STAND_IN,
        [
            ["train", *train_words(system, sizes, tiny_run, tmp_path)]
            for system, sizes in everything.items()
        ],
    )
    check_runs(done)
    check_trained(tmp_path, everything)
    for _, said in done:
        # Beside them any option of the Brain may stand in the YAML.
        assert keys_read(said) - set(RunOptions().keys()) == TRAIN_KEYS
    done = run_many(
        STAND_IN,
        [
            [
                "verify",
                *verify_words(system, sizes, tiny_corpus, trials, tmp_path),
            ]
            for system, sizes in SYSTEMS.items()
        ],
    )
    check_runs(done)
    check_scored(tmp_path, SYSTEMS, trials)
    for _, said in done:
        assert keys_read(said) == VERIFY_KEYS


def test_stand_in_misses_a_key_as_the_host_would(tmp_path, tiny_run):
    """Control: a stand-in that reads nothing would pass the test above."""
    cut = {"prepare_rir_data": "KeyError", "compute_cost": "AttributeError"}
    text = (HPARAMS / "baselines" / "xvector.yaml").read_text()
    lines = []
    for key in cut:
        path = tmp_path / f"without_{key}.yaml"
        path.write_text(text.replace(f"\n{key}:", f"\nno_{key}:"))
        words = train_words("baselines/xvector", {}, tiny_run, tmp_path)
        lines.append(["train", path, *words[1:]])
    done = run_many(STAND_IN, lines)
    for (code, said), (key, error) in zip(done, cut.items(), strict=True):
        assert code == 1 and f"{error}: " in said and key in said


@pytest.fixture
def host_recipe():
    clone = os.environ.get("SPEECHBRAIN_REPO")
    if not clone:
        pytest.skip("SPEECHBRAIN_REPO names no clone of SpeechBrain")
    folder = Path(clone) / "recipes" / "VoxCeleb" / "SpeakerRec"
    assert (folder / "train_speaker_embeddings.py").is_file(), folder
    return folder


def test_unmodified_scripts_train_and_verify(
    host_recipe, tmp_path, tiny_run, tiny_corpus, trials
):
    everything = {**SYSTEMS, **BASELINES}
    done = run_many(
        host_recipe / "train_speaker_embeddings.py",
        [
            train_words(system, sizes, tiny_run, tmp_path)
            for system, sizes in everything.items()
        ],
        cwd=host_recipe,
    )
    check_runs(done)
    check_trained(tmp_path, everything)
    done = run_many(
        host_recipe / "speaker_verification_cosine.py",
        [
            verify_words(system, sizes, tiny_corpus, trials, tmp_path)
            for system, sizes in SYSTEMS.items()
        ],
        cwd=host_recipe,
    )
    check_runs(done)
    check_scored(tmp_path, SYSTEMS, trials)
