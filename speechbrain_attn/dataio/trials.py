"""Lists of verification trials as arrays of integers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from speechbrain_attn.dataio.enrolment import (
    Enrolment,
    append_model_means,
    enrol_models,
    read_enrol_map,
)
from speechbrain_attn.dataio.tree import strip_extension
from speechbrain_attn.dataio.trial_counts import (
    count_trials,
    summarise_trials,
)
from speechbrain_attn.dataio.trial_formats import (
    read_columns,
    recognise_format,
)
from speechbrain_attn.dataio.trial_speakers import number_speakers
from speechbrain_attn.errors import AttnError


@dataclass(frozen=True, eq=False)
class Trials:
    """Pairs of utterances, each a target (same speaker) or a nontarget.

    Rows 0 to U - 1 are the U ``utterances``. With an enrolment map, the rows
    after them are the ``models``, and each trial compares a model with an
    utterance.

    Arguments
    ---------
    path : str
        The list, as named in messages.
    utterances : list of str
        Every utterance once, without extension: those of trials in the order
        in which their names first stand in the list, then those of models.
    enrol, test : numpy.ndarray
        [trials] int32, rows.
    labels : numpy.ndarray
        [trials] bool, True for targets.
    format : str
        The format that was recognised: "VoxCeleb", "label-last", "Kaldi" or
        "SpeechBrain scores".
    enrolment : Enrolment or None
        Models and their utterances.
    """

    path: str
    utterances: list
    enrol: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    format: str
    enrolment: Enrolment | None = None

    def __len__(self):
        return len(self.labels)

    @property
    def models(self):
        """Names of the models, in the order of their rows."""
        return self.enrolment.models if self.enrolment else []

    @property
    def names(self):
        """Name of each row: utterances, then models."""
        return self.utterances + self.models

    @cached_property
    def _row_of(self):
        return {name: row for row, name in enumerate(self.utterances)}

    def rows(self, utterances):
        """Rows of utterances, [utterances] int32.

        Raises
        ------
        AttnError
            One is not in the list; names it.
        """
        row_of = self._row_of
        try:
            return np.fromiter(
                (row_of[strip_extension(name)] for name in utterances), np.int32
            )
        except KeyError as error:
            raise AttnError(
                f"utterance {error} is not in {self.path}, which has "
                f"{len(row_of):,} others."
            ) from None

    def rows_among(self, ids, source):
        """Where each utterance stands in another list of ids.

        Arguments
        ---------
        ids : list of str
            Of an embedding store, say; with or without extensions.
        source : str
            Where the ids are from, for the message.

        Returns
        -------
        numpy.ndarray
            [utterances] int32, indices into ``ids``.

        Raises
        ------
        AttnError
            An utterance is not among the ids; names the first one and its
            line, and how many are missing.
        """
        index = {strip_extension(name): row for row, name in enumerate(ids)}
        found = [index.get(name, -1) for name in self.utterances]
        missing = found.count(-1)
        if missing:
            name = self.utterances[found.index(-1)]
            raise AttnError(
                f"{self.place_of(name)}: utterance {name!r} is not in "
                f"{source}; {missing:,} of {len(found):,} are missing. Do "
                "the two belong together?"
            )
        return np.array(found, dtype=np.int32)

    def place_of(self, utterance):
        """ "FILE line N": of the list, else of the enrolment map."""
        row = self.rows([utterance])[0]
        named = (self.enrol == row) | (self.test == row)
        if named.any():
            return f"{self.path} line {named.argmax() + 1}"
        return f"{self.enrolment.path} line {self.enrolment.line_of_row(row)}"

    def with_models(self, embeddings):
        """Embeddings of all rows.

        Arguments
        ---------
        embeddings : numpy.ndarray
            [utterances, embedding_size].

        Returns
        -------
        numpy.ndarray
            [rows, embedding_size]: the input itself without an enrolment map;
            else a float32 array with a row for each model after it, the mean
            of its utterances' embeddings scaled to length one, times the mean
            of their lengths.

        Raises
        ------
        AttnError
            The shape does not fit, or an embedding of a model is zero or not
            finite.
        """
        shape = np.shape(embeddings)
        if len(shape) != 2 or shape[0] != len(self.utterances):
            raise AttnError(
                f"embeddings: want [utterances = {len(self.utterances)}, "
                f"embedding_size], got {shape}."
            )
        if not self.enrolment:
            return embeddings
        return append_model_means(embeddings, self.enrolment, self.utterances)

    def speakers(self, utt2spk=None):
        """Number of the speaker of each row, [rows] int32.

        Without a map, the speaker is what an utterance's name has before its
        first "/", or, with none, before its first "-" or "_"; where the
        labels contradict that, the third part from the end is tried
        (``wav/<speaker>/<session>/<utterance>``). A model has the speaker of
        its utterances.

        Arguments
        ---------
        utt2spk : dict or str or Path or None
            Utterance to speaker, or a file with lines ``utterance speaker``.

        Raises
        ------
        AttnError
            An utterance is not in the map, a model has two speakers, or a
            label contradicts the speakers: a target with two, or a nontarget
            with one. Names the line and how many are like it.
        """
        return number_speakers(self, utt2spk)

    def counts(self):
        """Targets, nontargets, and trials that look like mistakes.

        All trials are kept: this is for the user to see.

        Returns
        -------
        TrialCounts
        """
        return count_trials(self)

    def summary(self):
        """What the list holds, in a line for the log."""
        return summarise_trials(self)


def trials_from_file(path, enrol_map=None):
    """Read a trial list; its format is recognised.

    Known are VoxCeleb's ``1 a.wav b.wav``, the same with the label last,
    Kaldi's ``a b target`` and ``a b nontarget``, and SpeechBrain's
    ``scores.txt``, ``a b 1 0.53``, the scores of which are left aside here.
    Utterances may be written with or without an audio extension; it is
    dropped, so that ``a.wav`` and ``a`` are one utterance.

    Arguments
    ---------
    path : str or Path
        Text, plain or gzip, one trial a line.
    enrol_map : str or Path or None
        File with lines ``model utterance utterance ...``. The enrolment side
        of the list then names models.

    Returns
    -------
    Trials

    Raises
    ------
    AttnError
        A file cannot be read, a line is malformed, the format cannot be told,
        a model is not in the map, or all trials are of one kind. The message
        names file, line and value.

    Example
    -------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/trials.txt"
    >>> with open(path, "w") as file:
    ...     _ = file.write("1 a/1.wav a/2.wav\\n0 a/1.wav b/1.wav\\n")
    >>> trials = trials_from_file(path)
    >>> trials.format, trials.utterances, trials.test
    ('VoxCeleb', ['a/1', 'a/2', 'b/1'], array([1, 2], dtype=int32))
    >>> trials.speakers()
    array([0, 0, 1], dtype=int32)
    """
    return trials_from_columns(path, read_columns(path), enrol_map)


def trials_from_columns(path, columns, enrol_map=None):
    """Trials of a list that ``read_columns`` has read."""
    form = recognise_format(columns, path)
    enrol, test, label = map(form.fields.index, ("enrolment", "test", "label"))
    is_target = np.array([name == form.target for name in columns.names])
    labels = _translate(columns, label, is_target)
    targets = np.count_nonzero(labels)
    if targets in (0, len(labels)):
        raise AttnError(
            f"{path} line {len(labels)}: the list ends here with {targets} "
            f"targets and {len(labels) - targets} nontargets, and a list "
            "needs both kinds. Is the file cut short?"
        )
    names = [strip_extension(name) for name in columns.names]
    row_of = {}
    for word in _words_of(columns, [test] if enrol_map else [enrol, test]):
        row_of.setdefault(names[word], len(row_of))
    tests = _translate(columns, test, _rows_of_words(names, row_of))
    enrolment, enrol_row_of = None, row_of
    if enrol_map:
        models = read_enrol_map(enrol_map)
        words = _words_of(columns, [enrol])
        for word in words:
            if names[word] not in models:
                is_it = np.arange(len(names)) == word
                line = _translate(columns, enrol, is_it).argmax() + 1
                raise AttnError(
                    f"{path} line {line}: model {names[word]!r} is not in "
                    f"the enrolment map {enrol_map} ({len(models):,} models, "
                    f"such as {next(iter(models))!r})."
                )
        listed = {names[word] for word in words}
        enrolment = enrol_models(enrol_map, models, listed, row_of)
        enrol_row_of = {
            model: len(row_of) + number
            for number, model in enumerate(enrolment.models)
        }
    enrols = _translate(columns, enrol, _rows_of_words(names, enrol_row_of))
    return Trials(
        str(path), list(row_of), enrols, tests, labels, form.name, enrolment
    )


def _words_of(columns, places):
    """Numbers of the words that stand at some places of a line, in order."""
    used = np.zeros(len(columns.names), dtype=bool)
    for block in columns.blocks:
        for place in places:
            used[block[:, place]] = True
    return np.flatnonzero(used)


def _rows_of_words(names, row_of):
    """[words] int32 rows, -1 for words that have none."""
    return np.array([row_of.get(name, -1) for name in names], dtype=np.int32)


def _translate(columns, place, table):
    """[trials]: what ``table`` has for the word at a place of each line."""
    return np.concatenate([table[block[:, place]] for block in columns.blocks])
