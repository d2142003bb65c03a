"""Audio files to an embedding store, over any number of kills."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import filelock
import numpy as np
from torch import distributed

from speechbrain_attn.dataio.headers import SAMPLE_RATE
from speechbrain_attn.dataio.manifest import csv_lines
from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.fingerprint import (
    file_states_sha256,
    files_sha256,
    network_sha256,
)
from speechbrain_attn.inference.buckets import (
    header_lengths,
    length_buckets,
    refuse_unreadable,
)
from speechbrain_attn.inference.extraction import (
    Job,
    batch_settings,
    embedded_parts,
    progress_bar,
)
from speechbrain_attn.inference.journal import Journal, embeddings_at, entries
from speechbrain_attn.scoring.store import (
    LEFT_OUT_FILE,
    EmbeddingStore,
    check_ids,
    read_settings,
    write_file,
    write_text,
    writing,
)

ON_ERROR = ("skip", "stop")
_UNFINISHED = "unfinished"  # folder of the work that is under way
_PLAN = "buckets_sha256"  # of a store that is under way
_OTHER = {
    "embedding_model": "another network",
    "model_sha256": "another model or other weights",
    "files_sha256": "another list of files",
    "file_states_sha256": "audio files that were changed since",
    _PLAN: "other batches",
}


def extract_to_store(
    folder,
    files,
    compute_features,
    mean_var_norm,
    embedding_model,
    device="cpu",
    on_error="skip",
    progress=True,
    precision="fp32",
    knows_states=False,
    refused=None,
):
    """Embed audio files into a folder, going on from what is there.

    A killed run loses the few batches in hand; the same call goes on, and the
    store is the same, to the bit, as that of a run from start to end. A
    finished store is opened: files are told apart by their paths, so give
    another folder for audio that was replaced, or ``knows_states``. Where
    ``torch.distributed`` is initialised, all processes of the group must call
    this, and share the work.

    Arguments
    ---------
    folder : str or Path
        Of the store; one process, or one group of them, writes it at a time.
    files, compute_features, mean_var_norm, embedding_model, device, precision
        As for ``extract_embeddings``.
    on_error : str
        "skip" lists files that cannot be read or embedded in the store's
        ``left_out.csv`` and goes on; "stop" raises at the first of them.
    progress : bool
        True shows a bar, if stderr is a terminal.
    knows_states : bool
        True tells files apart by their sizes and times of change, too.
    refused : dict
        Utterance -> (path, reason), of those that were left out before, to be
        listed in ``left_out.csv``, too.

    Returns
    -------
    EmbeddingStore

    Raises
    ------
    AttnError
        The folder was begun with another network, other files or settings;
        another process is writing it; it cannot be written; no file could be
        embedded; or, with "stop", a file could not (AudioError,
        TooShortError).
    """
    if on_error not in ON_ERROR:
        raise AttnError(
            f"on_error: want one of {', '.join(ON_ERROR)}, got {on_error!r}."
        )
    folder = Path(folder)
    network = (compute_features, mean_var_norm, embedding_model)
    job = Job(files, network, device, precision)
    settings = {
        "embedding_model": type(embedding_model).__name__,
        "model_sha256": network_sha256(network),
        "files_sha256": files_sha256(files),
        **batch_settings(device, precision),
    }
    # Of no matter to a finished store.
    batch_frames = settings.pop("batch_frames")
    if knows_states:
        settings["file_states_sha256"] = file_states_sha256(files)
    is_main = _place_in_group()[0] == 0
    with writing(folder), _locked(folder):
        if is_main:
            _begin(folder, files, settings, batch_frames, on_error)
        _wait_for_all()
        if read_settings(folder) is None:
            work = folder / _UNFINISHED
            if on_error == "stop":
                refuse_unreadable(_lengths(work, files), files)
            buckets = _planned_buckets(work, files, batch_frames)
            _extract(work, buckets, job, on_error, progress)
            _wait_for_all()
            if is_main:
                _finish(folder, files, settings, refused or {})
        _wait_for_all()
    return EmbeddingStore.open(folder)


def left_out(store):
    """Path -> reason, of files of a store that could not be embedded."""
    path = store.folder / LEFT_OUT_FILE
    with open(
        path, encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def num_left_out(store):
    """How many files of an extracted store could not be embedded."""
    return len(left_out(store))


def _place_in_group():
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _wait_for_all():
    if _place_in_group()[1] > 1:
        distributed.barrier()


@contextlib.contextmanager
def _locked(folder):
    """Hold the lock of this process; the system frees it when it dies."""
    rank, num_ranks = _place_in_group()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        held.enter_context(_lock(folder / f".lock-{rank}"))
        if rank == 0:
            # A process of an earlier, larger group may have outlived it.
            for path in folder.glob(".lock-*"):
                if int(path.name.split("-")[1]) >= num_ranks:
                    with _lock(path):
                        pass
        yield


@contextlib.contextmanager
def _lock(path):
    lock = filelock.FileLock(path, blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise AttnError(
            f"{path.parent}: another process is writing this store. Wait "
            "until it ends, or give another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _begin(folder, files, settings, batch_frames, on_error):
    """Refuse what does not belong together, or plan the work."""
    check_ids(files)
    work = folder / _UNFINISHED
    finished = read_settings(folder)
    if finished is not None:
        _check_same(folder, finished, settings)
        num_missing = num_left_out(EmbeddingStore.open(folder))
        if on_error == "stop" and num_missing:
            raise AttnError(
                f"{folder}: is finished without {num_missing:,} of "
                f"{len(files):,} files; {LEFT_OUT_FILE} there tells why. Mend "
                "them, remove the folder, and run the same command again."
            )
        shutil.rmtree(work, ignore_errors=True)  # killed just after the end
        return
    if (work / "settings.json").exists():
        text = (work / "settings.json").read_text(encoding="utf-8")
        try:
            there = json.loads(text)
        except ValueError as error:
            raise AttnError(
                f"{work / 'settings.json'}: cannot be read ({error}). Remove "
                f"{work}, and run the same command again."
            ) from None
        _check_same(folder, there, settings)
        _check_same(folder, there, _plan(work, files, batch_frames))
    else:
        lengths = np.array(list(header_lengths(files).values()), np.int64)
        work.mkdir(exist_ok=True)
        write_file(work / "lengths.npy", lambda file: np.save(file, lengths))
        settings = {**settings, **_plan(work, files, batch_frames)}
        write_text(work / "settings.json", json.dumps(settings))


def _check_same(folder, there, now):
    """Refuse to mix embeddings that were made in different ways."""
    for key, value in now.items():
        if there.get(key) != value:
            raise AttnError(
                f"{folder}: was begun with {_OTHER.get(key, 'another ' + key)}"
                f" ({there.get(key)}, now {value}). Run with what it was begun"
                " with, or give another folder, or remove this one."
            )


def _lengths(work, files):
    """Lengths that were found first, {utterance: samples}."""
    samples = np.load(work / "lengths.npy").tolist()
    return dict(zip(files, samples, strict=True))


def _planned_buckets(work, files, batch_frames):
    """All buckets of the list.

    Planned anew each time from the lengths that were found first, so that a
    batch has the same neighbours, and its embeddings the same last bits,
    whichever process makes it and when.
    """
    return length_buckets(_lengths(work, files), batch_frames)


def _plan(work, files, batch_frames):
    """What tells the buckets from others: finished ones have numbers only."""
    row_of = {utterance: row for row, utterance in enumerate(files)}
    buckets = _planned_buckets(work, files, batch_frames)
    rows = [[row_of[utterance] for utterance in bucket] for bucket in buckets]
    return {_PLAN: hashlib.sha256(json.dumps(rows).encode()).hexdigest()}


def _extract(work, buckets, job, on_error, progress):
    """Embed this process's share of the buckets that are not finished."""
    rank, num_ranks = _place_in_group()
    done = {
        number
        for number, (entry, _) in entries(work).items()
        if on_error == "skip" or not entry.refused
    }
    mine = range(rank, len(buckets), num_ranks)
    todo = [number for number in mine if number not in done]
    total = sum(len(buckets[number]) for number in mine)
    left = sum(len(buckets[number]) for number in todo)
    row_of = {utterance: row for row, utterance in enumerate(job.files)}
    parts = embedded_parts([buckets[number] for number in todo], job)
    with (
        Journal(work, rank) as journal,
        progress_bar(total, progress and rank == 0, total - left) as bar,
        contextlib.closing(parts),
    ):
        for number, part in zip(todo, parts, strict=True):
            if on_error == "stop":
                for error in part.refused.values():
                    raise error
            journal.append(
                number,
                [row_of[utterance] for utterance in part.utterances],
                part.samples,
                {row_of[utt]: str(why) for utt, why in part.refused.items()},
                part.embeddings,
            )
            bar.update(len(buckets[number]))


def _take_room(path):
    """Raise OSError where there is no room for all of a file on its disk.

    Where a mapped file meets a full disk, the system ends the process.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _finish(folder, files, settings, refused_before):
    """Bring the parts of all processes into one store."""
    work = folder / _UNFINISHED
    found = list(entries(work).values())
    refused = {}
    for entry, _ in found:
        refused.update({int(row): why for row, why in entry.refused.items()})
    if len(refused) == len(files):
        shutil.rmtree(work)  # the next run is to try them again
        raise AttnError(
            f"none of {len(files):,} files could be embedded. The first: "
            f"{refused[0]}"
        )
    kept = [row for row in range(len(files)) if row not in refused]
    # Where a row of the whole list lies among those that are kept.
    place_of = np.full(len(files), -1)
    place_of[kept] = np.arange(len(kept))
    size = max(entry.size for entry, _ in found)
    embeddings = np.lib.format.open_memmap(
        work / "all.npy", "w+", np.float32, (len(kept), size)
    )
    _take_room(work / "all.npy")
    durations = np.empty(len(kept), dtype=np.float32)
    for entry, place in found:
        if not entry.rows:
            continue
        rows = place_of[entry.rows]
        embeddings[rows] = embeddings_at(entry, place)
        durations[rows] = np.array(entry.samples) / SAMPLE_RATE
    names = list(files)
    report = [("utterance", "path", "reason")]
    report += [(names[i], files[names[i]], refused[i]) for i in sorted(refused)]
    report += [(name, *why) for name, why in refused_before.items()]
    write_text(folder / LEFT_OUT_FILE, "".join(csv_lines(report)))
    ids = [names[row] for row in kept]
    EmbeddingStore.create(folder, ids, embeddings, durations, settings)
    del embeddings  # some systems remove no file that is mapped
    shutil.rmtree(work)
