"""Models from strangers: nothing runs, nothing is missing, or it is refused."""

import contextlib
import errno
import re

import pytest
import soundfile
import torch
from hub_folders import COSINES, MALICIOUS, RUNS_IN_HOST, with_text, write_run
from hyperpyyaml import load_hyperpyyaml
from safetensors.torch import save_file
from speechbrain.inference.speaker import EncoderClassifier

from speechbrain_attn import hub
from speechbrain_attn.errors import AttnError, AudioError
from speechbrain_attn.hub import loading
from speechbrain_attn.hub.folder import load_network
from speechbrain_attn.hub.safe import load_safe_hparams


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", COSINES) / "model"


@pytest.fixture
def marker(tmp_path):
    """What malicious folders make, where their code runs."""
    return tmp_path / "marker"


@pytest.fixture(autouse=True)
def no_request(monkeypatch):
    """Nothing here may ask the hub."""

    def refuse(*args, **kwargs):
        pytest.fail("the hub was asked")

    monkeypatch.setattr(loading, "snapshot_download", refuse)


def test_a_good_folder_gives_what_the_host_gives(folder):
    wavs = torch.randn(2, 8000)
    host = EncoderClassifier.from_hparams(str(folder))
    model = hub.load(folder)
    assert torch.equal(model.encode_batch(wavs), host.encode_batch(wavs))
    shifted = model.encode_batch(wavs, normalize=True)
    assert torch.equal(shifted, host.encode_batch(wavs, normalize=True))
    model.hparams.label_encoder.expect_len(3)
    *_, labels = model.classify_batch(wavs)
    assert set(labels) <= {"anna", "ben", "carla"}


@pytest.mark.parametrize("change, says", MALICIOUS.values(), ids=MALICIOUS)
def test_malicious_folders_are_refused(folder, marker, change, says):
    change(folder, marker)
    with pytest.raises(AttnError, match=says):
        hub.load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "change", [change for change, _ in RUNS_IN_HOST.values()], ids=RUNS_IN_HOST
)
def test_control_the_host_runs_them(folder, marker, change):
    """Otherwise the refusals above would guard against nothing."""
    change(folder, marker)
    with open(folder / "hyperparams.yaml") as file:
        # What the payload returns may be of no use to what comes after it.
        with contextlib.suppress(TypeError, AttributeError):
            found = load_hyperpyyaml(file)
            if hasattr(found.get("x"), "wait"):
                found["x"].wait()
    assert marker.exists()


def test_refusal_names_line_and_tag(folder, marker):
    MALICIOUS["apply"][0](folder, marker)
    lines = (folder / "hyperparams.yaml").read_text().splitlines()
    number = 1 + [i for i, s in enumerate(lines) if "!apply" in s][0]
    says = rf"hyperparams\.yaml line {number}: !apply:os\.mkdir.*trust=True"
    with pytest.raises(AttnError, match=says):
        hub.load(folder)


def test_trust_runs_the_yaml(folder, marker):
    MALICIOUS["apply"][0](folder, marker)
    model = hub.load(folder, trust=True)
    assert marker.exists()
    assert model.encode_batch(torch.randn(1, 8000)).shape == (1, 1, 6)


def test_trust_does_not_run_weights(folder, marker):
    MALICIOUS["pickle_of_weights"][0](folder, marker)
    with pytest.raises(AttnError, match="pickle that names"):
        hub.load(folder, trust=True)
    assert not marker.exists()


def test_values_are_those_of_the_host(tmp_path):
    path = tmp_path / "hyperparams.yaml"
    path.write_text(
        "a: 1e-3\nb: on\nc: 0o17\nd: (1, 2.5)\ne: !ref <a>\n"
        "g: [1, {h: null}]\nh: !ref <c> + 1\ni: !ref <b>/x\n"
        "k: !name:torch.nn.LeakyReLU\nl: {m: 2}\nn: !ref <l[m]> * <c> - 1\n"
        "o: !ref <n> // 2\np: !ref <g>\nq: It's from <anna@example.org>\n"
    )
    with open(path) as file:
        expected = load_hyperpyyaml(file)
    assert load_safe_hparams(path) == expected
    assert expected["d"] == (1, 2.5) and expected["o"] == 14


def test_arguments_of_a_class_are_bound_as_in_the_host(tmp_path):
    path = tmp_path / "hyperparams.yaml"
    path.write_text(
        "a: !name:torch.nn.Linear\n    in_features: 3\n"
        "b: !new:torch.nn.Linear [3, 2]\n"
        "c: [!ref <b>]\n"
    )
    found = load_safe_hparams(path)
    assert found["a"](out_features=5).weight.shape == (5, 3)
    assert found["c"][0] is found["b"]


@pytest.mark.parametrize(
    "text, says",
    [
        ("a: [1", "cannot be read"),
        ("- 1", "holds no keys"),
        ("a: !PLACEHOLDER", "a value is missing"),
        ("a: !ref <b>", 'reference "b" is not valid'),
        ("a: !new:torch.nn.Linear [1]", "cannot be built .*out_features"),
        ("a: !new:torch.nn.Lineal [1]", "has no class Lineal"),
        ("%YAML 1.2\n---\na: 1", "has a %YAML line.*remove it"),
        ("a: !ref [<b>]", "cannot be read"),
        ("a: !ref <b[c]>\nb: c", "cannot be read"),
    ],
)
def test_broken_yaml_is_said(tmp_path, text, says):
    path = tmp_path / "hyperparams.yaml"
    path.write_text(text)
    with pytest.raises(AttnError, match=rf"hyperparams\.yaml.*{says}"):
        load_safe_hparams(path)


def _drop_parameter(weights):
    del weights["encoder.convs.0.bias"]


def _add_parameter(weights):
    weights["extra"] = torch.ones(1)


def _prefix_parameters(weights):
    for name in list(weights):
        weights[f"module.{name}"] = weights.pop(name)


def _reshape_parameter(weights):
    weights["encoder.convs.0.bias"] = torch.ones(8)


BIAS = "encoder.convs.0.bias"


def _another_kind(change):
    """A change of one parameter, its shape kept."""

    def change_bias(weights):
        weights[BIAS] = change(weights[BIAS])

    return change_bias


def _quantised(values):
    return torch.quantize_per_tensor(values, 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    "change, says",
    [
        (_drop_parameter, "encoder.convs.0.bias is missing"),
        (_add_parameter, "extra is unknown"),
        (_prefix_parameters, "more are missing, module"),
        (_reshape_parameter, r"has shape \(8,\)"),
        (dict.clear, "holds no parameters"),
        (
            _another_kind(lambda values: values.to(torch.complex64)),
            r"0\.bias holds complex numbers .*, the network real numbers",
        ),
        (
            _another_kind(lambda values: values.to(torch.int8)),
            "0.bias holds whole numbers, the network real",
        ),
    ],
)
@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_weights_that_do_not_fit_are_refused(folder, change, says, ending):
    path = folder / "embedding_model.ckpt"
    weights = torch.load(path)
    change(weights)
    path.unlink()
    if ending == "ckpt":
        torch.save(weights, path)
    else:
        save_file(weights, path.with_suffix(".safetensors"))
    with pytest.raises(AttnError, match=says):
        hub.load(folder)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize(
    "change, says",
    [
        (lambda values: values.to_sparse(), "holds a sparse tensor"),
        (lambda values: values.to("meta"), "holds no numbers"),
        (_quantised, "holds quantised numbers"),
    ],
    ids=("sparse", "meta", "quantised"),
)
def test_weights_of_no_plain_layout_are_refused(folder, change, says):
    """A .safetensors cannot hold them."""
    path = folder / "embedding_model.ckpt"
    weights = torch.load(path)
    _another_kind(change)(weights)
    torch.save(weights, path)
    with pytest.raises(AttnError, match=rf"0\.bias {says}.*network real"):
        hub.load(folder)


def test_half_precision_weights_are_taken(folder):
    """Control: not every other type is refused."""
    path = folder / "embedding_model.ckpt"
    weights = torch.load(path)
    _another_kind(torch.Tensor.half)(weights)
    torch.save(weights, path)
    loaded = hub.load(folder).mods.embedding_model.state_dict()[BIAS]
    assert torch.equal(loaded, weights[BIAS].float())


def test_weights_of_what_has_none_are_refused(folder):
    change = with_text(COSINES.replace("    ", "  "), "!new:torch.nn.Identity")
    change(folder, None)
    with pytest.raises(AttnError, match="checkpoint of Identity"):
        hub.load(folder)


def test_weights_that_nobody_loads_are_refused(folder):
    line = "        embedding_model: !ref <embedding_model>\n"
    with_text(line, "")(folder, None)
    with pytest.raises(AttnError, match="embedding_model is not among"):
        hub.load(folder)


@pytest.mark.parametrize(
    "name",
    ["embedding_model", "classifier", "mean_var_norm_emb", "label_encoder"],
)
def test_a_missing_file_is_named(folder, name):
    (folder / f"{name}.ckpt").unlink()
    with pytest.raises(AttnError, match=rf"{name}\.ckpt"):
        hub.load(folder)


def test_means_of_another_model_are_refused(folder):
    path = folder / "mean_var_norm_emb.ckpt"
    stats = torch.load(path)
    stats["glob_mean"] = torch.zeros(5)
    torch.save(stats, path)
    with pytest.raises(AttnError, match=r"shape \(5,\).*have 6 values"):
        hub.load(folder)


@pytest.mark.parametrize(
    "key, value",
    [
        ("glob_mean", "abc"),
        ("glob_mean", torch.full((6,), torch.nan)),
        ("glob_std", torch.zeros(6, device="meta")),
        ("count", "x"),
        ("count", None),
    ],
)
def test_means_that_are_no_numbers_are_refused(folder, key, value):
    path = folder / "mean_var_norm_emb.ckpt"
    stats = torch.load(path)
    stats[key] = value
    torch.save(stats, path)
    says = "emb.ckpt: count, glob_mean and glob_std are no numbers"
    with pytest.raises(AttnError, match=says):
        hub.load(folder)


@pytest.mark.parametrize(
    "old, new, says",
    [
        (
            "    embedding_model: !ref <embedding_model>\n    mean",
            "    embedding_model: 3\n    mean",
            "modules: embedding_model is 3; want a torch module",
        ),
        (
            "    classifier: !ref <classifier>\npre",
            "    classifier: null\npre",
            "modules: classifier is None; want a torch module",
        ),
        ("rate: 16000", "rate: hello", "sample_rate is 'hello'; want whole"),
        ("rate: 16000", "rate: 0", "sample_rate is 0; want whole"),
        ("rate: 16000", "rate: yes", "sample_rate is .*; want whole"),
    ],
)
def test_parts_of_no_use_are_refused(folder, old, new, says):
    with_text(old, new)(folder, None)
    for trust in (False, True):
        with pytest.raises(AttnError, match=f"hyperparams.yaml: {says}"):
            hub.load(folder, trust=trust)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "hyperparams.yaml",
        "embedding_model.ckpt",
        "mean_var_norm_emb.ckpt",
        "label_encoder.ckpt",
    ],
)
def test_a_file_that_may_not_be_read_is_said(folder, name, trust, monkeypatch):
    """Not by its mode, which root may ignore."""
    opened = open

    def refuse(path, *args, **kwargs):
        if str(path) == str(folder / name):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(AttnError, match=rf"{name}: cannot be read .*denied"):
        hub.load(folder, trust=trust)


def with_learned_features(folder):
    """A model whose features are normalised by what was learned."""
    with_text(
        "mean_var_norm: !new:speechbrain_attn.lobes.features."
        "SentenceNormalization",
        "mean_var_norm: !new:speechbrain.processing.features."
        "InputNormalization\n    norm_type: global",
    )(folder, None)
    with_text(
        "    loadables:\n",
        "    loadables:\n        mean_var_norm: !ref <mean_var_norm>\n",
    )(folder, None)
    stats = {"count": 9, "glob_mean": torch.randn(13)}
    stats["glob_std"] = 1 + torch.rand(13)
    torch.save(stats, folder / "mean_var_norm.ckpt")
    return stats


def test_a_learned_normaliser_of_features_is_loaded(folder):
    stats = with_learned_features(folder)
    wavs = torch.randn(2, 8000)
    host = EncoderClassifier.from_hparams(str(folder))
    model = hub.load(folder)
    expected = host.encode_batch(wavs)
    torch.testing.assert_close(model.encode_batch(wavs), expected)
    # By the way of the scripts, too.
    norm = load_network(folder)["mean_var_norm"]
    assert torch.equal(norm.glob_mean, stats["glob_mean"])
    # And the hash of a model knows it.
    stats["glob_mean"] += 1
    torch.save(stats, folder / "mean_var_norm.ckpt")
    assert hub.load(folder).sha256 != model.sha256


def test_the_hash_of_a_model_is_that_on_any_device(folder):
    with_learned_features(folder)
    model = hub.load(folder, device="cpu")
    other = hub.load(folder, device="cpu")
    other.mods.mean_var_norm.device = "cuda:0"  # as the host's to() leaves it
    assert other.sha256 == model.sha256


def test_a_broken_label_encoder_is_said(folder):
    (folder / "label_encoder.ckpt").write_text("anna is 0\n")
    with pytest.raises(AttnError, match="is no label encoder"):
        hub.load(folder)


def test_an_empty_file_is_said(folder):
    (folder / "embedding_model.ckpt").write_bytes(b"")
    says = r"is empty, cut short or not a checkpoint \(\w"
    with pytest.raises(AttnError, match=says):
        hub.load(folder)


def test_a_file_is_no_folder(folder):
    with pytest.raises(AttnError, match=r"yaml: is a file; give the model's"):
        hub.load(folder / "hyperparams.yaml")


@pytest.mark.parametrize("path", ["a/b", "nowhere", "a/b/c", "/no/where/else"])
def test_a_mistyped_folder_is_no_hub_request(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttnError, match=f"^{path}: folder not found"):
        hub.load(path)
    if path == "a/b":
        with pytest.raises(AttnError, match="write hf://a/b"):
            hub.load(path)


def test_paths_that_name_their_own_folder_are_let_in(folder, monkeypatch):
    """As the host's models on the hub have them."""
    text = folder / "hyperparams.yaml"
    text.write_text(
        f"pretrained_path: {folder}\n"
        + text.read_text().rstrip()
        + "\n    paths:\n"
        "        embedding_model: !ref <pretrained_path>/embedding_model.ckpt\n"
        "        label_encoder: !ref <pretrained_path>/label_encoder.txt\n"
    )
    assert hub.load(folder).encode_batch(torch.randn(1, 8000)).shape[2] == 6


def test_each_load_reads_the_folder_anew(tmp_path, monkeypatch):
    """Two models are never taken for each other, in one folder or in two."""
    monkeypatch.chdir(tmp_path)
    wavs = torch.randn(1, 8000)
    one = write_run(tmp_path / "one" / "x") / "model"
    two = write_run(tmp_path / "two" / "x", seed=1) / "model"
    first, second = (hub.load(f).encode_batch(wavs) for f in (one, two))
    assert not torch.allclose(first, second)
    one.rename(tmp_path / "aside")
    two.rename(one)
    assert torch.equal(hub.load(one).encode_batch(wavs), second)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"one", "two", "aside"}  # no cache, no links


def test_audio_of_one_name_in_two_folders(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
        noise = 0.1 * torch.randn(8000).numpy()
        soundfile.write(tmp_path / name / "x.wav", noise, 16000)
    model = hub.load(folder)
    score, _ = model.verify_files("a/x.wav", "b/x.wav", threshold=0.5)
    same, decision = model.verify_files("a/x.wav", "a/x.wav", threshold=0.5)
    assert score < 0.999 < same and bool(decision)
    with pytest.raises(AudioError, match=re.escape("b/y.wav: no such audio")):
        model.verify_files("a/x.wav", "b/y.wav", threshold=0.5)
