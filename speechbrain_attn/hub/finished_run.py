"""A finished run, classifier and all, as the start of another training.

The speakers stay the same: so the classifier is kept, and its margin can be
made larger at once. ``hub.adapt`` is for other speakers.
"""

import logging

import torch
from hyperpyyaml import resolve_references
from ruamel.yaml import YAML

from speechbrain_attn.dataio.audio import SAMPLE_RATE
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.loading import build_model, load

logger = logging.getLogger(__name__)


def classifier_of(source, trust=False):
    """How a model's classifier is built, for a YAML.

    To be called with ``!applyref:``, as ``hub.adapt.network_of``.

    Arguments
    ---------
    source : str
        Model folder of the run.
    trust : bool
        As for ``hub.load``.

    Returns
    -------
    dict
        The YAML node of ``classifier``, and ``out_neurons``, a number.

    Raises
    ------
    AttnError
        There is no such model, its YAML is refused, or it has no classifier.
    """
    path, *_ = build_model(source, trust)
    with open(path, encoding="utf-8") as file:
        node = YAML().load(resolve_references(file)).get("classifier")
    if not isinstance(node, dict) or "out_neurons" not in node:
        raise AttnError(
            f"{path}: has no classifier with out_neurons, whose margin could "
            "be made larger. Start from a run that trained one."
        )
    return {"classifier": node, "out_neurons": node["out_neurons"]}


class FinishedRun:
    """Fills a training's network and classifier with those of a finished run.

    Arguments
    ---------
    modules : dict
        ``embedding_model`` and ``classifier`` of a training YAML, built as
        those of the run; changed in place.
    source : str
        Model folder of the run.
    trust : bool
        As for ``hub.load``.

    Raises
    ------
    AttnError
        The model cannot be loaded, does not tell the classes of its
        speakers, or has a classifier that gives no cosines.
    """

    def __init__(self, modules, source, trust=False):
        self.source = source
        model = load(source, trust=trust, device="cpu")
        self.encoder = getattr(model.hparams, "label_encoder", None)
        if self.encoder is None:
            raise AttnError(
                f"{source}: has no label encoder, which tells the classes of "
                "its speakers. Start from the folder that a training wrote, "
                "or make a new classifier with hparams/finetune/"
                "pretrained.yaml."
            )
        for name in ("embedding_model", "classifier"):
            modules[name].load_state_dict(model.mods[name].state_dict())
        with torch.no_grad():
            noise = 0.1 * torch.randn(1, SAMPLE_RATE)
            scores = model.mods.classifier(model.encode_batch(noise))
        if scores.abs().max() > 1.001:
            kind = type(model.mods.classifier).__name__
            raise AttnError(
                f"{source}: its {kind} gives no cosines, so that no margin "
                "can be put on them. Start from a run with "
                "heads.CosineHead or heads.DoubleMHAHead."
            )

    def begin(self, data, embed):
        """Check that classes are those of the run; the training calls this.

        Arguments
        ---------
        data : speechbrain_attn.training.data.TrainingData
        embed : callable
            Not needed.

        Raises
        ------
        AttnError
            A speaker of the data has another class number in the run.
        """
        theirs = self.encoder.lab2ind
        for speaker in data.rows.speakers:
            if theirs.get(speaker) != data.encoder.encode_label(speaker):
                raise AttnError(
                    f"{self.source}: speaker {speaker!r} of data_folder is "
                    f"class {theirs.get(speaker)} there and "
                    f"{data.encoder.encode_label(speaker)} here. Train on "
                    "the files of that run, with its trial lists, or make a "
                    "new classifier with hparams/finetune/pretrained.yaml."
                )
        logger.info(
            "Started from %s: network and classifier of %d speakers.",
            self.source,
            len(theirs),
        )
