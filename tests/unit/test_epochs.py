"""Epochs shared out among processes and workers, and rows of manifests."""

import csv
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import soundfile
import torch
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.checkpoints import Checkpointer

from speechbrain_attn.dataio.crops import RandomCrops
from speechbrain_attn.dataio.datasets import (
    TrainingExamples,
    ValidationExamples,
    collate,
)
from speechbrain_attn.dataio.epochs import EpochBatchSampler
from speechbrain_attn.dataio.rows import ManifestRows
from speechbrain_attn.dataio.shard_writing import ShardOptions, write_shards
from speechbrain_attn.dataio.shards import shard_members
from speechbrain_attn.errors import AttnError
from speechbrain_attn.training.data import TrainingData

# Samplers


def samplers(num_rows, batch_size, world_size, **options):
    """One for each process."""
    return [
        EpochBatchSampler(
            num_rows, batch_size, rank=rank, world_size=world_size, **options
        )
        for rank in range(world_size)
    ]


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("num_rows", [10, 23, 64, 65, 66, 67, 71])
@pytest.mark.parametrize("batch_size", [2, 3, 8, 100])
def test_each_row_is_drawn_once_in_as_many_steps_everywhere(
    num_rows, batch_size, world_size
):
    processes = samplers(num_rows, batch_size, world_size, seed=3)
    for epoch in (1, 2):
        for sampler in processes:
            sampler.set_epoch(epoch)
        batches = [list(sampler) for sampler in processes]
        rows = sorted(r for each in batches for batch in each for r in batch)
        assert rows == list(range(num_rows))
        assert {len(each) for each in batches} == {len(processes[0])}
        for step in zip(*batches, strict=True):
            sizes = list(map(len, step))
            # A batch of one would stop batch norm.
            assert min(sizes) >= 2 and max(sizes) - min(sizes) <= 1
            assert max(sizes) <= batch_size + 2
        assert all(len(b) == batch_size for each in batches for b in each[:-1])


def test_the_order_follows_from_seed_and_epoch():
    """No epoch of one seed has the order of another's, be it a neighbour."""
    orders = {}
    for seed in (1986, 1987, 1988):
        for epoch in (1, 2, 3):
            for _ in range(2):
                (sampler,) = samplers(50, 8, 1, seed=seed)
                sampler.set_epoch(epoch)
                order = tuple(row for batch in sampler for row in batch)
                assert orders.setdefault((seed, epoch), order) == order
    assert len(set(orders.values())) == 9


def test_another_number_of_processes_goes_through_the_same_steps():
    (alone,) = samplers(52, 8, 1, seed=1)
    pair = samplers(52, 4, 2, seed=1)
    assert alone.step_size == pair[0].step_size
    for whole, *parts in zip(alone, *pair, strict=True):
        assert whole == parts[0] + parts[1]


@pytest.mark.parametrize("num_rows, passes", [(3, 7), (20, 1), (17, 2), (9, 3)])
def test_few_rows_come_again_in_another_order(num_rows, passes):
    sampler = EpochBatchSampler(num_rows, 4, seed=3, min_steps=5)
    numbers = [number for batch in sampler for number in batch]
    assert sorted(numbers) == list(range(num_rows * passes))
    assert len(sampler) >= 5
    rows = [number % num_rows for number in numbers]
    assert Counter(rows) == dict.fromkeys(range(num_rows), passes)
    if passes > 1:
        assert rows[:num_rows] != rows[num_rows : 2 * num_rows]


def test_too_few_rows_are_refused():
    with pytest.raises(AttnError, match="batch_size=1: want two crops at lea"):
        EpochBatchSampler(10, 1)
    with pytest.raises(AttnError, match="5 rows to train on for 3 processes"):
        EpochBatchSampler(5, 4, world_size=3)
    assert len(EpochBatchSampler(6, 4, world_size=3)) == 1


@pytest.mark.parametrize("steps", [-1, 2.5, "many"])
def test_a_number_of_steps_that_is_none_is_refused(steps):
    says = rf"min_epoch_steps={steps}: want a whole number of batches"
    with pytest.raises(AttnError, match=says):
        EpochBatchSampler(10, 4, min_steps=steps)


# Rows


def write_manifest(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["ID", "duration", "wav", "start", "stop", "spk_id"])
        out.writerows(rows)
    return path


def test_rows_are_those_that_the_host_reads(tmp_path):
    rows = [
        ("a_0", 2.5, "$data_root/s, 1/ä.wav", 0, 16000, "s1"),
        ("b_0", 1.25, "/x/b.wav", 5, 9, "ü"),
        ("a_1", 2.5, "$data_root/s, 1/ä.wav", 16000, 32000, "s1"),
    ]
    path = write_manifest(tmp_path / "m.csv", rows)
    found = ManifestRows(path, "/data")
    theirs = load_data_csv(path, {"data_root": "/data"})
    assert len(found) == len(theirs) == 3
    for row, (row_id, want) in zip(found, theirs.items(), strict=True):
        assert row.id == row_id
        assert row.path == want["wav"]
        assert row.duration == want["duration"]
        assert (str(row.start), str(row.stop)) == (want["start"], want["stop"])
        assert row.speaker == want["spk_id"]
    assert list(found.paths) == ["/data/s, 1/ä.wav", "/x/b.wav"]
    assert found.file_numbers.tolist() == [0, 1, 0]
    assert found.speaker_numbers.tolist() == [0, 1, 0]


def test_the_fingerprint_of_rows_is_that_of_their_ids_and_order(tmp_path):
    rows = [(f"{n}", 1.0, f"$data_root/{n}.wav", 0, 9, "s") for n in range(3)]
    moved = [(name, 1.0, f"/x/{name}", 0, 9, "s") for name, *_ in rows]

    def fingerprint(rows):
        manifest = write_manifest(tmp_path / "m.csv", rows)
        return ManifestRows(manifest, "/data").fingerprint()

    assert fingerprint(moved) == fingerprint(rows)
    others = [rows[::-1], rows[1:], rows[:2], [*rows, rows[0]]]
    assert fingerprint(rows) not in map(fingerprint, others)


def test_broken_manifests_are_refused_with_the_line(tmp_path):
    path = tmp_path / "m.csv"
    heading = "ID,duration,wav,start,stop,spk_id\n"
    # fmt: off
    bad = [  # text, what the message must say
        (None, r"m\.csv line 1: this manifest cannot be read \(.*No such"),
        ("", r"line 1: .*'ID' is not in list"),
        ("ID,wav\n", r"line 1: .*'duration' is not in list"),
        (heading + "a,1,x.wav,0\n", r"line 2: .*out of range"),
        (heading + "a,1,x.wav,0,9,s\na,1,x.wav,0,9.5,s\n", r"line 3: .*'9\.5'"),
        (heading.encode() + b"\xff\xfe", r"cannot be read \(.*codec"),
    ]
    # fmt: on
    for text, says in bad:
        if isinstance(text, str):
            path.write_text(text)
        elif text is not None:
            path.write_bytes(text)
        with pytest.raises(AttnError, match=says):
            ManifestRows(path, tmp_path)


# Examples, from shards


@pytest.fixture
def rows(tmp_path):
    """Rows of 23 files in shards, sample n of file r is (r + n / 1000) / 32."""
    place = tmp_path / "data" / "s0" / "a"
    for number in range(23):
        place = tmp_path / "data" / f"s{number % 4}" / "a"
        place.mkdir(parents=True, exist_ok=True)
        samples = (number + np.arange(900) / 1000) / 32
        path = place / f"{number:02}.wav"
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    folder = str(tmp_path / "shards")
    write_shards(ShardOptions(str(tmp_path / "data"), folder, "original", 0.01))
    paths, _ = shard_members(folder)
    lines = [
        (name, 900 / 16000, path, 100, 420, name.split("/")[0])
        for name, path in sorted(paths.items())
    ]
    return ManifestRows(write_manifest(tmp_path / "m.csv", lines), folder)


def test_files_of_shards_come_in_the_order_of_their_utterances(rows):
    """As those of a tree do, so that the same ones are taken of many."""
    rest = dict.fromkeys(field.name for field in fields(TrainingData))
    data = TrainingData(**{**rest, "rows": rows})
    names = [row.id for row in rows]
    assert names == sorted(names)
    assert data.files() == [row.path for row in rows]
    assert data.files() != sorted(data.files())


@pytest.fixture
def encoder():
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(["s0", "s1", "s2", "s3"])
    encoder.expect_len(4)
    return encoder


def loader_of(examples, num_workers, rank=0, world_size=1):
    """The host's loader of batches of four, for one process."""
    sampler = EpochBatchSampler(
        len(examples), 4, seed=1, rank=rank, world_size=world_size
    )
    sampler.set_epoch(1)
    return make_dataloader(
        examples,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
    )


def test_shards_give_each_utterance_once_to_2_ranks_x_2_workers(rows, encoder):
    crops = RandomCrops(160, seed=1)
    examples = TrainingExamples(rows, encoder, crops, random_chunk=True)
    heard, signals = Counter(), {}
    for rank in range(2):
        for batch in loader_of(examples, 2, rank, world_size=2):
            heard.update(batch.id)
            signals.update(zip(batch.id, batch.sig.data, strict=True))
            for name, number in zip(
                batch.id, batch.spk_id_encoded, strict=True
            ):
                assert encoder.decode_ndim(number) == name.split("/")[0]
    assert len(heard) == 23 and set(heard.values()) == {1}
    for row in rows:
        crop = crops.read(row.id, row.path, row.duration)
        assert torch.equal(signals[row.id], crop)
        number = int(row.id.split("/")[-1].removesuffix(".wav"))
        assert (crop * 32).floor().unique().tolist() == [number]


def test_rows_that_come_again_in_an_epoch_give_other_crops(rows, encoder):
    crops = RandomCrops(160, seed=1, speeds=(90, 100, 110))
    examples = TrainingExamples(rows, encoder, crops, random_chunk=True)
    once, again = examples[3], examples[3 + len(examples)]
    assert once["id"] == again["id"]
    assert not torch.equal(once["sig"], again["sig"])
    speeds = {
        crops.speed_index(rows[3].id),
        *(crops.speed_index(f"{rows[3].id} {n}") for n in range(1, 20)),
    }
    assert speeds == {0, 1, 2}


def test_an_epoch_goes_on_in_the_middle(tmp_path, rows, encoder):
    crops = RandomCrops(160, seed=1)
    examples = TrainingExamples(rows, encoder, crops, random_chunk=True)
    loader = loader_of(examples, num_workers=2)
    saver = Checkpointer(tmp_path / "ckpt", {"loader": loader})
    batches = []
    for number, batch in enumerate(loader):
        batches.append(batch)
        if number == 2:
            saver.save_checkpoint(end_of_epoch=False)
    later = loader_of(examples, num_workers=0)
    Checkpointer(tmp_path / "ckpt", {"loader": later}).recover_if_possible()
    again = list(later)
    assert len(again) == len(batches) - 3 > 1
    for one, other in zip(batches[3:], again, strict=True):
        assert one.id == other.id
        assert torch.equal(one.sig.data, other.sig.data)


def test_chunks_are_a_rows_own_and_dev_rows_have_known_speakers(rows):
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(["s1", "s3"])
    encoder.expect_len(2)
    dev = ValidationExamples(rows, encoder)
    assert len(dev) == 11
    for example in dev:
        number = int(example["id"].split("/")[-1].removesuffix(".wav"))
        assert number % 4 in (1, 3)
        wanted = (number + torch.arange(100, 420) / 1000) / 32
        torch.testing.assert_close(example["sig"], wanted)
    crops = RandomCrops(400, seed=1)
    chunks = TrainingExamples(dev.rows, encoder, crops, random_chunk=False)
    first = next(n for n, row in enumerate(rows) if row.speaker == "s1")
    sig = chunks[first]["sig"]
    assert len(sig) == 400 and torch.equal(sig[:80], sig[320:])
