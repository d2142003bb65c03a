"""Which utterances go into which shard, the same at every call."""

import csv
import hashlib
import os
import random
from typing import NamedTuple

from speechbrain_attn.dataio.headers import map_files
from speechbrain_attn.dataio.manifest import check_writable
from speechbrain_attn.dataio.shards import stored_in
from speechbrain_attn.dataio.tree import (
    Tree,
    Utterance,
    find_utterances,
    merge_utterances,
    strip_extension,
)
from speechbrain_attn.errors import AttnError


class ShardPlan(NamedTuple):
    """What ``plan_shards`` found."""

    shards: list  # of lists of Utterance
    fingerprint: str  # of names, sizes and times of change of all files
    left_out: list  # lists [path, reason] of files that are in no shard


def plan_shards(source, shard_bytes):
    """Share out the utterances of a corpus among shards.

    Arguments
    ---------
    source : str
        VoxCeleb-like tree, several joined by commas, or a manifest (``.csv``).
    shard_bytes : float
        Of files in a shard; the last file of one may go over.

    Returns
    -------
    ShardPlan

    Raises
    ------
    AttnError
        The source cannot be read, holds nothing, or lies in shards.
    """
    utterances, left_out = _utterances(source)
    check_writable(utterances)
    marks = map_files(_mark, utterances, "listing files")
    digest = hashlib.sha256()
    for utterance, (size, changed) in zip(utterances, marks, strict=True):
        line = f"{utterance.utterance_id}\0{size}\0{changed}\n"
        digest.update(line.encode())
    order = list(range(len(utterances)))
    # Readers that stream a shard after another meet the speakers mixed.
    random.Random(0).shuffle(order)
    shards, filled = [[]], 0
    for number in order:
        if filled >= shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(utterances[number])
        filled += marks[number][0]
    return ShardPlan(shards, digest.hexdigest(), left_out)


def _utterances(source):
    """Sorted list of ``Utterance``, and lists [path left out, reason]."""
    if source.endswith(".csv"):
        trees = [Tree(_manifest_utterances(source), [], "")]
    else:
        folders = [source]
        if not os.path.isdir(source):  # its name may hold a comma
            folders = [folder.strip() for folder in source.split(",")]
        trees = [find_utterances(folder) for folder in folders]
    utterances, spare = merge_utterances(trees)
    for utterance in utterances.values():
        if stored_in(utterance.path) != utterance.path:
            raise AttnError(
                f"{source}: lies in shards already, such as {utterance.path}; "
                "give the folder that they were made from."
            )
    left_out = [[path, f"the same as {taken}"] for path, taken in spare]
    left_out += [
        [path, "not at <speaker>/<session>/<utterance>"]
        for tree in trees
        for path in tree.misplaced
    ]
    return sorted(utterances.values()), left_out


def _manifest_utterances(path):
    """One ``Utterance`` for each file of a manifest, of its speaker there."""
    found = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            for row in rows:
                wav, speaker = row["wav"] or "", row["spk_id"] or ""
                *_, session, name = ["", *wav.split(os.sep)]
                if not (name and session and speaker) or "/" in speaker:
                    raise AttnError(
                        f"{path} line {rows.line_num}: wav={wav!r} and "
                        f"spk_id={speaker!r}; want a file in a folder, and a "
                        "speaker without '/'."
                    )
                if "$data_root" in wav:
                    raise AttnError(
                        f"{path} line {rows.line_num}: wav={wav!r}; write the "
                        "folder in the place of $data_root."
                    )
                name = strip_extension(name)
                utterance = Utterance(speaker, session, name, wav)
                if found.setdefault(wav, utterance) != utterance:
                    raise AttnError(
                        f"{path} line {rows.line_num}: {wav} is of speaker "
                        f"{speaker!r} here and of {found[wav].speaker!r} "
                        "before; in shards a file has one speaker. Cut it."
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AttnError(f"{path}: cannot be read ({error}).") from None
    except KeyError as error:
        raise AttnError(
            f"{path}: has no column {error}; want a manifest as "
            "voxceleb_prepare.py writes it."
        ) from None
    if not found:
        raise AttnError(f"{path}: this manifest holds no rows.")
    return list(found.values())


def _mark(utterance):
    """Bytes of a file and the time of its last change; 0, 0 if missing."""
    try:
        status = os.stat(utterance.path)
    except OSError:
        return 0, 0  # will be left out, with the reason
    return status.st_size, status.st_mtime_ns
