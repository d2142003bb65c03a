"""A pretrained model as the start of a training on other speakers.

A training YAML takes from the model's folder how its network is built
(``network_of``), and fills its own network with the model's weights
(``PretrainedStart``).
"""

import logging

import torch
from hyperpyyaml import resolve_references
from ruamel.yaml import YAML

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.adapt_report import (
    by_module,
    lines_of_model,
    lines_of_network,
)
from speechbrain_attn.hub.folder import NETWORK_PARTS
from speechbrain_attn.hub.loading import build_model, load
from speechbrain_attn.lobes.models.repooled import RepooledEncoder

logger = logging.getLogger(__name__)


OWN = "own"
_REPOOLED = "!new:speechbrain_attn.lobes.models.repooled.RepooledEncoder"


def network_of(source, pooling=OWN, poolings=None, trust=False):
    """How a model's features, normalisation and network are built, for a YAML.

    To be called with ``!applyref:``, which puts what it returns into the YAML
    as if it were written there: so the run and its model folder hold the
    network itself, and not the name of another folder.

    Arguments
    ---------
    source : str
        A model folder, or ``hf://user/name``; as for ``hub.load``.
    pooling : str
        "own" for the network as it is, or which of ``poolings`` its trunk
        gets.
    poolings : dict
        Arguments of ``RepooledEncoder`` beside ``network`` by name, as YAML
        nodes; embeddings have the model's size where no other is given.
    trust : bool
        As for ``hub.load``.

    Returns
    -------
    dict
        YAML nodes of ``compute_features``, ``mean_var_norm`` and
        ``embedding_model``, and ``embedding_size``, a number.

    Raises
    ------
    AttnError
        There is no such model, its YAML is refused, it is for audio of
        another sample rate than training reads, or there is no such pooling.
    """
    path, hparams, _ = build_model(source, trust)
    with open(path, encoding="utf-8") as file:
        nodes = YAML().load(resolve_references(file))
    missing = [part for part in NETWORK_PARTS if part not in nodes]
    if missing:
        raise AttnError(
            f"{path}: has no {', '.join(missing)} at its top, from which "
            "training could build the network anew."
        )
    _refuse_other_rates(path, nodes)
    modules = [hparams["modules"][part] for part in NETWORK_PARTS]
    network = {part: nodes[part] for part in NETWORK_PARTS}
    network["embedding_size"] = _embed_noise(*modules).shape[-1]
    if pooling != OWN:
        network |= repooled_network(network, pooling, poolings or {})
    return network


def _refuse_other_rates(path, nodes):
    """Raise where a model's YAML names another rate than training's."""
    features = nodes["compute_features"]
    owners = [nodes, features] if isinstance(features, dict) else [nodes]
    for owner in owners:
        rate = owner.get("sample_rate", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            raise AttnError(
                f"{path}: is for audio at {rate} Hz, and training reads audio "
                f"at {SAMPLE_RATE} Hz. Start from a model of that rate."
            )


def repooled_network(network, pooling, poolings):
    """Node of the network under another pooling, and its embedding size."""
    if pooling not in poolings:
        raise AttnError(
            f"pooling={pooling}: want {OWN}, which keeps the model's, or one "
            f"of {', '.join(poolings)}."
        )
    options = {
        "embedding_size": network["embedding_size"],
        **poolings[pooling],
        "network": network["embedding_model"],
    }
    node = YAML().load(f"{_REPOOLED} {{}}")
    node.update(options)
    node.fa.set_block_style()
    return {
        "embedding_model": node,
        "embedding_size": options["embedding_size"],
    }


class PretrainedStart:
    """Fills a training's network with what fits of a pretrained model.

    A module is filled with all of its parameters and running statistics, or
    is left as it was made.

    Arguments
    ---------
    modules : dict
        ``compute_features``, ``mean_var_norm``, ``embedding_model`` and
        ``classifier`` of a training YAML; the latter two are changed in place.
    source : str
        A model folder, or ``hf://user/name``; as for ``hub.load``.
    trust : bool
        As for ``hub.load``.
    files_per_speaker : int
        Of which ``begin`` takes the mean; 0 leaves the classifier as it is.

    Attributes
    ----------
    parts : list of str
        Names of the modules of the network that were filled.
    report : str
        A line for each part of either model: what was loaded, what was left
        out, and why.

    Raises
    ------
    AttnError
        The model cannot be loaded, nothing of it fits, the features have
        another size than those that it was trained with, or
        ``files_per_speaker`` is no whole number.
    """

    def __init__(self, modules, source, trust=False, files_per_speaker=4):
        if not isinstance(files_per_speaker, int) or files_per_speaker < 0:
            raise AttnError(
                f"files_per_speaker={files_per_speaker}: want a whole number, "
                "0 to start the classifier at random."
            )
        self.source = source
        self.trust = trust
        self.classifier = modules["classifier"]
        self.files_per_speaker = files_per_speaker
        network = modules["embedding_model"]
        given = load(source, trust=trust, device="cpu").mods
        features = _compared_features(modules, given, source)
        offered = by_module(_named_as_in(network, given["embedding_model"]))
        self.parts, reasons = [], {}
        for name, values in by_module(network.state_dict()).items():
            found = offered.get(name)
            if found is None:
                reasons[name] = "not in the model"
            elif _shapes(found) != _shapes(values):
                reasons[name] = _difference(_shapes(found), _shapes(values))
            else:
                _fill(network.get_submodule(name), found)
                self.parts.append(name)
        kind = type(given["embedding_model"]).__name__
        if not self.parts:
            raise AttnError(
                f"{source}: no weights of its {kind} fit the "
                f"{type(network).__name__} of the training YAML in name and "
                "shape. Build embedding_model from what network_of returns."
            )
        taken = {
            value.data_ptr()
            for name in self.parts
            for value in offered[name].values()
        }
        self.report = "\n  ".join(
            [
                f"Started from {source}, {kind}:",
                features,
                *lines_of_network(network, self.parts, reasons),
                *lines_of_model(given, taken),
            ]
        )

    def begin(self, data, embed):
        """Log the report, and give the classifier the speakers' voices.

        The weights of a class become the mean of unit-length embeddings of
        some of its files by the pretrained model. From random ones the first
        hundreds of batches would mostly pull the network about.

        Arguments
        ---------
        data : speechbrain_attn.training.data.TrainingData
        embed : callable
            ({path: path}, modules) -> embeddings [files, embedding_size].
        """
        logger.info("%s", self.report)
        weight = getattr(self.classifier, "weight", None)
        if not self.files_per_speaker or weight is None:
            return
        files = _files_of_speakers(data.rows, self.files_per_speaker)
        paths = {path: path for some in files.values() for path in some}
        # Loaded anew: kept since the start, it would stay in the memory of
        # every process, and of a resumed run, which does not come here.
        model = load(self.source, trust=self.trust, device="cpu")
        embeddings = torch.from_numpy(embed(paths, model.mods))
        if weight.shape[1:] != embeddings.shape[1:]:
            logger.info(
                "classifier: starts at random: it takes embeddings of %d "
                "values, and those of the model have %d.",
                weight.shape[1],
                embeddings.shape[1],
            )
            return
        embeddings = torch.nn.functional.normalize(embeddings)
        row_of = {path: row for row, path in enumerate(paths)}
        sub_centres = getattr(self.classifier, "num_sub_centres", 1)
        rows = weight.data.unflatten(0, (-1, sub_centres))
        for speaker, some in files.items():
            mean = embeddings[[row_of[path] for path in some]].mean(dim=0)
            # Of several vectors the others stay random: equal ones would
            # never part.
            row = rows[data.encoder.encode_label(speaker), 0]
            row.copy_(torch.nn.functional.normalize(mean, dim=0))
        logger.info(
            "classifier: starts from the model's mean embedding of each of "
            "%d speakers.",
            len(files),
        )


def _files_of_speakers(rows, most):
    """{speaker: paths}, at most so many of each, in the manifest's order."""
    files = {}
    for file, speaker in zip(
        rows.file_numbers, rows.speaker_numbers, strict=True
    ):
        some = files.setdefault(rows.speakers[speaker], [])
        if len(some) < most and rows.paths[file] not in some:
            some.append(rows.paths[file])
    return files


def _named_as_in(network, given):
    """Values of a pretrained network under the names of another's."""
    values = given.state_dict()
    repooled = isinstance(network, RepooledEncoder)
    if not repooled or network.state_dict().keys() == values.keys():
        return values
    return network.values_of(given)


def _shapes(values):
    return {name: tuple(value.shape) for name, value in values.items()}


def _difference(found, wanted):
    """Where the shapes of two modules of one name differ, in words."""
    for name in sorted(found.keys() | wanted.keys()):
        there, here = (
            shapes.get(name, "missing") for shapes in (found, wanted)
        )
        if there != here:
            return f"{name} is {there} in the model and {here} here"


def _fill(module, values):
    """Give a module, without its submodules, values that fit."""
    own = dict(module.named_parameters(recurse=False))
    own.update(module.named_buffers(recurse=False))
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)


def _compared_features(modules, given, source):
    """Whether features are those that a model was trained with, in words."""
    noise = 0.1 * torch.randn(1, SAMPLE_RATE)
    here, there = (
        parts["mean_var_norm"](parts["compute_features"](noise), torch.ones(1))
        for parts in (modules, given)
    )
    if here.shape[-1] != there.shape[-1]:
        raise AttnError(
            f"compute_features: gives {here.shape[-1]} values a frame, and "
            f"the network of {source} was trained on {there.shape[-1]}. Take "
            "compute_features from the model, as network_of returns it."
        )
    if here.shape == there.shape and torch.allclose(here, there, atol=1e-4):
        return "compute_features, mean_var_norm: as the model was trained with"
    return (
        "compute_features, mean_var_norm: OTHER than the model was trained "
        "with; its first layers must learn them anew"
    )


def _embed_noise(compute_features, mean_var_norm, embedding_model):
    """Embedding [1, 1, embedding_size] of a second of noise."""
    ones = torch.ones(1)
    with torch.no_grad():
        feats = compute_features(0.1 * torch.randn(1, SAMPLE_RATE))
        return embedding_model.eval()(mean_var_norm(feats, ones), ones)
