"""Speakers at other speeds as speakers of their own.

A voice played 10 % faster is higher, and to a network another voice: the
option ``speaker_speeds`` makes so many more speakers of a corpus (Yamamoto et
al., 2019, "Speaker augmentation and bandwidth extension for deep speaker
embedding"). Class number ``i * num_speakers + speaker`` is the speaker at the
i-th speed, of which the first is always 100 %. Validation hears the real
speed only, and a model folder holds the real speakers only.
"""

import io

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML

from speechbrain_attn.dataio.crops import checked_speeds


def all_speeds(speaker_speeds):
    """Percents of all speeds, the real one first.

    Arguments
    ---------
    speaker_speeds : list of int
        The others; one may stand alone.

    Raises
    ------
    AttnError
        As ``checked_speeds``; 100 is there without being named.

    Example
    -------
    >>> all_speeds([90, 110])
    [100, 90, 110]
    """
    return [100, *checked_speeds(speaker_speeds, "speaker_speeds", (100,))]


def num_classes(num_speakers, speaker_speeds):
    """Outputs of a classifier of all speakers at all speeds.

    Example
    -------
    >>> num_classes(5994, [90, 110])
    17982
    """
    return num_speakers * len(all_speeds(speaker_speeds))


def classifier_of_real_speakers(
    classifier, hparams_file, overrides, num_speakers
):
    """A classifier without the outputs of other speeds.

    Arguments
    ---------
    classifier : torch.nn.Module
        Trained, of the classes of all speeds.
    hparams_file : str or Path
        The training YAML, whose key ``num_classes`` is the number of outputs.
    overrides : str
        Of the run.
    num_speakers : int

    Returns
    -------
    classifier : torch.nn.Module
    overrides : str
        With which the YAML builds it.
    """
    overrides = f"{overrides}\nnum_classes: {num_speakers}\n"
    with open(hparams_file, encoding="utf-8") as file:
        resolved = YAML().load(resolve_references(file, overrides))
    text = io.StringIO()
    YAML().dump({"classifier": resolved["classifier"]}, text)
    small = load_hyperpyyaml(text.getvalue())["classifier"]
    trained = classifier.state_dict()
    # The real speakers come first in each weight that has a row per class.
    small.load_state_dict(
        {
            name: trained[name][: len(value)] if value.dim() else trained[name]
            for name, value in small.state_dict().items()
        }
    )
    return small, overrides
