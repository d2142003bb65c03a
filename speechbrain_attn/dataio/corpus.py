"""A VoxCeleb-like tree and its trial lists as SpeechBrain manifests.

Of each file only the header is read, so that a corpus of a million files is
prepared in minutes. The speakers of the verification list and of the
validation list, on both sides of a trial, are kept out of training.
"""

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechbrain_attn.dataio import headers
from speechbrain_attn.dataio.corpus_options import MIN_DURATION
from speechbrain_attn.dataio.headers import SAMPLE_RATE
from speechbrain_attn.dataio.listed import (
    check_readable,
    find_listed,
    listed_speakers,
)
from speechbrain_attn.dataio.manifest import (
    COLUMNS,
    check_writable,
    chunk_bounds,
    chunk_row,
    csv_lines,
    whole_row,
    write_together,
)
from speechbrain_attn.dataio.report import Report
from speechbrain_attn.dataio.splitting import (
    split_by_speaker,
    split_by_utterance,
)
from speechbrain_attn.dataio.tree import find_utterances, merge_utterances
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.errors import AttnError, AudioError

logger = logging.getLogger(__name__)

REPORT_FILE = "preparation_report.csv"
STATE_FILE = "preparation.json"


def prepare_corpus(options):
    """Write the manifests of a corpus, unless they are there already.

    ``save_folder`` gets train.csv and dev.csv (chunks), enrol.csv and
    test.csv (whole files of the verification list), preparation_report.csv
    (files that are unusual or left out) and preparation.json (what all this
    was made from). Files of a validation list are only checked: they are there
    and can be read. A second call does nothing as long as files, lists and
    options are the same.

    Arguments
    ---------
    options : CorpusOptions

    Returns
    -------
    list of str
        Sentences for the user: what was written and what was left out.

    Raises
    ------
    AttnError
        A folder, list or listed utterance is missing or unreadable, no file
        is left to train on, or a manifest cannot be written.
    """
    lists = _read_lists(options)
    if "validation" in lists:
        _warn_of_shared_speakers(options, lists)
    trees = [find_utterances(folder) for folder in options.data_folders]
    state = _state(options, trees)
    state_path = os.path.join(options.save_folder, STATE_FILE)
    names = _table_names(options)
    if _is_done(state, state_path, options.save_folder, names):
        return [
            f"{options.save_folder}: nothing to do, the manifests are those of "
            "these files, lists and options."
        ]
    _make_folder(options.save_folder, state_path)
    report = Report()
    report_path = os.path.join(options.save_folder, REPORT_FILE)
    try:
        tables = _tables(options, lists, trees, report)
    except AttnError:
        # The report shows which files the error is about.
        write_together({report_path: csv_lines(report.rows())})
        raise
    paths = {
        name: os.path.join(options.save_folder, f"{name}.csv") for name in names
    }
    counts = write_together(
        {
            **{paths[name]: csv_lines(tables[name].rows) for name in names},
            report_path: csv_lines(report.rows()),
            state_path: [state],
        }
    )
    sentences = [
        f"{paths[name]}: {counts[paths[name]] - 1:,} rows, "
        f"{tables[name].num_files:,} files, "
        f"{tables[name].num_speakers:,} speakers."
        for name in names
    ]
    summary = report.summary()
    return sentences + summary + ([f"See {report_path}."] if summary else [])


def _read_lists(options):
    lists = {"verification": trials_from_file(options.verification_file)}
    if options.validation_file:
        lists["validation"] = trials_from_file(options.validation_file)
    return lists


def _warn_of_shared_speakers(options, lists):
    """Say so where the speakers of the test also choose the checkpoint."""
    test = listed_speakers(lists["verification"])
    shared = sorted(test & listed_speakers(lists["validation"]))
    if shared:
        logger.warning(
            "%s and %s share %d of %d speakers, such as %r: the test list "
            "chooses the checkpoint, and the errors measured on it come out "
            "too low. Validate on a list of other speakers.",
            options.validation_file,
            options.verification_file,
            len(shared),
            len(test),
            shared[0],
        )


def _table_names(options):
    names = [split for split in ("train", "dev") if split in options.splits]
    return names + (["enrol", "test"] if "test" in options.splits else [])


def _state(options, trees):
    """All that the manifests depend on, as one line of JSON."""
    settings = asdict(options)
    del settings["save_folder"]  # so that a folder of manifests may be moved
    for name in ("verification_file", "validation_file"):
        if settings[name]:  # what a list says counts, not where it lies
            content = Path(settings[name]).read_bytes()
            settings[name] = hashlib.sha256(content).hexdigest()
    settings["trees"] = [tree.fingerprint for tree in trees]
    # Once a decoder is there, files are no longer left out for want of one.
    settings["can_decode_m4a"] = headers.can_decode_m4a()
    return json.dumps(settings, sort_keys=True) + "\n"


def _is_done(state, state_path, save_folder, names):
    wanted = [os.path.join(save_folder, f"{name}.csv") for name in names]
    wanted += [state_path, os.path.join(save_folder, REPORT_FILE)]
    if not all(os.path.isfile(path) for path in wanted):
        return False
    return Path(state_path).read_bytes() == state.encode()


def _make_folder(save_folder, state_path):
    try:
        os.makedirs(save_folder, exist_ok=True)
        # A run that is killed while it renames must not look complete.
        Path(state_path).unlink(missing_ok=True)
    except OSError as error:
        raise AttnError(
            f"{save_folder}: cannot be made or written ({error.strerror}); "
            "choose another folder."
        ) from None


class _Table(NamedTuple):
    num_files: int
    num_speakers: int
    rows: Iterator


def _table(utterances, rows):
    speakers = {item.speaker for item in utterances}
    rows = itertools.chain([COLUMNS], rows)
    return _Table(len(utterances), len(speakers), rows)


def _tables(options, lists, trees, report):
    """Name of each manifest to its ``_Table``."""
    utterances, spare = merge_utterances(trees)
    check_writable(utterances.values())
    for path, taken in spare:
        report.add(path, "the same utterance in another format", taken)
    for tree in trees:
        for path in tree.misplaced:
            report.add(path, "not at <speaker>/<session>/<utterance>")
    held_back = set().union(*map(listed_speakers, lists.values()))
    found = {
        name: find_listed(trials, utterances, options.data_folders)
        for name, trials in lists.items()
        if name == "validation" or "test" in options.splits
    }
    candidates = []
    if options.trains:
        candidates = [
            item
            for item in utterances.values()
            if item.speaker not in held_back
        ]
    wanted = {item.path for item in candidates}
    wanted.update(item.path for one in found.values() for item in one.values())
    sizes = _read_sizes(sorted(wanted), report)
    for name, one in found.items():
        check_readable(lists[name], one, sizes)
        for item in one.values():
            _is_long_enough(item, sizes, report, left_out=False)

    tables = {}
    if options.trains:
        others = len(utterances) - len(candidates)
        tables = _training_tables(options, candidates, others, sizes, report)
    for name, one in _sides(lists, found):
        tables[name] = _table(one.values(), _whole_rows(one, sizes))
    return tables


def _whole_rows(named, sizes):
    for name, utterance in sorted(named.items()):
        yield whole_row(name, utterance, sizes[utterance.path])


def _sides(lists, found):
    """Pairs (manifest, names in the list to utterances)."""
    if "verification" in found:
        trials = lists["verification"]
        for side in ("enrol", "test"):
            indices = np.unique(getattr(trials, side))
            names = [trials.utterances[index] for index in indices]
            yield side, {name: found["verification"][name] for name in names}


def _read_sizes(paths, report):
    """Path to ``Header``, of the files that can be read."""
    sizes = {}
    results = headers.map_files(headers.read_header, paths, "reading headers")
    for path, header in zip(paths, results, strict=True):
        if isinstance(header, AudioError):
            report.add(path, "cannot be read", str(header))
            continue
        sizes[path] = header
        if header.cut_short:
            report.add(path, "cut short", header.cut_short, left_out=False)
        if header.channels > 1:
            detail = str(header.channels)
            report.add(path, "several channels", detail, left_out=False)
        if header.rate != SAMPLE_RATE:
            detail = f"{header.rate} a second"
            report.add(path, "another sample rate", detail, left_out=False)
    return sizes


def _training_tables(options, candidates, num_others, sizes, report):
    usable = [
        item for item in candidates if _is_usable(item, options, sizes, report)
    ]
    bounds = {}
    if options.amp_th > 0:
        bounds = _loud_bounds(usable, options, sizes, report)
        usable = [item for item in usable if bounds[item.path]]
    draw = split_by_speaker if options.split_speaker else split_by_utterance
    share = options.split_ratio[1] / sum(options.split_ratio)
    parts = draw(usable, share, options.seed)

    def rows(part):
        for item in part:
            header = sizes[item.path]
            chunks = bounds.get(item.path) or _bounds(header, options)
            for start, stop in chunks:
                yield chunk_row(item, header, start, stop)

    tables = {}
    for name, part in zip(("train", "dev"), parts, strict=True):
        if not part and name in options.splits:
            raise AttnError(
                _nothing_left(name, options, num_others, usable, report)
            )
        tables[name] = _table(part, rows(part))
    return tables


def _is_usable(utterance, options, sizes, report):
    header = sizes.get(utterance.path)
    if header is None:  # reported as unreadable
        return False
    if not _is_long_enough(utterance, sizes, report, left_out=True):
        return False
    if header.samples < options.chunk_samples and not options.keep_short:
        # SpeechBrain's script stops at a file shorter than its crops.
        detail = f"{header.duration:.2f} s"
        report.add(utterance.path, "shorter than a chunk", detail)
        return False
    return True


def _is_long_enough(utterance, sizes, report, left_out):
    duration = sizes[utterance.path].duration
    if duration >= MIN_DURATION:
        return True
    reason, detail = "too short to hold speech", f"{duration:.3f} s"
    report.add(utterance.path, reason, detail, left_out=left_out)
    return False


def _bounds(header, options):
    chunk_samples = None if options.random_segment else options.chunk_samples
    return chunk_bounds(header, chunk_samples)


def _loud_bounds(utterances, options, sizes, report):
    """Path to the bounds of the chunks that are not silent."""
    # Here, since torch alone takes more memory than a preparation without it.
    from speechbrain_attn.dataio.audio import read_waveform

    def measure(path):
        wav = read_waveform(path)
        return [
            (start, stop)
            for start, stop in _bounds(sizes[path], options)
            if wav[start:stop].abs().mean() >= options.amp_th
        ]

    paths = [item.path for item in utterances]
    bounds = {}
    results = headers.map_files(measure, paths, "measuring loudness")
    for path, loud in zip(paths, results, strict=True):
        if isinstance(loud, AudioError):
            report.add(path, "cannot be read", str(loud))
            loud = []
        elif not loud:
            report.add(path, "silent")
        elif len(loud) < len(_bounds(sizes[path], options)):
            report.add(path, "partly silent", left_out=False)
        bounds[path] = loud
    return bounds


def _nothing_left(name, options, num_others, usable, report):
    if usable:
        return (
            f"no file is left for {name}: of {len(usable):,} usable files each "
            "speaker has one, or all are one speaker's. Add files, or leave "
            f"'{name}' out of splits (in training: --split_ratio=[100,0])."
        )
    reasons = [f"{num_others:,} of speakers in the trial lists"]
    reasons += [f"{count:,} {why}" for why, count in report.counts().items()]
    return (
        f"{', '.join(options.data_folders)}: no file is left for {name}; left "
        f"out were {', '.join(reasons)}. Check the lists and the data folder; "
        "files shorter than seg_dur are kept with keep_short=True, or "
        "--keep-short."
    )
