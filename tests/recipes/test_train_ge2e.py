"""Training with GE2E by the script that trains classifiers."""

import math
import re

import pytest
import torch
from recipe_runs import RECIPE, options, run, run_many

SCRIPT = RECIPE / "train_speaker_embeddings.py"
YAML = RECIPE / "hparams" / "self_attentive_tdnn.yaml"
LSTM = RECIPE / "hparams" / "ge2e_lstm.yaml"


def learned_w(folder):
    """The loss's w in the newest checkpoint."""
    newest = max(folder.glob("save/CKPT*/compute_cost.ckpt"))
    return torch.load(newest, weights_only=True)["log_w"].exp().item()


def test_loss_falls_and_the_list_of_held_back_speakers_decides(
    tmp_path, tiny_ge2e, validation_trials
):
    overrides = {
        **tiny_ge2e,
        "validation_file": validation_trials,
        "number_of_epochs": 8,
        "warmup_steps": 2,
        "total_steps": 64,
        "lr": 0.002,
        "lr_factor": 3,
        "num_hops": 2,
        "penalty_factor": 0.01,
        "output_folder": tmp_path,
    }
    done = run(SCRIPT, YAML, *options(overrides))
    assert done.returncode == 0, done.stdout
    log = (tmp_path / "train_log.txt").read_text()
    losses = [float(x) for x in re.findall(r"train loss: (\S+),", log)]
    rates = [float(x) for x in re.findall(r"valid EER: (\S+)", log)]
    assert len(losses) == len(rates) == 8 and losses[-1] < 0.8 * losses[0]
    kept = [path.read_text() for path in tmp_path.glob("save/CKPT*/CKPT.yaml")]
    saved = [float(re.search(r"EER: (\S+)", text)[1]) for text in kept]
    assert min(saved) == pytest.approx(min(rates), rel=0.01)
    speakers = (tmp_path / "save" / "label_encoder.txt").read_text()
    assert "id10003" not in speakers and "id10005" in speakers
    assert learned_w(tmp_path) != pytest.approx(10)


def test_rate_of_w_is_a_factor_of_the_networks(tmp_path, tiny_ge2e):
    overrides = {**tiny_ge2e, "number_of_epochs": 1, "lr_factor": 0}
    done = run(SCRIPT, YAML, *options({**overrides, "output_folder": tmp_path}))
    assert done.returncode == 0, done.stdout
    assert math.isclose(learned_w(tmp_path), 10, rel_tol=1e-6)


def test_options_that_cannot_be_met_are_refused_with_a_sentence(
    tmp_path, tiny_ge2e
):
    # fmt: off
    bad = [  # key, value, what the message must say
        ("split_ratio", "[90,10]", r"split_ratio=\[90, 10\]: dev rows .*"
            r"has no error_stats; set --split_ratio=\[100,0\]"),
        ("num_speakers", 0, r"num_speakers=0; want a whole number, 1 or more"),
        ("num_utterances", 2.5, r"num_utterances=2\.5; want a whole number"),
        ("num_speakers", 7, r"num_speakers=7 .*but there are 6 speakers"),
        ("few_utterances", "drop", r"few='drop'; want 'crops' or 'leave_out'"),
        ("min_frames", 70, r"min_frames=70, max_frames=60; want"),
        ("batch_sampler", "!name:functools.partial [!name:builtins.dict ]",
            r"batch_sampler: a partial has no step_size, the number of crops"),
        ("lr_factors", 2, r"did you mean --lr_factor\?"),
    ]
    # fmt: on
    lines = [
        [YAML, *options({**tiny_ge2e, "output_folder": tmp_path / key, key: v})]
        for key, v, _ in bad
    ]
    needed = {"data_folder": "x", "verification_file": "y"}
    lines.append([LSTM, *options(needed), f"--output_folder={tmp_path}/none"])
    says = [said for *_, said in bad] + [r"add --validation_file=\.\.\."]
    done = run_many(SCRIPT, lines)
    for (code, said), message in zip(done, says, strict=True):
        assert code == 2, said
        assert re.search(message, said.strip().splitlines()[-1]), said
        assert "Traceback" not in said
