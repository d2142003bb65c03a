"""Models enrolled with several utterances each."""

from typing import NamedTuple

import numpy as np

from speechbrain_attn.dataio.lines import line_blocks
from speechbrain_attn.dataio.tree import strip_extension
from speechbrain_attn.errors import AttnError


class Enrolment(NamedTuple):
    """The models of a trial list and their utterances.

    Arguments
    ---------
    path : str
        The enrolment map, as named in messages.
    models : list of str
        Names, in the order of the map.
    lines : list of int
        Line of the map that names each model.
    members : numpy.ndarray
        [members] int32 rows of utterances, model after model.
    bounds : numpy.ndarray
        [models + 1]; those of model m are ``members[bounds[m]:bounds[m + 1]]``.
    num_unused : int
        Models of the map that no trial names, and that are left out here.
    """

    path: str
    models: list
    lines: list
    members: np.ndarray
    bounds: np.ndarray
    num_unused: int

    @property
    def model_of_member(self):
        """[members] index of the model that each member belongs to."""
        return np.repeat(np.arange(len(self.models)), np.diff(self.bounds))

    def line_of_row(self, row):
        """First line of the map that names an utterance, by its row."""
        return self.lines[self.model_of_member[(self.members == row).argmax()]]


def read_enrol_map(path):
    """Read an enrolment map, ``model utterance utterance ...`` in each line.

    Arguments
    ---------
    path : str or Path
        Text, plain or gzip; utterances with or without an extension.

    Returns
    -------
    dict
        Model -> (line, list of utterances).

    Raises
    ------
    AttnError
        The file cannot be read, a model has no utterance or stands twice, or
        an utterance stands twice in a model; names file, line and value.

    Example
    -------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/enrol.txt"
    >>> with open(path, "w") as file:
    ...     _ = file.write("anna a/1.wav a/2.wav\\nbert b/1.wav\\n")
    >>> read_enrol_map(path)
    {'anna': (1, ['a/1', 'a/2']), 'bert': (2, ['b/1'])}
    """
    models = {}
    for first, body in line_blocks(path, "enrolment map"):
        for number, line in enumerate(body.splitlines(), start=first):
            names = [strip_extension(name.decode()) for name in line.split()]
            place = f"{path} line {number}"
            if len(names) < 2:
                raise AttnError(
                    f'{place}: want "model utterance utterance ...", got '
                    f'{len(names)} fields ("{" ".join(names)}").'
                )
            model, *utterances = names
            if model in models:
                raise AttnError(
                    f"{place}: model {model!r} stands in line "
                    f"{models[model][0]} already; put all of its utterances "
                    "into one line."
                )
            if len(set(utterances)) < len(utterances):
                twice = next(u for u in utterances if utterances.count(u) > 1)
                raise AttnError(
                    f"{place}: model {model!r} has utterance {twice!r} twice, "
                    "which would weigh double in its mean."
                )
            models[model] = number, utterances
    return models


def enrol_models(path, models, listed, row_of):
    """The models that a list names, with rows for their utterances.

    Arguments
    ---------
    path : str or Path
        The enrolment map.
    models : dict
        As ``read_enrol_map`` returns it.
    listed : set of str
        Models that trials name.
    row_of : dict
        Utterance to row; those that it lacks are added.

    Returns
    -------
    Enrolment
    """
    used = {name: models[name] for name in models if name in listed}
    lines = [line for line, _ in used.values()]
    utterances = [utterances for _, utterances in used.values()]
    members = [
        row_of.setdefault(name, len(row_of))
        for group in utterances
        for name in group
    ]
    return Enrolment(
        str(path),
        list(used),
        lines,
        np.array(members, dtype=np.int32),
        np.cumsum([0, *map(len, utterances)]),
        len(models) - len(used),
    )


def append_model_means(embeddings, enrolment, utterances):
    """Embeddings of utterances, then those of models.

    A model is the mean of its utterances' embeddings, each scaled to length
    one first, so that a loud embedding counts no more than another, times the
    mean of their lengths: what does not scale, such as PLDA, then gets models
    and utterances alike. A model of one utterance has its embedding.

    Arguments
    ---------
    embeddings : numpy.ndarray
        [utterances, embedding_size].
    enrolment : Enrolment
    utterances : list of str
        Names of the rows, for messages.

    Returns
    -------
    numpy.ndarray
        [utterances + models, embedding_size] float32.

    Raises
    ------
    AttnError
        A model's embedding is zero or not finite; names its utterance.
    """
    # float64: squares of float32 overflow above 1e19.
    parts = embeddings[enrolment.members].astype(np.float64)
    norms = np.linalg.norm(parts, axis=1)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        row = enrolment.members[bad[0]]
        raise AttnError(
            f"{enrolment.path} line {enrolment.line_of_row(row)}: the "
            f"embedding of utterance {utterances[row]!r} has norm "
            f"{norms[bad[0]]}, so it has no direction to add to a mean."
        )
    parts /= norms[:, None]
    counts = np.diff(enrolment.bounds)[:, None]
    means = np.add.reduceat(parts, enrolment.bounds[:-1], axis=0) / counts
    lengths = np.add.reduceat(norms, enrolment.bounds[:-1])[:, None] / counts
    means *= lengths
    return np.concatenate(
        [embeddings, means], dtype=np.float32, casting="same_kind"
    )
