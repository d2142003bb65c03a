"""Crops: which samples, of which length, and the same again."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.crops import RandomCrops, fit_length, read_crop
from speechbrain_attn.errors import AudioError

SAMPLES = 1009


@pytest.fixture
def ramp_file(tmp_path):
    """A file whose sample n holds the value n / 2048."""
    path = tmp_path / "ramp.a.wav"
    soundfile.write(path, np.arange(SAMPLES) / 2048, 16000, subtype="FLOAT")
    return path


def first_sample(crop):
    return round(float(crop[0]) * 2048)


@pytest.mark.parametrize(
    "position, start", [(0.0, 0), (0.5, 455), (0.9999, SAMPLES - 100)]
)
def test_a_crop_is_a_stretch_of_the_file(ramp_file, position, start):
    crop = read_crop(ramp_file, 100, SAMPLES, position)
    assert torch.equal(crop, read_waveform(ramp_file)[start : start + 100])


def test_a_shorter_file_is_repeated(ramp_file):
    crop = read_crop(ramp_file, 2500, SAMPLES, 0.9)
    whole = read_waveform(ramp_file)
    assert torch.equal(crop, torch.cat([whole] * 3)[:2500])


def test_fit_length_works_on_batches():
    wavs = torch.arange(6).reshape(2, 3)
    assert fit_length(wavs, 5).tolist() == [[0, 1, 2, 0, 1], [3, 4, 5, 3, 4]]
    assert fit_length(wavs, 2).tolist() == [[0, 1], [3, 4]]


def test_a_file_shorter_than_its_header_says_still_fills_the_crop(ramp_file):
    assert read_crop(ramp_file, 100, 1100, 0.9999).shape == (100,)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AudioError, match=r"no\.wav: no such audio file"):
        read_crop(tmp_path / "no.wav", 100, 200, 0.0)


def starts(crops, path, epoch):
    crops.set_epoch(epoch)
    return [
        first_sample(crops.read(item, path, SAMPLES / 16000))
        for item in ("u1", "u2", "u3", "u4")
    ]


def test_crops_follow_from_seed_epoch_and_item(ramp_file):
    crops = RandomCrops(100, seed=1)
    first = starts(crops, ramp_file, 1)
    assert len(set(first)) > 1
    assert starts(crops, ramp_file, 2) != first
    # Whatever was drawn in between, and in another object.
    assert starts(crops, ramp_file, 1) == first
    assert starts(RandomCrops(100, seed=1), ramp_file, 1) == first
    assert starts(RandomCrops(100, seed=2), ramp_file, 1) != first


def test_persistent_workers_see_the_new_epoch(ramp_file):
    crops = RandomCrops(100, seed=1)

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, row):
            return crops.read(str(row), ramp_file, SAMPLES / 16000)[0]

    loader = torch.utils.data.DataLoader(
        Rows(), num_workers=1, persistent_workers=True
    )
    seen = []
    for epoch in (1, 2):
        crops.set_epoch(epoch)
        seen.append([round(float(value) * 2048) for value in loader])
    assert seen[0] != seen[1]
