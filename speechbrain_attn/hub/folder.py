"""A trained run as a model folder, and a model folder as a network.

A model folder holds ``hyperparams.yaml`` without a path of this machine, the
weights, the label encoder and the mean of the training embeddings. It loads
with ``EncoderClassifier.from_hparams(source=folder)``.
"""

import os
import tempfile

import torch
from hyperpyyaml import resolve_references
from ruamel.yaml import YAML
from speechbrain.processing.features import InputNormalization

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.errors import AttnError

NETWORK_PARTS = ("compute_features", "mean_var_norm", "embedding_model")
_HEADER = """\
# A speaker embedding network, as it was trained. Load it with
#     from speechbrain.inference.speaker import EncoderClassifier
#     EncoderClassifier.from_hparams(source="this folder")

"""
# Everything of the folder that is the same for every network.
_COMMON = f"""\
sample_rate: {SAMPLE_RATE}
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
    classifier: !ref <classifier>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        mean_var_norm_emb: !ref <mean_var_norm_emb>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
"""


def write_model_folder(
    folder,
    hparams_file,
    overrides,
    modules,
    label_encoder,
    mean_var_norm_emb_embeddings,
):
    """Write a model folder; one that was there is replaced at the end.

    Arguments
    ---------
    folder : str or Path
        Where the model goes.
    hparams_file : str or Path
        The training YAML; its keys compute_features, mean_var_norm,
        embedding_model and classifier go into the folder, with every
        reference and include resolved.
    overrides : str or dict
        Of the training run, on top of the YAML.
    modules : mapping
        The trained embedding_model and classifier.
    label_encoder : speechbrain.dataio.encoder.CategoricalEncoder
        Speakers of the classifier's outputs.
    mean_var_norm_emb_embeddings : numpy.ndarray
        [N, embedding_size], embeddings of training utterances; their mean is
        what ``encode_batch(..., normalize=True)`` subtracts.
    """
    folder = os.path.abspath(folder)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".model-", dir=os.path.dirname(folder)
    ) as scratch:
        new = os.path.join(scratch, "new")
        os.mkdir(new)
        with open(os.path.join(new, "hyperparams.yaml"), "w") as file:
            file.write(_HEADER)
            YAML().dump(_network_keys(hparams_file, overrides), file)
            file.write(_COMMON)
        for name in ("embedding_model", "classifier"):
            weights = {
                key: value.cpu()
                for key, value in modules[name].state_dict().items()
            }
            torch.save(weights, os.path.join(new, f"{name}.ckpt"))
        _save_norm(
            mean_var_norm_emb_embeddings,
            os.path.join(new, "mean_var_norm_emb.ckpt"),
        )
        # The host's recipes call it .txt. Its loader asks for .ckpt, unless
        # the YAML gives a path, which would then count from the working
        # directory and not from the folder.
        for ending in ("txt", "ckpt"):
            label_encoder.save(os.path.join(new, f"label_encoder.{ending}"))
        replace_folder(folder, new, os.path.join(scratch, "old"))


def replace_folder(folder, new, aside):
    """Put ``new`` in the place of a folder; what was there goes ``aside``.

    Where that fails, the old one is back.
    """
    is_there = os.path.isdir(folder)
    if is_there:
        os.rename(folder, aside)
    try:
        os.rename(new, folder)
    except OSError:
        if is_there:
            os.rename(aside, folder)
        raise


def _network_keys(hparams_file, overrides):
    """What of a training YAML builds the network, references resolved."""
    with open(hparams_file) as file:
        resolved = YAML().load(resolve_references(file, overrides))
    keys = NETWORK_PARTS + ("classifier",)
    missing = [key for key in keys if key not in resolved]
    if missing:
        raise AttnError(
            f"{hparams_file}: has no {', '.join(missing)}; a model folder "
            f"needs {', '.join(keys)} at the top of the YAML."
        )
    return {key: _without_comments(resolved[key]) for key in keys}


def _without_comments(node):
    """A YAML node without its comments, which speak of the training file."""
    if hasattr(node, "ca"):
        node.ca.comment = None
        node.ca.items.clear()
        children = node.values() if isinstance(node, dict) else node
        for child in children:
            _without_comments(child)
    return node


def _save_norm(embeddings, path):
    norm = InputNormalization(norm_type="global", std_norm=False)
    embeddings = torch.as_tensor(embeddings).unsqueeze(1)
    norm(embeddings, torch.ones(len(embeddings)))
    norm._save(path)  # the hook that the host's checkpointer calls


def load_network(folder):
    """The features, normalisation and network of a model folder, in eval mode.

    Arguments
    ---------
    folder : str or Path
        One that we wrote, or any of the host's. The YAML is run as code, as
        everywhere in the host: load only folders that you trust, or use
        ``hub.load``, which runs none.

    Returns
    -------
    dict
        ``compute_features``, ``mean_var_norm`` and ``embedding_model``.

    Raises
    ------
    AttnError
        As ``hub.load``.
    """
    # It builds on this module.
    from speechbrain_attn.hub.loading import load

    model = load(folder, trust=True, device="cpu")
    return dict(zip(NETWORK_PARTS, model.network, strict=True))
