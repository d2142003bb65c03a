"""Model folders for the tests of the hub: good ones and malicious ones."""

import os
import pickle
from pathlib import Path

import numpy as np
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.encoder import CategoricalEncoder

from speechbrain_attn.hub.folder import write_model_folder

SPEAKERS = ["anna", "ben", "carla"]
# As train_speaker_embeddings.py leaves it: the host's two lines, then the YAML.
TRAINING_YAML = """\
# Generated 2020-02-02 from:
# {folder}/serialized_small.yaml
seed: 7
data_folder: {folder}/corpora/vox,{folder}/corpora/more
train_annotation: {folder}/save/train.csv
noise_folder: null
speaker_speeds: [90, 110]
spec_masks: 2
compute_cost: !name:speechbrain.nnet.losses.nll_loss
compute_features: !new:speechbrain_attn.lobes.features.Fbank
    n_mels: 13
mean_var_norm: !new:speechbrain_attn.lobes.features.SentenceNormalization
embedding_model: !new:speechbrain_attn.lobes.models.serialized_mha.SerializedMHA
    input_size: 13
    channels: [7, 7, 7]
    embedding_size: 6
    num_layers: 2
classifier: {classifier}
"""
IDENTITY = "!new:torch.nn.Identity"
COSINES = """!new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 6
    out_neurons: 3"""


def write_run(folder, classifier=IDENTITY, seed=0):
    """Write what a training leaves behind, with random weights.

    Returns the output folder; the model lies in its ``model``.
    """
    folder = Path(folder)
    (folder / "save").mkdir(parents=True)
    path = folder / "hyperparams.yaml"
    path.write_text(TRAINING_YAML.format(folder=folder, classifier=classifier))
    rows = ["ID,duration,wav,start,stop,spk_id"]
    for number, speaker in enumerate(SPEAKERS * 4):
        chunks = ((0, 16000), (16000, 32000))
        rows += [
            f"{speaker}-{number}-{start},1800.0,{folder}/{number}.wav,"
            f"{start},{stop},{speaker}"
            for start, stop in chunks
        ]
    (folder / "save" / "train.csv").write_text("\n".join(rows) + "\n")
    (folder / "train_log.txt").write_text("epoch: 1, lr: 1\nepoch: 2, lr: 1\n")
    torch.manual_seed(seed)
    with open(path) as file:
        modules = load_hyperpyyaml(file)
    modules["embedding_model"](torch.randn(16, 50, 13))  # moves the batch norm
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(SPEAKERS)
    means = np.random.default_rng(seed).normal(size=(9, 6))
    write_model_folder(
        folder / "model", path, {}, modules, encoder, means.astype(np.float32)
    )
    return folder


def with_line(line):
    """A change of a model folder: one more line in its YAML."""

    def change(folder, marker):
        with open(folder / "hyperparams.yaml", "a") as file:
            file.write("\n" + line.replace("MARKER", str(marker)) + "\n")

    return change


def with_text(old, new):
    """A change of a model folder: another text in its YAML."""

    def change(folder, marker):
        path = folder / "hyperparams.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new.replace("MARKER", str(marker))))

    return change


def _include_outside(folder, marker):
    other = folder.parent / "other.yaml"
    other.write_text(f"a: !apply:os.mkdir ['{marker}']\n")
    with_line(f"x: !include:{other}")(folder, marker)


class _Payload:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def _make_by_path(marker):
    return _Payload(Path.mkdir, (Path(marker),))


def _make_by_shell(marker):
    return _Payload(os.system, (f"mkdir {marker}",))


def _pickle(name, payload=_make_by_path):
    def change(folder, marker):
        with open(folder / name, "wb") as file:
            pickle.dump({"weight": payload(marker)}, file, protocol=2)

    return change


def _link_outside(folder, marker):
    path = folder / "embedding_model.ckpt"
    outside = folder.parent / "elsewhere.ckpt"
    path.rename(outside)
    path.symlink_to(outside)


def _yaml_link_outside(folder, marker):
    path = folder / "hyperparams.yaml"
    outside = folder.parent / "elsewhere.yaml"
    path.rename(outside)
    path.symlink_to(outside)


def _path_outside(path):
    return with_line(f"    paths: {{embedding_model: '{path}'}}")


def _tenfold(item, first):
    """Lines of which each has the one before ten times over."""
    return first + "".join(
        f"\n{new}: {item(old)}"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )


_JOINED = """a: "(!!python/object/apply:os"
b: ".mkdir [MARKER])"
c: !ref <a><b>"""
# Each makes the directory "marker" when the host loads the folder's YAML.
RUNS_IN_HOST = {
    "apply": (with_line("x: !apply:os.mkdir ['MARKER']"), "!apply:os.mkdir"),
    "apply_exec": (
        with_line(
            "x: !apply:builtins.exec [\"__import__('os').mkdir('MARKER')\"]"
        ),
        "!apply:builtins.exec",
    ),
    "applyref": (
        with_line("x: !applyref:os.makedirs ['MARKER']"),
        "!applyref:os.makedirs",
    ),
    "new_popen": (
        with_line("x: !new:subprocess.Popen [['mkdir', 'MARKER']]"),
        "!new:subprocess.Popen: is not among",
    ),
    "python_apply": (
        with_line("x: !!python/object/apply:os.mkdir ['MARKER']"),
        "python/object/apply:os.mkdir",
    ),
    "verbatim_tag": (
        with_line(
            "x: !<tag:yaml.org,2002:python/object/apply:os.mkdir> ['MARKER']"
        ),
        "python/object/apply:os.mkdir",
    ),
    "tuple": (
        with_line("x: (!!python/object/apply:os.mkdir ['MARKER'])"),
        "is no tuple of plain values",
    ),
    "include_outside": (_include_outside, "!include:.*includes no other file"),
}
MALICIOUS = {
    **RUNS_IN_HOST,
    # These run in the first YAML that a process loads, and in no other.
    "quoted_tuple": (
        with_line("x: \"(!!python/object/apply:os.mkdir ['MARKER'])\""),
        "is no tuple of plain values",
    ),
    "tuple_by_references": (with_line(_JOINED), "is no tuple of plain values"),
    "as_a_key": (
        with_line("? !apply:os.mkdir ['MARKER']\n: 1"),
        "!apply:os.mkdir",
    ),
    "name_of_builtin": (with_line("x: !name:builtins.eval"), "!name:builtins"),
    "name_of_function": (
        with_line("x: !name:torch.nn.functional.relu"),
        "is no torch module",
    ),
    "module": (with_line("x: !module:os"), "!module:os"),
    "attribute_of_allowed_module": (
        with_line("x: !new:speechbrain.lobes.features.os.system"),
        "cannot be found",
    ),
    "import_of_allowed_module": (
        with_line("x: !name:speechbrain_attn.lobes.models.heads.torch"),
        "is no torch module",
    ),
    "class_that_is_no_module": (
        with_line("x: !new:torch.nn.Parameter"),
        "is no torch module",
    ),
    "class_from_elsewhere": (
        with_line("x: !new:speechbrain.lobes.models.ECAPA_TDNN.Linear"),
        "comes from speechbrain.nnet.linear",
    ),
    "other_lobe": (
        with_line("x: !new:speechbrain.lobes.augment.EnvCorrupt"),
        "is not among",
    ),
    "attribute_by_reference": (
        with_line("x: !ref <embedding_model.forward>"),
        "names an attribute",
    ),
    "aliases": (
        with_line(
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(
                f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n"
                for old, new in ("ab", "bc", "cd", "de", "ef")
            )
        ),
        "aliases expand",
    ),
    "alias_of_itself": (with_line("a: &a [*a]"), "aliases expand"),
    # These would take all time or memory.
    "references": (
        with_line(
            _tenfold(
                lambda old: f"[{', '.join([f'!ref <{old}>'] * 10)}]", "a: [1]"
            )
        ),
        "its references and aliases expand",
    ),
    "reference_to_its_own_list": (
        with_line("a: [!ref <a>]"),
        "its references and aliases expand",
    ),
    "reference_to_itself": (
        with_line("a: !ref <b>/x\nb: !ref <a>/x"),
        "refers to itself",
    ),
    "copies": (
        with_line(
            _tenfold(
                lambda old: f"[{', '.join([f'!copy <{old}>'] * 10)}]", "a: [1]"
            )
        ),
        "!copy: a tag that no speaker model needs",
    ),
    "growing_text": (
        with_line(_tenfold(lambda old: f"!ref {f'<{old}>' * 10}", "a: long")),
        "stands for over 1000 characters",
    ),
    "power": (
        with_line("n: 9\nx: !ref <n> ** <n> ** <n> ** 2"),
        r"line \d+: <n> \*\* .*computes with powers",
    ),
    "power_by_way_of_a_text": (
        with_line('n: 9\na: "<n> ** <n> ** <n> ** 2"\nx: !ref <a>'),
        "computes with powers",
    ),
    "power_in_pieces": (
        with_line('n: 9\na: "*"\nx: !ref <n> <a><a> <n> <a><a> <n>'),
        r"refers to '\*', which may be part of a calculation",
    ),
    "power_in_half_sums": (
        with_line("n: 9\na: !ref <n>*\nx: !ref <a>*<n>**<n>"),
        "computes with powers",
    ),
    "power_around_nothing": (
        with_line("n: 9\na: ''\nx: !ref <n> *<a>* <n> *<a>* <n>"),
        "computes with powers",
    ),
    "power_merged_in": (
        with_line('n: 9\n<<: {a: "<n> ** <n> ** <n> ** 2"}\nx: !ref <a>'),
        "may name a key that is merged in",
    ),
    "power_by_a_joined_reference": (
        with_line(
            'n: 9\nm: "<n> ** <n> ** 9"\na: "<n> * <"\nb: "> * <n>"\n'
            "x: !ref <a>m<b>"
        ),
        "computes with powers or texts",
    ),
    "product_of_a_text": (
        with_line("a: \"'x'\"\nx: !ref <a> * 99999999999"),
        "which may be part of a calculation",
    ),
    "attribute_by_way_of_a_text": (
        with_line('a: "<seed.real>"\nx: !ref <a>'),
        "names an attribute",
    ),
    "pickle_of_weights": (_pickle("embedding_model.ckpt"), "pickle that names"),
    "pickle_of_means": (_pickle("mean_var_norm_emb.ckpt"), "pickle that names"),
    # Of a module that torch would not even unpickle if it were told to.
    "pickle_of_shell": (
        _pickle("embedding_model.ckpt", _make_by_shell),
        r"pickle that names \w+\.system",
    ),
    "link_to_weights": (_link_outside, "leads out of the folder"),
    "link_to_yaml": (_yaml_link_outside, "leads out of the folder"),
    "path_up": (_path_outside("../embedding_model.ckpt"), "leads out of"),
    "path_absolute": (_path_outside("/tmp/embedding_model.ckpt"), "leads out"),
    "path_of_url": (_path_outside("https://x.org/a.ckpt"), "leads out"),
}
