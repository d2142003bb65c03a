"""Manifests: CSV files of utterances in SpeechBrain's columns."""

import contextlib
import csv
import io
import os

from speechbrain_attn.dataio.headers import SAMPLE_RATE
from speechbrain_attn.errors import AttnError

COLUMNS = ("ID", "duration", "wav", "start", "stop", "spk_id")


def whole_row(row_id, utterance, header):
    """Manifest row of a whole file, as enrol.csv and test.csv hold them.

    ``row_id`` is the utterance's name in the trial list, by which the scripts
    that score the list look it up.
    """
    return (
        row_id,
        header.duration,
        utterance.path,
        0,
        header.samples,
        utterance.speaker,
    )


def chunk_bounds(header, chunk_samples):
    """First samples and the ones after the last of the chunks of a file.

    Only whole chunks count; a file shorter than one is one chunk by itself.
    ``chunk_samples=None`` makes one chunk of any file.
    """
    total = header.samples
    if chunk_samples is None or total < chunk_samples:
        return [(0, total)]
    starts = range(0, total - chunk_samples + 1, chunk_samples)
    return [(start, start + chunk_samples) for start in starts]


def chunk_row(utterance, header, start, stop):
    """Manifest row of a chunk, as train.csv and dev.csv hold them.

    ``start`` and ``stop`` are samples at 16 kHz, the duration is the file's.
    """
    chunk_id = (
        f"{utterance.speaker}--{utterance.session}--{utterance.name}"
        f"_{start / SAMPLE_RATE}_{stop / SAMPLE_RATE}"
    )
    return (
        chunk_id,
        header.duration,
        utterance.path,
        start,
        stop,
        utterance.speaker,
    )


def check_writable(utterances):
    """Refuse paths that the readers of a CSV file would not give back.

    SpeechBrain's reader takes ``$name`` in a cell for a placeholder, and a
    CSV file of ours is UTF-8.

    Arguments
    ---------
    utterances : iterable of Utterance

    Raises
    ------
    AttnError
        A path holds ``$`` or is not UTF-8.
    """
    refused = [item.path for item in utterances if not _is_writable(item.path)]
    if refused:
        shown = refused[0].encode(errors="backslashreplace").decode()
        raise AttnError(
            f"{shown}: the path holds '$' or is not UTF-8, which SpeechBrain's "
            f"CSV reader cannot take; so it is with {len(refused)} files. "
            "Rename the files or folders, or reach them through a link of "
            "another name."
        )


def _is_writable(path):
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "$" not in path


def csv_lines(rows):
    """Each row as a line of a CSV file."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in rows:
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def write_together(files):
    """Write text files so that either all of them appear or none does.

    Each is written under another name first and renamed when all are there,
    so that an earlier file is whole until then.

    Arguments
    ---------
    files : dict
        Path to an iterable of lines, each with its line feed.

    Returns
    -------
    dict
        Path to the number of lines.

    Raises
    ------
    AttnError
        A file cannot be written; the message names it and says why.
    """
    temporary, counts = {}, {}
    try:
        for path, lines in files.items():
            temporary[path] = f"{path}.{os.getpid()}.tmp"
            counts[path] = _write_lines(temporary[path], lines)
        for path, name in temporary.items():
            os.replace(name, path)
    except OSError as error:
        raise AttnError(
            f"{path}: cannot be written ({error.strerror}); what was there "
            "before is whole. Make room or choose another folder, then run "
            "the same command again."
        ) from None
    finally:
        for name in temporary.values():
            with contextlib.suppress(FileNotFoundError):  # was renamed
                os.remove(name)
    return counts


def _write_lines(path, lines):
    count = 0
    with open(path, "w", newline="", encoding="utf-8") as file:
        for line in lines:
            file.write(line)
            count += 1
    return count
