"""The extraction script as a user runs it, on a tiny corpus."""

import signal

import numpy as np
import pytest
import soundfile
import torch
from recipe_runs import RECIPE, ROOT, options, run, run_many
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.inference.speaker import EncoderClassifier
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.folder import write_model_folder
from speechbrain_attn.scoring.store import EmbeddingStore

SCRIPT = RECIPE / "extract_speaker_embeddings.py"
YAML = ROOT / "hparams" / "verification_model.yaml"

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

# A model folder of SpeechBrain's own parts, with the keys of its hub.
HOST_FOLDER_YAML = """\
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 40
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: 40
    channels: [16, 16, 16, 16, 48]
    attention_channels: 8
    lin_neurons: 8
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
"""

# Runs a script that is killed after it has finished some batches.
KILLER = """\
import os, runpy, signal, sys
from speechbrain_attn.inference.journal import Journal

left, append = int(sys.argv[1]), Journal.append

def append_and_die(*args):
    global left
    append(*args)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

Journal.append = append_and_die
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder as training writes it."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "train.yaml").write_text(TRAINING_YAML)
    torch.manual_seed(3)
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(["id0", "id1", "id2"])
    write_model_folder(
        folder / "model",
        folder / "train.yaml",
        "",
        load_hparams(folder / "train.yaml"),
        encoder,
        np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32),
    )
    return folder / "model"


@pytest.fixture(scope="module")
def extract(model, tiny_corpus):
    """Command line of the script, after the words of its launcher."""

    def command(output_folder, *more, first=model):
        given = {"data_folder": tiny_corpus, "output_folder": output_folder}
        return [SCRIPT, first, *options(given), "--device=cpu", *more]

    return command


@pytest.fixture(scope="module")
def whole(extract, tmp_path_factory):
    """The finished process and its store, of the whole tree."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(*extract(folder))
    assert done.returncode == 0, done.stdout
    return done, EmbeddingStore.open(folder / "embeddings")


def assert_same_store(folder, store):
    other = EmbeddingStore.open(folder / "embeddings")
    assert other.ids == store.ids and other.settings == store.settings
    np.testing.assert_array_equal(other.embeddings, store.embeddings)
    np.testing.assert_array_equal(other.durations, store.durations)


def test_a_tree_is_embedded_as_the_model_folder_does(whole, model, tiny_corpus):
    done, store = whole
    assert "embeddings: 48 utterances, 0.0 h, embedding size 8" in done.stdout
    assert len(store) == 48 and "id10001/aaa/00002" in store.ids
    classifier = EncoderClassifier.from_hparams(source=str(model))
    for name in ("id10001/aaa/00001", "id10008/bbb/00003"):
        wav, _ = soundfile.read(tiny_corpus / "wav" / f"{name}.wav")
        wav = torch.tensor(wav, dtype=torch.float32).unsqueeze(0)
        (row,) = store.rows([name])
        np.testing.assert_allclose(
            store.embeddings[row],
            classifier.encode_batch(wav).flatten(),
            atol=1e-5,
        )
        assert store.durations[row] == pytest.approx(wav.shape[1] / 16000)


def test_lists_manifests_and_yaml_choose_utterances(
    whole, extract, model, trials, tmp_path
):
    _, store = whole
    listed = trials_from_file(trials).utterances
    names = tmp_path / "names.txt"
    names.write_text("id10003/aaa/00002.wav\n\nid10001/bbb/00001\n")
    manifest = tmp_path / "train.csv"
    wav = extract("")[2].split("=")[1] + "/wav/id10002/aaa/00001.wav"
    wav = wav.replace(extract("")[2].split("=")[1], "$data_root")
    rows = [f"id10002--{n},3.1,{wav},{n},{n + 1},id10002\n" for n in (0, 1)]
    enrol = tmp_path / "enrol.txt"
    enrol.write_text("m1 id10003/aaa/00002.wav id10003/bbb/00001.wav\n")
    models = tmp_path / "models.txt"
    models.write_text("1 m1 id10003/aaa/00001\n0 m1 id10001/bbb/00001\n")
    of_models = [f"--verification_file={models}", f"--enrol_map={enrol}"]
    manifest.write_text("ID,duration,wav,start,stop,spk_id\n" + "".join(rows))
    yaml = f"--pretrain_path={model}"
    cases = {
        "trials": (model, [f"--verification_file={trials}"], listed),
        "yaml": (YAML, [yaml, f"--verification_file={trials}"], listed),
        "yaml_tree": (YAML, [yaml], store.ids),
        "names": (
            YAML,
            [yaml, f"--files={names}"],
            ["id10003/aaa/00002", "id10001/bbb/00001"],
        ),
        "models": (
            model,
            of_models,
            trials_from_file(models, enrol).utterances,
        ),
        "manifest": (model, [f"--files={manifest}"], ["id10002/aaa/00001"]),
    }
    lines = [
        extract(tmp_path / name, *more, first=first)
        for name, (first, more, _) in cases.items()
    ]
    for (name, case), (code, said) in zip(
        cases.items(),
        run_many(lines[0][0], [line[1:] for line in lines]),
        strict=True,
    ):
        assert code == 0, said
        found = EmbeddingStore.open(tmp_path / name / "embeddings")
        assert found.ids == case[2]
        # Batches differ, and with them the last bits.
        np.testing.assert_allclose(
            found.embeddings, store.embeddings[store.rows(case[2])], atol=1e-5
        )


def test_a_killed_run_goes_on_and_ends_as_the_unbroken_one(
    whole, extract, tmp_path
):
    killer = tmp_path / "killer.py"
    killer.write_text(KILLER)
    done = run(killer, 2, *extract(tmp_path))
    assert done.returncode == -signal.SIGKILL, done.stdout
    journal = tmp_path / "embeddings" / "unfinished" / "part-0.jsonl"
    assert journal.read_text().count("\n") == 2
    assert not (tmp_path / "embeddings" / "store.json").exists()
    done = run(*extract(tmp_path))
    assert done.returncode == 0, done.stdout
    assert_same_store(tmp_path, whole[1])


def test_two_processes_and_a_kill_make_the_same_store(whole, extract, tmp_path):
    killer = tmp_path / "killer.py"
    killer.write_text(KILLER)
    launch = ["-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node=2"]
    gloo = "--distributed_backend=gloo"
    done = run(*launch, killer, 1, *extract(tmp_path, gloo))
    assert done.returncode == 1, done.stdout
    done = run(*launch, *extract(tmp_path, gloo))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("48 utterances") == 1
    assert (tmp_path / "embeddings" / ".lock-1").exists()
    assert_same_store(tmp_path, whole[1])


def test_a_folder_of_speechbrains_own_works(extract, tiny_corpus, tmp_path):
    """It does not mask exactly: only equal lengths share a batch."""
    folder = tmp_path / "ecapa"
    folder.mkdir()
    (folder / "hyperparams.yaml").write_text(HOST_FOLDER_YAML)
    torch.manual_seed(4)
    lobe = ECAPA_TDNN(
        40, channels=[16] * 4 + [48], attention_channels=8, lin_neurons=8
    )
    torch.save(lobe.state_dict(), folder / "embedding_model.ckpt")
    done = run(*extract(tmp_path, first=folder))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("only utterances of equal length share a b") == 1
    store = EmbeddingStore.open(tmp_path / "embeddings")
    classifier = EncoderClassifier.from_hparams(source=str(folder))
    name = "id10004/bbb/00001"
    wav, _ = soundfile.read(tiny_corpus / "wav" / f"{name}.wav")
    wav = torch.tensor(wav, dtype=torch.float32).unsqueeze(0)
    np.testing.assert_allclose(
        store.embeddings[store.rows([name])[0]],
        classifier.encode_batch(wav).flatten(),
        atol=1e-5,
    )


def test_bad_files_are_counted_and_listed_or_end_it(
    extract, tiny_corpus, tmp_path
):
    data = tmp_path / "data" / "id9" / "s"
    data.mkdir(parents=True)
    (data / "bad.wav").write_text("no audio")
    good = tiny_corpus / "wav" / "id10001" / "aaa" / "00002.wav"
    (data / "good.wav").write_bytes(good.read_bytes())
    where = f"--data_folder={tmp_path / 'data'}"
    skipped, stopped = run_many(
        SCRIPT,
        [
            extract(tmp_path / "skip", where)[1:],
            extract(tmp_path / "stop", where, "--on-error", "stop")[1:],
        ],
    )
    store = EmbeddingStore.open(tmp_path / "skip" / "embeddings")
    assert skipped[0] == 0 and store.ids == ["id9/s/good"]
    said = f"1 of 2 files could not be embedded; {store.folder}/left_out.csv"
    assert said in skipped[1]
    assert "cannot be decoded" in (store.folder / "left_out.csv").read_text()
    assert stopped[0] == 2
    said = f"{SCRIPT.name}: utterance 'id9/s/bad': {data}/bad.wav: cannot be"
    assert stopped[1].splitlines()[-1].startswith(said)


def test_bad_options_are_one_sentence_and_exit_code_2(
    extract, model, trials, whole, tmp_path
):
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "unknown.txt").write_text("id10001/aaa/00002\nid9/x/1\n")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "twice.csv").write_text("wav\na/b/c/d.wav\nx/b/c/d.wav\n")
    (tmp_path / "bare.yaml").write_text(
        "verification_file: x\ndata_folder: x\noutput_folder: x\n"
    )
    yaml = f"--pretrain_path={model}"
    # fmt: off
    cases = [  # arguments of extract, keywords, what the message must say
        (["--data_foldr=x"], {}, "--data_foldr: is no option for a model fold"),
        (["--data_folder="], {}, "data_folder must be given"),
        (["--data_folder=/no/such"], {}, "/no/such: no such data folder"),
        (["--on-error=go"], {}, "on_error: want one of skip, stop, got 'go'"),
        (["--verification_file=none.txt"], {}, "none.txt: cannot be read"),
        (["--files=none.txt"], {}, "none.txt: cannot be read"),
        ([f"--files={tmp_path}/empty.txt"], {}, "empty.txt: names no utt"),
        ([f"--files={tmp_path}/unknown.txt"], {},
         "unknown.txt (utterance 2): no audio file for utterance 'id9/x/1'"),
        ([f"--files={tmp_path}/other.csv"], {}, "has no column 'wav'"),
        ([f"--files={tmp_path}/twice.csv"], {},
         "line 3: utterance 'b/c/d' cannot be both x/b/c/d.wav and a/b/c/d"),
        ([yaml, "--data_foldr=x"], {"first": YAML},
         "has no key 'data_foldr' to override; did you mean --data_folder?"),
        ([], {"first": YAML}, "pretrain_path must be given"),
        ([], {"first": tmp_path / "none.yaml"}, "none.yaml: no such YAML"),
        ([], {"first": tmp_path / "bare.yaml"},
         "bare.yaml: has no compute_features, mean_var_norm, embedding_model"),
        ([], {"first": tmp_path}, "is not a model folder: it has no hyperp"),
        ([f"--verification_file={trials}"], {"to": whole[1].folder.parent},
         "was begun with another list of files"),
        ([], {"to": trials / "out"}, "out: cannot be written (Not a directory"),
    ]
    # fmt: on
    lines = []
    for more, keywords, _ in cases:
        keywords = dict(keywords)
        to = keywords.pop("to", tmp_path / "out")
        lines.append(extract(to, *more, **keywords)[1:])
    for (more, _, says), (code, said) in zip(
        cases, run_many(SCRIPT, lines), strict=True
    ):
        assert code == 2, (more, said)
        assert says in said.splitlines()[-1]
        assert said.splitlines()[-1].startswith(f"{SCRIPT.name}: ")
    assert not (tmp_path / "out" / "embeddings" / "store.json").exists()
