"""The verification script as a user runs it, on a tiny corpus."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.utils.metric_stats import EER, minDCF

from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.folder import write_model_folder

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "recipes" / "VoxCeleb" / "speaker_verification_cosine.py"
PLDA_SCRIPT = SCRIPT.with_name("speaker_verification_plda.py")

# SpeechBrain's own parts under the keys that its script reads.
HOST_YAML = """\
output_folder: !PLACEHOLDER
save_folder: !ref <output_folder>/save
data_folder: !PLACEHOLDER
verification_file: !PLACEHOLDER
pretrain_path: !PLACEHOLDER
score_norm: s-norm
cohort_size: 20000
channels: 16
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 40
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: 40
    channels: [16, 16, 16, 16, !ref <channels> * 3]
    attention_channels: 8
    lin_neurons: 8
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    collect_in: !ref <save_folder>
    loadables:
        embedding_model: !ref <embedding_model>
    paths:
        embedding_model: !ref <pretrain_path>/embedding_model.ckpt
"""

# The keys of a training YAML that make a model folder.
TRAINING_YAML = """\
compute_features: !new:speechbrain_attn.lobes.features.Fbank
    n_mels: 40
mean_var_norm: !new:speechbrain_attn.lobes.features.SentenceNormalization
embedding_model: !new:speechbrain_attn.lobes.models.serialized_mha.SerializedMHA
    input_size: 40
    channels: [16, 16, 16]
    embedding_size: 8
    num_layers: 2
classifier: !new:torch.nn.Linear
    in_features: 8
    out_features: 3
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three made-up speakers, four utterances each, and a list of trials."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    names = []
    for speaker in range(3):
        tone = np.sin(np.arange(16000) * (0.1 + 0.2 * speaker))
        for utterance in range(4):
            name = f"id{speaker}/session.{utterance % 2}/0000{utterance}"
            path = folder / "wav" / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            length = 4000 + 3000 * utterance + 371 * speaker
            noise = generator.normal(0, 0.02, length)
            soundfile.write(path, 0.3 * tone[:length] + noise, 16000)
            names.append(name)
    lines = [
        f"{int(enrol[:3] == test[:3])} {enrol}.wav {test}.wav\n"
        for enrol in names
        for test in names
        if enrol < test
    ]
    (folder / "trials.txt").write_text("".join(lines))
    (folder / "host.yaml").write_text(HOST_YAML)
    (folder / "train.yaml").write_text(TRAINING_YAML)
    save_weights(folder / "CKPT+first", seed=1)
    save_weights(folder / "CKPT+second", seed=2)
    return folder


def save_weights(folder, seed):
    torch.manual_seed(seed)
    model = ECAPA_TDNN(
        40, channels=[16] * 4 + [48], attention_channels=8, lin_neurons=8
    )
    folder.mkdir()
    torch.save(model.state_dict(), folder / "embedding_model.ckpt")


def arguments(corpus, output_folder, *options, yaml="host.yaml"):
    """Command line of the script; ``options`` win over the defaults here."""
    given = {
        "output_folder": output_folder,
        "data_folder": corpus,
        "verification_file": corpus / "trials.txt",
        "pretrain_path": corpus / "CKPT+first",
        "device": "cpu",
    }
    if yaml == "host.yaml":
        given["score_norm"] = "null"
    given.update(option.split("=", 1) for option in options)
    given = [f"--{key}={value}" for key, value in given.items() if value]
    return [str(corpus / yaml), *given]


def verify(*args, script=SCRIPT, **kwargs):
    """Run the script as a user does."""
    return subprocess.run(
        [sys.executable, script.name, *arguments(*args, **kwargs)],
        cwd=SCRIPT.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def read_scores(output_folder):
    lines = (output_folder / "scores.txt").read_text().splitlines()
    rows = [line.split() for line in lines]
    return rows, np.array([float(row[3]) for row in rows])


@pytest.fixture(scope="module")
def first_run(corpus, tmp_path_factory):
    output_folder = tmp_path_factory.mktemp("results") / "first"
    return verify(corpus, output_folder), output_folder


def test_scores_are_those_of_each_file_alone(corpus, first_run):
    run, output_folder = first_run
    assert run.returncode == 0, run.stderr
    rows, scores = read_scores(output_folder)
    listed = (corpus / "trials.txt").read_text().replace(".wav", "").split()
    assert [row[2] for row in rows] == listed[0::3]
    assert [row[0] for row in rows] == listed[1::3]
    assert [row[1] for row in rows] == listed[2::3]

    keys = "output_folder data_folder verification_file pretrain_path".split()
    hparams = load_hparams(corpus / "host.yaml", dict.fromkeys(keys, "unused"))
    model = hparams["embedding_model"].eval()
    model.load_state_dict(
        torch.load(corpus / "CKPT+first" / "embedding_model.ckpt")
    )

    def embed(name):
        wav, _ = soundfile.read(corpus / "wav" / f"{name}.wav", dtype="float32")
        feats = hparams["compute_features"](torch.from_numpy(wav).unsqueeze(0))
        feats = hparams["mean_var_norm"](feats, torch.ones(1))
        with torch.no_grad():
            return model(feats, torch.ones(1)).flatten()

    alone = [
        torch.cosine_similarity(embed(row[0]), embed(row[1]), dim=0)
        for row in rows
    ]
    # 1e-5: scores.txt has six decimals.
    np.testing.assert_allclose(scores, alone, rtol=0, atol=1e-5)


def test_results_agree_with_speechbrain_and_name_their_scale(first_run):
    run, output_folder = first_run
    rows, scores = read_scores(output_folder)
    results = json.loads((output_folder / "results.json").read_text())
    targets = np.array([row[2] == "1" for row in rows])
    positive = torch.tensor(scores[targets])
    negative = torch.tensor(scores[~targets])
    figures = results["systems"]["cosine"]
    # As in the unit tests: SpeechBrain takes the nearest threshold.
    theirs, _ = EER(positive, negative)
    assert abs(figures["eer"]["value"] - theirs) <= 1 / (4 * targets.sum())
    theirs, _ = minDCF(positive, negative)
    raw = 0.01 * figures["min_dcf_0.01"]["value"]
    assert raw == pytest.approx(theirs, rel=1e-6)
    assert results["num_trials"] == len(rows) == 66
    assert results["trials"]["targets"] == targets.sum() == 18
    assert results["num_speakers"] == 3
    assert results["trial_list"].endswith("trials.txt")
    assert results["conditions"]["embeddings"].endswith("/CKPT+first")
    said = f"cosine: EER {100 * figures['eer']['value']:.2f} ["
    assert run.stdout.count(said) == 1
    for text in (run.stdout, (output_folder / "log.txt").read_text()):
        assert "trials.txt (VoxCeleb format): 66 trials, 18 targets and" in text
        assert said in text and "minCllr" in text
        assert "normalised" in text
        assert f"raw scale: cosine has minDCF(0.01) {raw:.6f}" in text
    page = (output_folder / "results.md").read_text()
    assert "of 12 utterances" in page and "| minCllr (bit) |" in page
    assert not list(output_folder.glob("*.tmp"))


def test_another_checkpoint_in_the_same_folder_is_the_one_that_scores(
    corpus, first_run, tmp_path
):
    """SpeechBrain's script keeps the link of the first in save_folder."""
    shutil.copytree(first_run[1], tmp_path / "out", symlinks=True)
    second = f"pretrain_path={corpus}/CKPT+second"
    assert verify(corpus, tmp_path / "out", second).returncode == 0
    _, before = read_scores(first_run[1])
    _, after = read_scores(tmp_path / "out")
    assert np.abs(after - before).max() > 1e-3


def test_embeddings_are_made_once_for_each_checkpoint(
    corpus, first_run, tmp_path
):
    stores = f"embeddings_folder={first_run[1] / 'embeddings'}"
    (made,) = (first_run[1] / "embeddings").iterdir()
    before = (made / "embeddings.npy").stat().st_mtime_ns
    again = verify(corpus, tmp_path / "again", stores, "replicates=20")
    assert again.returncode == 0, again.stderr
    assert list((first_run[1] / "embeddings").iterdir()) == [made]
    assert (made / "embeddings.npy").stat().st_mtime_ns == before
    assert not (tmp_path / "again" / "embeddings").exists()
    rows, scores = read_scores(tmp_path / "again")
    np.testing.assert_array_equal(scores, read_scores(first_run[1])[1])


@pytest.fixture(scope="module")
def other_lists(corpus):
    """A manifest of two speakers, and a list of the third one and them."""
    rows = "".join(
        f"{path.stem},1,{path},0,1,{path.parts[-3]}\n"
        for path in sorted((corpus / "wav").glob("id[12]/*/*.wav"))
    )
    (corpus / "cohort.csv").write_text(
        "ID,duration,wav,start,stop,spk\n" + rows
    )
    lines = (corpus / "trials.txt").read_text().splitlines(keepends=True)
    (corpus / "dev.txt").write_text("".join(lines[::2]))
    return [
        f"cohort={corpus / 'cohort.csv'}",
        f"development_file={corpus / 'dev.txt'}",
    ]


def test_cohort_and_development_list_add_rows_and_files(
    corpus, other_lists, first_run, tmp_path
):
    run = verify(
        corpus,
        tmp_path,
        *other_lists,
        "cohort_utterances=True",
        "cohort-top=5",
        "scoring=fusion",
        f"compare={first_run[1] / 'scores.txt'}",
        "replicates=50",
    )
    assert run.returncode == 0, run.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    names = ["cosine", "centred", "s-norm", "as-norm", "fusion"]
    assert list(results["systems"]) == names
    first = json.loads((first_run[1] / "results.json").read_text())
    for metric, figure in first["systems"]["cosine"].items():
        # Calibrated scores are float64 of those; ties and order stay.
        same = results["systems"]["cosine"][metric]["value"]
        assert same == pytest.approx(figure["value"], abs=1e-9)
        other = results["comparison"][metric]["other"]["value"]
        assert other == pytest.approx(figure["value"], abs=1e-9)
    cohort = results["conditions"]["cohort"]
    assert cohort["utterances"] == cohort["size"] == 8
    assert cohort["speakers"] == 2 and cohort["top"] == 5
    assert "Cllr " in run.stdout and "cohort and trials share 2" in run.stdout
    page = (tmp_path / "results.md").read_text()
    for words in (
        "| adaptive s-norm | ",
        "2 speakers of the test list, such as id1, are in the cohort",
        "3 speakers of the test list, such as id0, are in the development",
        "the other `first/scores.txt`",
        "| fa_0.01 | ",
    ):
        assert words in page
    for name in ("calibration.json", "fusion.json", "decisions.csv"):
        assert (tmp_path / name).is_file()
    # Without the list, files of the run before would mislead.
    stores = f"embeddings_folder={tmp_path / 'embeddings'}"
    assert verify(corpus, tmp_path, stores, "replicates=20").returncode == 0
    assert not (tmp_path / "calibration.json").exists()


def test_a_saved_calibration_is_for_one_model(
    corpus, other_lists, first_run, tmp_path
):
    """It decides on the trials of its model, and is refused for another."""
    out, stores = tmp_path / "out", first_run[1] / "embeddings"
    common = [f"embeddings_folder={stores}", "replicates=20"]
    assert verify(corpus, out, *common, other_lists[1]).returncode == 0
    saved = f"calibration={out / 'calibration.json'}"
    before = (out / "decisions.csv").read_text()
    # Into the folder that it lies in, which is written anew.
    run = verify(corpus, out, *common, saved)
    assert run.returncode == 0, run.stderr
    assert (out / "decisions.csv").read_text() == before
    assert (
        "Cllr " in run.stdout and "Decisions at a prior of 0.05" in run.stdout
    )
    assert not (out / "fusion.json").exists()
    second = f"pretrain_path={corpus}/CKPT+second"
    run = verify(corpus, tmp_path / "second", *common, saved, second)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    said = "calibration.json: was fitted on another model's embeddings (sha256"
    assert said in run.stderr
    assert not (tmp_path / "second" / "results.json").exists()


def test_plda_is_trained_saved_and_loaded(corpus, other_lists, tmp_path):
    stores = f"embeddings_folder={tmp_path / 'stores'}"
    common = [other_lists[0], stores, "lda_size=1", "replicates=20"]
    run = verify(corpus, tmp_path / "a", *common, script=PLDA_SCRIPT)
    # 8 utterances of 2 speakers cannot train 8 coordinates.
    assert run.returncode == 2
    assert "want at least 10 utterances of 2 speakers" in run.stderr
    common[0] = f"cohort={corpus}"
    run = verify(corpus, tmp_path / "a", *common, script=PLDA_SCRIPT)
    assert run.returncode == 0, run.stderr
    saved = tmp_path / "a" / "plda.safetensors"
    loaded = verify(
        corpus,
        tmp_path / "b",
        stores,
        f"plda={saved}",
        "scoring=plda",
        "replicates=20",
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "LDA + PLDA: EER" in loaded.stdout
    np.testing.assert_array_equal(
        read_scores(tmp_path / "a")[1], read_scores(tmp_path / "b")[1]
    )


def test_precision_is_a_run_option(corpus, first_run, tmp_path):
    run = verify(corpus, tmp_path, "precision=bf16", "replicates=20")
    assert run.returncode == 0, run.stderr
    _, full = read_scores(first_run[1])
    _, half = read_scores(tmp_path)
    assert 0 < np.abs(full - half).max() < 0.1
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["conditions"]["settings"]["precision"] == "bf16"


@pytest.fixture(scope="module")
def model_folder(corpus):
    hparams = load_hparams(corpus / "train.yaml")
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(["id0", "id1", "id2"])
    write_model_folder(
        corpus / "model",
        corpus / "train.yaml",
        "",
        hparams,
        encoder,
        np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32),
    )
    return corpus / "model"


def test_a_model_folder_is_scored(corpus, model_folder, tmp_path):
    run = verify(
        corpus,
        tmp_path,
        f"pretrain_path={model_folder}",
        yaml=ROOT / "hparams" / "verification_model.yaml",
    )
    assert run.returncode == 0, run.stderr
    _, scores = read_scores(tmp_path)
    assert len(scores) == 66
    assert np.abs(scores).max() <= 1.00001 and scores.std() > 1e-4


@pytest.fixture(scope="module")
def script():
    """The script as a module: these cases end before it writes anything."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture
def refused(script, corpus, tmp_path, capsys, monkeypatch):
    """Run the script, see it end with exit code 2, and return what it said."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])

    def refused(*options, yaml="host.yaml"):
        output_folder = tmp_path / "out"
        with pytest.raises(SystemExit, match="^2$"):
            script.main(arguments(corpus, output_folder, *options, yaml=yaml))
        assert not output_folder.exists()
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"{SCRIPT.name}: ")
        return lines[0]

    refused.corpus = corpus
    return refused


def spoil(corpus, tmp_path, what):
    """A checkpoint folder with one thing wrong."""
    path = corpus / "CKPT+first" / "embedding_model.ckpt"
    weights = torch.load(path)
    key = "fc.conv.weight"
    if what == "missing":
        del weights[key]
    elif what == "renamed":
        weights = {f"module.{name}": value for name, value in weights.items()}
    elif what == "shape":
        weights[key] = weights[key][:5]
    elif what == "no_keys":
        weights = {}
    spoilt = tmp_path / "embedding_model.ckpt"
    torch.save(weights, spoilt)
    if what == "empty_file":
        spoilt.write_bytes(b"")
    elif what == "cut_short":
        spoilt.write_bytes(path.read_bytes()[:3000])
    elif what == "text":
        spoilt.write_text("not weights")


# fmt: off
BAD_WEIGHTS = [  # what is wrong, what the message must say
    ("missing", "fc.conv.weight is missing, nothing is unknown"),
    ("renamed", "module.blocks.0"),
    ("shape", "has shape (5, 96, 1), the YAML builds (8, 96, 1)"),
    ("no_keys", "holds no parameters"),
    ("empty_file", "is empty, cut short or not a checkpoint"),
    ("cut_short", "is empty, cut short or not a checkpoint"),
    ("text", "is empty, cut short or not a checkpoint"),
]
# fmt: on


@pytest.mark.parametrize(
    "what, says", BAD_WEIGHTS, ids=[row[0] for row in BAD_WEIGHTS]
)
def test_a_bad_checkpoint_is_refused(refused, tmp_path, what, says):
    spoil(refused.corpus, tmp_path, what)
    said = refused(f"pretrain_path={tmp_path}")
    assert f"{tmp_path}/embedding_model.ckpt" in said
    assert says in said


# fmt: off
BAD_OPTIONS = [  # id, option, what the message must say
    ("unknown_key", "data_foldr=x",
     "has no key 'data_foldr' to override; did you mean --data_folder?"),
    ("unknown_option", "cohort_topp=5", "did you mean --cohort_top?"),
    ("placeholder", "data_folder=",
     "data_folder must be given: add --data_folder=..."),
    ("no_folder", "pretrain_path=results/no/such",
     "results/no/such: folder not found."),
    ("hub_name", "pretrain_path=speechbrain/spkrec-ecapa-voxceleb",
     "folder not found; for a model of the hub, fetch it first: hf download "
     "speechbrain/spkrec-ecapa-voxceleb --local-dir spkrec-ecapa-voxceleb."),
    ("no_data", "data_folder=/no/such", "/no/such: no such data folder"),
    ("no_list", "verification_file=none.txt", "none.txt: cannot be read"),
    ("url", "verification_file=https://example.org/trials.txt",
     "nothing is downloaded here; fetch it first"),
    ("s_norm", "score_norm=s-norm",
     "score_norm: 's-norm' is not supported by this script"),
    ("scoring", "scoring=best", "scoring: want one of cosine, centred, z-n"),
    ("no_cohort", "scoring=as-norm", "cohort: must be given for scoring=as-"),
    ("no_dev", "scoring=fusion", "development_file: must be given for scor"),
    ("no_plda", "scoring=plda", "plda: must be given for scoring=plda"),
    ("train", "plda=train", "cohort: must be given for plda=train"),
    ("top", "cohort_top=many", "cohort_top: want a whole number, got 'many'"),
    ("means", "cohort_utterances=3",
     "cohort_utterances: want True or False, got 3"),
    ("cohort_list", "cohort=none.txt", "none.txt: cannot be read"),
    ("dev_list", "development_file=none.txt", "none.txt: cannot be read"),
    ("compare", "compare=none.txt", "none.txt: cannot be read"),
    ("calibration", "calibration=none.json", "none.json: cannot be read"),
    ("term", "duration_term=True", "development_file: must be given for dur"),
    ("prior", "p_target=2.0", "p_target: want a number in (0, 1), got 2.0"),
]
# fmt: on


@pytest.mark.parametrize(
    "option, says",
    [pytest.param(*row[1:], id=row[0]) for row in BAD_OPTIONS],
)
def test_a_bad_option_is_refused(refused, option, says):
    assert says in refused(option)


# The tiny corpus has no id9.
TRIALS_WITH_ID9 = """\
1 id0/session.0/00000.wav id0/session.1/00001.wav
0 id0/session.0/00000.wav id9/session.0/00000.wav
"""


def test_a_missing_yaml_is_refused(refused):
    assert "none.yaml: no such YAML file" in refused(yaml="none.yaml")


def test_a_training_yaml_is_refused(refused, corpus, tmp_path):
    (corpus / "other.yaml").write_text(
        "data_folder: x\noutput_folder: x\nverification_file: x\n"
        "pretrain_path: x\nmean_var_norm: x\nembedding_model: x\n"
    )
    said = refused(yaml="other.yaml")
    assert "other.yaml: has no pretrainer, compute_features." in said


def test_a_missing_utterance_is_refused(refused, tmp_path):
    trials = tmp_path / "trials.txt"
    trials.write_text(TRIALS_WITH_ID9)
    said = refused(f"verification_file={trials}")
    assert "trials.txt line 2: no audio file for utterance 'id9/" in said


def test_a_broken_file_is_one_sentence_and_exit_code_2(corpus, tmp_path):
    wav = tmp_path / "data" / "id9" / "session.0" / "00000.wav"
    wav.parent.mkdir(parents=True)
    wav.write_text("no audio")
    trials = tmp_path / "trials.txt"
    trials.write_text(TRIALS_WITH_ID9)
    run = verify(
        corpus,
        tmp_path / "out",
        f"verification_file={trials}",
        f"data_folder={corpus},{tmp_path}/data",
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"{SCRIPT.name}: utterance 'id9/session.0/00000': {wav}: cannot be"
    )
    assert not (tmp_path / "out" / "results.json").exists()
