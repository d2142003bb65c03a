"""Writes a corpus as tar shards; a killed run goes on with the same call.

A folder of shards holds

- ``shard-000000.tar``, ...: audio files, as webdataset reads them, too;
- ``shard-000000.json``, ...: names, places and seconds of their members, and
  the files that were left out;
- ``shards.json``: the settings, and when all is done bytes, utterances,
  seconds and speakers of each shard;
- ``left_out.csv``: the files left out, with the reason.

A file is written under another name and renamed when it is whole, and the
json of a shard before the shard: a shard that is there is finished.
"""

import contextlib
import io
import json
import os
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import filelock
import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_attn.dataio.headers import SAMPLE_RATE, read_header
from speechbrain_attn.dataio.manifest import csv_lines, write_together
from speechbrain_attn.dataio.shard_plan import plan_shards
from speechbrain_attn.dataio.shards import (
    INDEX_FILE,
    read_index,
    read_json,
)
from speechbrain_attn.errors import AttnError, AudioError

AUDIO_FORMS = ("original", "flac")
LEFT_OUT_FILE = "left_out.csv"


@dataclass(frozen=True)
class ShardOptions:
    """What ``write_shards`` writes, and where.

    Arguments
    ---------
    source : str
        VoxCeleb-like tree (several joined by commas), or a manifest
        (``.csv``), of which each file counts once.
    folder : str
        Where the shards go.
    audio : str
        "original": the bytes of the files. "flac": mono, 16 kHz, 16 bits,
        which is what training reads, without loss if the files are so.
    shard_megabytes : float
        Of source files in a shard; the last one may have less.
    num_threads : int
        Shards written side by side; None takes a thread a core.
    """

    source: str
    folder: str
    audio: str = "original"
    shard_megabytes: float = 1000
    num_threads: int = None

    def __post_init__(self):
        if self.audio not in AUDIO_FORMS:
            raise AttnError(
                f"audio={self.audio!r}; want one of {', '.join(AUDIO_FORMS)}."
            )
        if not self.shard_megabytes > 0:
            raise AttnError(
                f"shard_megabytes={self.shard_megabytes}; want more than 0."
            )
        if self.num_threads is not None and self.num_threads < 1:
            raise AttnError(f"threads={self.num_threads}; want 1 or more.")


def write_shards(options):
    """Write a corpus as tar shards, or go on where a run was killed.

    Arguments
    ---------
    options : ShardOptions

    Returns
    -------
    list of str
        Sentences for the user: what was written and what was left out.

    Raises
    ------
    AttnError
        The source cannot be read or has no usable file, the folder holds
        something else, or cannot be written.
    """
    plan = plan_shards(options.source, options.shard_megabytes * 1e6)
    settings = {
        "audio": options.audio,
        "shard_megabytes": options.shard_megabytes,
        "files": plan.fingerprint,
    }
    with _claimed(options.folder):
        if _begin(options.folder, settings):
            return [f"{options.folder}: nothing to do, all is written."]
        _write_all(plan.shards, options)
        return _finish(plan, options.folder, settings)


@contextlib.contextmanager
def _claimed(folder):
    """Hold the folder; a lock ends with its process, however that ends."""
    try:
        os.makedirs(folder, exist_ok=True)
        lock = filelock.FileLock(os.path.join(folder, ".lock"), blocking=False)
        with lock:
            yield
    except filelock.Timeout:
        raise AttnError(
            f"{folder}: another process is writing shards there. Wait until "
            "it ends, or give another folder."
        ) from None
    except OSError as error:
        raise AttnError(
            f"{folder}: cannot be written ({error.strerror}); finished shards "
            "are kept. Make room or choose another folder, then run the same "
            "command again."
        ) from None


def _begin(folder, settings):
    """Whether all is written and whole; refuses a folder of other things."""
    path = os.path.join(folder, INDEX_FILE)
    if not os.path.exists(path):
        own = {".lock", f"{INDEX_FILE}.tmp"}
        others = sorted(set(os.listdir(folder)) - own)
        if others:
            raise AttnError(
                f"{folder}: holds {others[0]} and no {INDEX_FILE}; give an "
                "empty folder or a new one."
            )
        _write_json(path, {"settings": settings, "shards": None})
        return False
    found = read_index(folder)
    for key, value in settings.items():
        theirs = found["settings"].get(key)
        if theirs == value:
            continue
        what = f"{key}={theirs}, and this run has {key}={value}"
        if key == "files":
            what = "other files: the source changed, or is another one"
        raise AttnError(
            f"{folder}: was begun with {what}. Give another folder, or remove "
            "this one."
        )
    if found["shards"] is None:
        return False
    damaged = [
        stem
        for shard in found["shards"]
        if not _is_whole(stem := os.path.join(folder, shard["name"]), shard)
    ]
    if not damaged:
        return True
    for stem in damaged:  # to be written anew
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{stem}.tar")
    _write_json(path, {"settings": settings, "shards": None})
    return False


def _is_whole(stem, shard):
    """Whether a shard is as the index says."""
    try:
        return os.path.getsize(f"{stem}.tar") == shard["bytes"] and (
            os.path.getsize(f"{stem}.json") > 0
        )
    except FileNotFoundError:
        return False


def _write_all(shards, options):
    """Write what is not there yet, in threads.

    Reading, writing and encoding leave Python free, so threads are as good as
    processes, and all of them end with this one.
    """
    stop = threading.Event()
    total = sum(map(len, shards))
    num_threads = options.num_threads or os.cpu_count()
    with (
        tqdm(total=total, desc="shards", unit="file", disable=None) as bar,
        ThreadPoolExecutor(num_threads) as pool,
    ):
        writer = _ShardWriter(options.audio, bar, stop)
        jobs = []
        for number, utterances in enumerate(shards):
            stem = os.path.join(options.folder, _name(number))
            if os.path.exists(f"{stem}.tar"):
                bar.update(len(utterances))
            else:
                jobs.append(pool.submit(writer.write, stem, utterances))
        try:
            for job in jobs:
                job.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _name(number):
    return f"shard-{number:06}"


class _ShardWriter:
    """Writes one shard at a time in each of several threads."""

    def __init__(self, audio, bar, stop):
        self._audio = audio
        self._bar = bar
        self._stop = stop

    def write(self, stem, utterances):
        """Write ``stem``.tar and ``stem``.json, or neither."""
        members, left_out = [], []
        with open(f"{stem}.tar.tmp", "wb") as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                for utterance in utterances:
                    if self._stop.is_set():
                        return
                    self._add(tar, utterance, members, left_out)
            # To disk before its name, so that a power cut leaves none torn.
            file.flush()
            os.fsync(file.fileno())
        _write_json(f"{stem}.json", {"members": members, "left_out": left_out})
        os.replace(f"{stem}.tar.tmp", f"{stem}.tar")

    def _add(self, tar, utterance, members, left_out):
        self._bar.update()
        try:
            extension, body, seconds = self._audio_of(utterance.path)
        except AudioError as error:
            reason = str(error).removeprefix(f"{utterance.path}: ")
            left_out.append([utterance.path, reason])
            return
        # No owner, no time: the same files give the same bytes.
        info = tarfile.TarInfo(utterance.utterance_id + extension)
        info.size = len(body)
        tar.addfile(info, io.BytesIO(body))
        end = -(-len(body) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        members.append([info.name, tar.offset - end, len(body), seconds])

    def _audio_of(self, path):
        """Extension, bytes and seconds of a file; AudioError says why not."""
        header = read_header(path)
        if self._audio == "flac":
            # Here, since torch takes seconds to load and is not needed else.
            from speechbrain_attn.dataio.audio import read_waveform

            wav = read_waveform(path).clamp(-1, 1 - 2**-15)
            samples = np.round(wav.numpy() * 2**15).astype(np.int16)
            body = io.BytesIO()
            soundfile.write(body, samples, SAMPLE_RATE, format="FLAC")
            return ".flac", body.getvalue(), len(samples) / SAMPLE_RATE
        try:
            with open(path, "rb") as file:
                body = file.read()
        except OSError as error:
            raise AudioError(error.strerror) from None
        return os.path.splitext(path)[1].lower(), body, header.duration


def _write_json(path, value):
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)


def _finish(plan, folder, settings):
    """Write the list of what was left out, then the index."""
    index, left_out, speakers = [], list(plan.left_out), set()
    for number in range(len(plan.shards)):
        stem = os.path.join(folder, _name(number))
        found = read_json(f"{stem}.json")
        here = {name.split("/")[0] for name, *_ in found["members"]}
        speakers |= here
        left_out += found["left_out"]
        index.append(
            {
                "name": _name(number),
                "bytes": os.path.getsize(f"{stem}.tar"),
                "utterances": len(found["members"]),
                "seconds": sum(member[3] for member in found["members"]),
                "speakers": len(here),
            }
        )
    total = sum(shard["utterances"] for shard in index)
    report = os.path.join(folder, LEFT_OUT_FILE)
    rows = [("path", "reason"), *sorted(left_out)]
    write_together({report: csv_lines(rows)})
    if total == 0:
        raise AttnError(
            f"{folder}: none of {len(left_out):,} files can be read, such as "
            f"{left_out[0][0]} ({left_out[0][1]}); see {report}."
        )
    path = os.path.join(folder, INDEX_FILE)
    _write_json(path, {"settings": settings, "shards": index})
    hours = sum(shard["seconds"] for shard in index) / 3600
    sentences = [
        f"{folder}: {total:,} utterances of {len(speakers):,} speakers, "
        f"{hours:,.1f} h, in {len(index):,} shards."
    ]
    if left_out:
        sentences.append(
            f"{len(left_out):,} files left out; {report} says why."
        )
    return sentences
