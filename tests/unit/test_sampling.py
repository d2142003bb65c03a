"""Batches of N speakers x M utterances: which, where and of what length."""

import itertools
import logging
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.utils.checkpoints import Checkpointer

from speechbrain_attn.dataio.datasets import collate
from speechbrain_attn.dataio.rows import ManifestRows
from speechbrain_attn.dataio.sampling import (
    Crop,
    CropDataset,
    SpeakerBatchSampler,
)
from speechbrain_attn.errors import AttnError
from speechbrain_attn.nnet.losses import GE2E

SIZES = (7, 3, 2, 5, 1, 11, 4, 3)  # files of each speaker


def sampler_of(sizes=SIZES, num_speakers=3, num_utterances=3, **options):
    """A sampler whose row r is file r; its speakers are numbers."""
    speakers = [n for n, size in enumerate(sizes) for _ in range(size)]
    sampler = SpeakerBatchSampler(
        speakers,
        range(len(speakers)),
        num_speakers,
        num_utterances,
        **options,
    )
    return sampler, speakers


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def check_batch(batch, speakers, num_speakers, num_utterances):
    """Speaker after speaker, no speaker twice, no file more than it must."""
    assert len(batch) == num_speakers * num_utterances
    groups = [
        batch[start : start + num_utterances]
        for start in range(0, len(batch), num_utterances)
    ]
    names = [{speakers[crop.row] for crop in group} for group in groups]
    assert all(len(name) == 1 for name in names)
    assert len(set.union(*names)) == num_speakers
    for (name,), group in zip(names, groups, strict=True):
        files = speakers.count(name)
        uses = Counter(crop.row for crop in group)
        assert len(uses) == min(files, num_utterances)
        assert max(uses.values()) == -(-num_utterances // files)
    assert len({crop.num_samples for crop in batch}) == 1
    assert all(0 <= crop.position < 1 for crop in batch)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=4, max_size=20),
    num_speakers=st.integers(1, 4),
    num_utterances=st.integers(1, 6),
    few=st.sampled_from(["crops", "leave_out"]),
    seed=st.integers(0, 1000),
)
def test_every_batch_and_epoch(sizes, num_speakers, num_utterances, few, seed):
    kept = [n for n in sizes if few == "crops" or n >= num_utterances]
    options = {"few": few, "seed": seed}
    if len(kept) < num_speakers:
        verb = "is 1 speaker" if len(kept) == 1 else f"are {len(kept)} speakers"
        with pytest.raises(AttnError, match=rf"there {verb} \("):
            sampler_of(sizes, num_speakers, num_utterances, **options)
        return
    sampler, speakers = sampler_of(
        sizes, num_speakers, num_utterances, **options
    )
    batches = epoch_of(sampler, 1)
    assert len(batches) == len(sampler)
    for batch in batches:
        check_batch(batch, speakers, num_speakers, num_utterances)
    # As many batches as could be: one more would need a speaker twice.
    groups = [-(-size // num_utterances) for size in kept]
    more = len(sampler) + 1
    assert sum(min(one, more) for one in groups) < num_speakers * more
    # No file more than twice, if it need not give several crops at once.
    uses = Counter(crop.row for crop in itertools.chain(*batches))
    for row, count in uses.items():
        size = sizes[speakers[row]]
        assert count <= max(2, -(-num_utterances // size))


def test_an_epoch_goes_through_all_files():
    """If groups fill the batches: then each once, and some twice."""
    sampler, speakers = sampler_of((6, 5, 4, 6, 5, 4), 3, 3)
    for epoch in range(5):
        uses = Counter(
            crop.row for crop in itertools.chain(*epoch_of(sampler, epoch))
        )
        assert len(uses) == len(speakers)
        assert sum(uses.values()) == 6 * 2 * 3
        assert set(uses.values()) == {1, 2}


def test_what_an_epoch_leaves_over_changes():
    sampler, speakers = sampler_of([3] * 5, 2, 3)
    left_over = [
        set(range(len(speakers)))
        - {crop.row for crop in itertools.chain(*epoch_of(sampler, epoch))}
        for epoch in range(20)
    ]
    assert all(left_over)
    assert not set.intersection(*left_over)


def test_a_speaker_of_very_many_files_is_in_each_batch_once():
    sampler, speakers = sampler_of((1000, 4, 4, 4), 2, 2)
    batches = epoch_of(sampler, 0)
    assert len(batches) == 6
    for batch in batches:
        check_batch(batch, speakers, 2, 2)
        assert 0 in {speakers[crop.row] for crop in batch}


@pytest.mark.parametrize("files", [4, 5])
def test_a_speaker_that_is_needed_in_each_batch_is(files):
    """The others could fill one without it, and there would be one less."""
    sampler, speakers = sampler_of((files, 2, 2), 2, 1)
    for epoch in range(20):
        batches = epoch_of(sampler, epoch)
        assert len(batches) == 4
        for batch in batches:
            check_batch(batch, speakers, 2, 1)
            assert 0 in {speakers[crop.row] for crop in batch}


def test_speakers_of_few_files_come_at_any_time():
    sampler, speakers = sampler_of([2] * 20 + [20] * 20, 4, 2)
    times = [
        number / len(sampler)
        for epoch in range(10)
        for number, batch in enumerate(epoch_of(sampler, epoch))
        for crop in batch
        if speakers[crop.row] < 20
    ]
    assert 0.4 < np.mean(times) < 0.6


@pytest.mark.parametrize("files", [4, 40])
def test_no_speaker_is_left_out_for_good(files):
    """Where a step has room for all but a few, those differ each time."""
    sampler, speakers = sampler_of([files] * 10, 8, 4)
    batches = Counter(
        speakers[batch[start].row]
        for epoch in range(200)
        for batch in epoch_of(sampler, epoch)
        for start in range(0, 32, 4)
    )
    mean = batches.total() / 10
    assert all(0.7 * mean < batches[one] < 1.3 * mean for one in range(10))


def test_a_speakers_files_are_put_together_anew():
    sampler, speakers = sampler_of([6] * 4, 2, 2)
    pairs = {
        tuple(sorted(crop.row for crop in batch if speakers[crop.row] == 0))
        for epoch in range(40)
        for batch in epoch_of(sampler, epoch)
    } - {()}
    assert len(pairs) == 15


def test_all_speakers_meet_all_others():
    """No fixed companions: the batches of an epoch are mixed anew."""
    sampler, speakers = sampler_of([60] * 12, 4, 2)
    meetings = Counter()
    for batch in epoch_of(sampler, 0):
        together = sorted({speakers[crop.row] for crop in batch})
        meetings.update(itertools.combinations(together, 2))
    assert len(meetings) == 12 * 11 // 2


def test_batches_follow_from_seed_and_epoch_alone():
    sampler, _ = sampler_of(seed=1)
    first = epoch_of(sampler, 1)
    torch.rand(3), np.random.rand(3)
    other, _ = sampler_of(seed=1)
    epoch_of(other, 7)
    assert epoch_of(other, 1) == first
    assert epoch_of(sampler, 1) == first
    assert epoch_of(sampler, 2) != first
    assert epoch_of(sampler_of(seed=2)[0], 1) != first


def test_one_length_a_batch_from_the_whole_range():
    sampler, _ = sampler_of([20] * 6, 3, 2, min_frames=140, max_frames=143)
    lengths = {batch[0].num_samples for batch in epoch_of(sampler, 0)}
    assert lengths == {140 * 160, 141 * 160, 142 * 160, 143 * 160}


def test_crops_of_one_file_are_of_different_parts():
    sampler, _ = sampler_of((3, 1), 2, 4)
    for epoch in range(20):
        by_row = {}
        for crop in epoch_of(sampler, epoch)[0]:
            by_row.setdefault(crop.row, []).append(crop.position)
        assert sorted(map(len, by_row.values())) == [1, 1, 2, 4]
        for positions in by_row.values():
            parts = [int(one * len(positions)) for one in positions]
            assert parts == list(range(len(positions)))


def test_rows_of_one_file_count_once():
    """A manifest has a row for each chunk of a file."""
    speakers = ["a"] * 6 + ["b"] * 4
    files = ["a1", "a1", "a2", "a2", "a2", "a3", "b1", "b1", "b2", "b3"]
    sampler = SpeakerBatchSampler(speakers, files, 2, 3)
    (batch,) = sampler
    assert sorted(crop.row for crop in batch) == [0, 2, 5, 6, 8, 9]
    assert sampler.num_few == 0


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_a_step(world_size):
    """Together they are what one process with all the speakers would be."""
    ranks = [
        epoch_of(
            sampler_of(
                [9] * 13, 3, 2, rank=rank, world_size=world_size, seed=5
            )[0],
            4,
        )
        for rank in range(world_size)
    ]
    whole, speakers = sampler_of([9] * 13, 3 * world_size, 2, seed=5)
    batches = epoch_of(whole, 4)
    assert {len(one) for one in ranks} == {len(batches)}
    for together, step in zip(batches, zip(*ranks, strict=True), strict=True):
        check_batch(together, speakers, 3 * world_size, 2)
        assert list(itertools.chain(*step)) == together


@pytest.mark.parametrize(
    "few, says",
    [
        ("crops", "2 of 8 speakers have fewer than 3 files and give several"),
        ("leave_out", "2 of 8 speakers have fewer than 3 files and are left"),
    ],
)
def test_the_log_says_how_many_have_few(caplog, few, says):
    with caplog.at_level(logging.INFO):
        sampler, speakers = sampler_of(few=few)
    assert says in caplog.text
    assert sampler.num_few == 2
    used = {
        speakers[crop.row]
        for epoch in range(10)
        for crop in itertools.chain(*epoch_of(sampler, epoch))
    }
    assert used == set(range(8)) - (set() if few == "crops" else {2, 4})


# fmt: off
BAD = [  # options, what the message must say
    ({"few": "drop"}, r"few='drop'; want 'crops' or 'leave_out'"),
    ({"num_speakers": 9}, r"num_speakers=9 in each of 1 processes, but there are 8 speakers \(6 with num_utterances=3"),  # noqa: E501
    ({"world_size": 3}, r"num_speakers=3 in each of 3 processes, but there are 8"),  # noqa: E501
    ({"num_speakers": 7, "few": "leave_out"}, r"there are 6 speakers"),
    ({"sizes": (4,)}, r"there is 1 speaker \(1 with num_utterances=3 files"),
    ({"min_frames": 5, "max_frames": 4}, r"min_frames=5, max_frames=4; want 1"),
    ({"min_frames": 0}, r"min_frames=0, max_frames=180; want 1 or more"),
]
# fmt: on


@pytest.mark.parametrize("options, says", BAD)
def test_bad_arguments_are_refused(options, says):
    with pytest.raises(AttnError, match=says):
        sampler_of(**options)


# With the host's loader


@pytest.fixture
def crops(tmp_path):
    """Three speakers of four files; sample n of file r is r + n / 2048."""
    lines = ["ID,duration,wav,start,stop,spk_id\n"]
    for row in range(12):
        path = tmp_path / f"{row}.wav"
        samples = (row + np.arange(2000) / 2048) / 16
        soundfile.write(path, samples, 16000, subtype="FLOAT")
        lines.append(f"u{row},0.125,{path},0,2000,s{row // 4}\n")
    manifest = tmp_path / "train.csv"
    manifest.write_text("".join(lines))
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(["s0", "s1", "s2"])
    encoder.expect_len(3)
    return CropDataset(ManifestRows(manifest, tmp_path), encoder)


def loader_of(crops, epoch, num_workers=0):
    """The host's loader of 2 x 2 crops of 3 to 5 frames."""
    sampler = SpeakerBatchSampler(
        *crops.speakers_and_files(),
        num_speakers=2,
        num_utterances=2,
        min_frames=3,
        max_frames=5,
    )
    sampler.set_epoch(epoch)
    return make_dataloader(
        crops,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
    )


def test_a_crop_is_read_where_the_sampler_says(crops):
    item = crops[Crop(row=5, num_samples=480, position=0.5)]
    start = int(0.5 * (2000 - 480 + 1))
    expected = (5 + torch.arange(start, start + 480) / 2048) / 16
    torch.testing.assert_close(item["sig"], expected, atol=1e-4, rtol=0)
    assert (item["id"], item["spk_id_encoded"]) == ("u5", 1)
    assert len(crops) == 12


def test_batches_go_through_loader_and_loss(crops):
    loader = loader_of(crops, 1)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    for batch in batches:
        assert batch.sig.data.shape[1] in (480, 640, 800)
        assert torch.equal(batch.sig.lengths, torch.ones(4))
        targets = batch.spk_id_encoded.unsqueeze(1)
        assert GE2E()(batch.sig.data.unsqueeze(1), targets).isfinite()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_killed_run_goes_on_in_the_middle_of_an_epoch(
    crops, tmp_path, num_workers
):
    """With the same samples, though all random states are others."""
    folder = tmp_path / "save"
    loader = loader_of(crops, 3, num_workers)
    checkpointer = Checkpointer(folder, {"loader": loader})
    batches = []
    for number, batch in enumerate(loader):
        batches.append(batch)
        if number == 0:
            checkpointer.save_checkpoint(end_of_epoch=False)
    torch.manual_seed(99)
    resumed = loader_of(crops, 3, num_workers)
    Checkpointer(folder, {"loader": resumed}).recover_if_possible()
    rest = list(resumed)
    assert len(rest) == len(batches) - 1 == 2
    for one, other in zip(rest, batches[1:], strict=True):
        assert one.id == other.id
        assert torch.equal(one.sig.data, other.sig.data)
