"""Models from a folder or from the hub, safe and whole, or an error."""

import os
import re
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import nn

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.folder import NETWORK_PARTS
from speechbrain_attn.hub.model import SpeakerModel
from speechbrain_attn.hub.safe import load_safe_hparams
from speechbrain_attn.hub.weights import load_weights, read_values
from speechbrain_attn.scoring.calibration import Calibration

HUB_PREFIX = "hf://"
# Of a model on the hub; programs that lie beside them stay there.
HUB_FILES = [
    "hyperparams.yaml",
    "calibration.json",
    "label_encoder.txt",
    "*.ckpt",
    "*.safetensors",
]


def load(source, trust=False, device=None):
    """Load a speaker model without running what its YAML may name.

    Arguments
    ---------
    source : str or Path
        A model folder, or ``hf://user/name`` for one on the hub, with
        ``@revision`` after it for a certain one. What is not a folder is
        never looked for on the hub by itself.
    trust : bool
        True runs the YAML as the host does, and takes weights from wherever
        it says. Code in weight files is not run all the same.
    device : str or torch.device
        Where the model goes; None takes what is there.

    Returns
    -------
    SpeakerModel

    Raises
    ------
    AttnError
        There is no such folder or model; its YAML names what a model does not
        need, or files elsewhere; its weights are missing, too many, of
        another shape, or a pickle that names code.
    """
    path, hparams, place = build_model(source, trust)
    folder, root, names = place
    if not isinstance(hparams.get("pretrainer"), Pretrainer):
        raise AttnError(f"{path}: has no pretrainer.")
    _fill(hparams, folder, None if trust else root, names)
    calibration = None
    path = _inside(folder, "calibration.json", root)
    if os.path.isfile(path):
        calibration = Calibration.load(path)
        try:
            # Its thresholds are compared with cosines.
            calibration.refuse_others("cosine", None)
        except AttnError as error:
            raise AttnError(f"{path}: {error}") from None
    return SpeakerModel(hparams["modules"], hparams, calibration, device)


def build_model(source, trust=False):
    """What the YAML of a model builds, with weights that mean nothing yet.

    Arguments and errors as for ``load``.

    Returns
    -------
    path : str
        The YAML.
    hparams : dict
        Of it; ``modules`` holds the parts of the network.
    place : tuple
        The folder, what its links may point into, and its names.
    """
    folder, root, names = _find(str(source))
    path = _inside(folder, "hyperparams.yaml", root)
    if not os.path.isfile(path):
        raise AttnError(
            f"{folder}: is not a model folder: it has no hyperparams.yaml. "
            "Training writes one as <output_folder>/model."
        )
    hparams = _run_yaml(path) if trust else load_safe_hparams(path)
    modules = hparams.get("modules")
    for part in NETWORK_PARTS:
        if not isinstance(modules, dict) or part not in modules:
            raise AttnError(f"{path}: has no modules with {part}.")
    for name, module in modules.items():
        if not isinstance(module, nn.Module):
            raise AttnError(
                f"{path}: modules: {name} is {module!r:.60}; want a torch "
                "module."
            )
    rate = hparams.get("sample_rate", SAMPLE_RATE)
    if type(rate) is not int or rate <= 0:
        raise AttnError(
            f"{path}: sample_rate is {rate!r:.60}; want whole samples per "
            f"second, such as {SAMPLE_RATE}."
        )
    return path, hparams, (folder, root, names)


def _run_yaml(path):
    """What the host builds of a YAML that is trusted."""
    try:
        file = open(path, encoding="utf-8")
    except OSError as error:
        raise AttnError(f"{path}: cannot be read ({error}).") from None
    with file:
        return load_hyperpyyaml(file)


def _find(source):
    """Folder of a source, what its links may point into, and its names.

    Paths in a YAML may begin with a name of the source: models of the host
    name the hub's folder that they lie in.
    """
    if not source.startswith(HUB_PREFIX):
        if os.path.isdir(source):
            return source, source, [source]
        if os.path.isfile(source):
            raise AttnError(f"{source}: is a file; give the model's folder.")
        hint = ""
        if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
            hint = f" For a model of the hub, write {HUB_PREFIX}{source}."
        raise AttnError(f"{source}: folder not found.{hint}")
    name, _, revision = source[len(HUB_PREFIX) :].partition("@")
    try:
        folder = snapshot_download(
            name, revision=revision or None, allow_patterns=HUB_FILES
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise AttnError(
            f"{source}: cannot be had from the hub ({reason}). Is the name "
            "right, and is there a network, or a copy in the cache?"
        ) from None
    # The cache keeps files once, and links to them from each revision.
    return folder, Path(folder).parents[1], [name]


def _inside(folder, name, root):
    """Path of a file of the folder, which must not lead out of ``root``."""
    path = os.path.join(folder, name)
    real, root_real = os.path.realpath(path), os.path.realpath(root)
    if os.path.commonpath([real, root_real]) != root_real:
        raise AttnError(
            f"{folder}: {name} leads out of the folder, to {real}. If that is "
            "meant, copy the file into the folder."
        )
    return path


def _fill(hparams, folder, root, names):
    """Load what the pretrainer names, all of it, strictly.

    ``root`` is what paths must not lead out of; None lets them.
    """
    pretrainer = hparams["pretrainer"]
    for name, loadable in pretrainer.loadables.items():
        path = _weights_path(pretrainer, name, folder, root, names)
        if isinstance(loadable, InputNormalization):
            size = None
            # Others are of features.
            if loadable is hparams["modules"].get("mean_var_norm_emb"):
                network = hparams["modules"]["embedding_model"]
                size = getattr(network, "embedding_size", None)
            _load_statistics(loadable, path, size)
        elif isinstance(loadable, nn.Module):
            load_weights(loadable, path)
        elif isinstance(loadable, CategoricalEncoder):
            _load_labels(loadable, path)
        else:
            raise AttnError(
                f"{folder}: pretrainer: {name} is a {type(loadable).__name__}"
                ", for which there is no strict way to load it."
            )
    loaded = [id(loadable) for loadable in pretrainer.loadables.values()]
    for name, module in hparams["modules"].items():
        # Not its state: the host's features keep constants in theirs.
        learned = isinstance(module, nn.Module) and list(module.parameters())
        learned = learned or getattr(module, "norm_type", None) == "global"
        if learned and id(module) not in loaded:
            raise AttnError(
                f"{folder}: hyperparams.yaml: {name} is not among the "
                "pretrainer's loadables, so its weights would be random."
            )


def _weights_path(pretrainer, name, folder, root, names):
    """Where a loadable's file lies."""
    value = str(pretrainer.paths.get(name, f"{name}.ckpt"))
    for own in names:
        value = value.removeprefix(f"{own}/")
    if root is None:
        return os.path.join(folder, value)
    if os.path.isabs(value) or ".." in value.split("/") or ":" in value:
        raise AttnError(
            f"{folder}: hyperparams.yaml: the pretrainer's path of {name}, "
            f"{value}, leads out of the folder. Copy the file into it, and "
            "leave the path out."
        )
    collected = f"{name}.ckpt"
    if not os.path.isfile(os.path.join(folder, value)) and os.path.isfile(
        os.path.join(folder, collected)
    ):
        # A copy that the host fetched has its files by these names, whatever
        # the paths of the YAML say.
        value = collected
    path = _inside(folder, value, root)
    # What stands in for a .ckpt that is not there must not lead out, either.
    _inside(folder, os.path.splitext(value)[0] + ".safetensors", root)
    return path


def _load_statistics(norm, path, size):
    """Fill a normaliser with what it learned; ``size`` None may be any."""
    values = read_values(path)
    # Earlier versions of the host keep those of speakers there, too.
    known = {name for name in values if not name.startswith("spk_dict_")}
    if known != {"count", "glob_mean", "glob_std"}:
        raise AttnError(
            f"{path}: holds {', '.join(values) or 'nothing'}; want count, "
            "glob_mean and glob_std of an InputNormalization."
        )
    try:
        count = int(values["count"])
        mean = torch.as_tensor(values["glob_mean"])
        std = torch.as_tensor(values["glob_std"])
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise ValueError("not all are finite")
    except (TypeError, ValueError, RuntimeError) as error:
        raise AttnError(
            f"{path}: count, glob_mean and glob_std are no numbers ({error})."
        ) from None
    if size is not None and mean.shape[-1:] != (size,):
        raise AttnError(
            f"{path}: glob_mean has shape {tuple(mean.shape)}; the network's "
            f"embeddings have {size} values. Is it of another model?"
        )
    norm.count, norm.glob_mean, norm.glob_std = count, mean, std


def _load_labels(encoder, path):
    """Fill an encoder of speakers from its text file."""
    if not os.path.isfile(path):
        raise AttnError(f"{path}: the label encoder's file is missing.")
    try:
        encoder.load(path)
    except OSError as error:
        raise AttnError(f"{path}: cannot be read ({error}).") from None
    except (ValueError, SyntaxError, KeyError, IndexError) as error:
        raise AttnError(
            f"{path}: is no label encoder ({error}); copy it again."
        ) from None
