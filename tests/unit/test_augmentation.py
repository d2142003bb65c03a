"""Augmentation: identity, levels, files left alone, shapes, bad folders."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_attn.errors import AttnError, AudioError
from speechbrain_attn.lobes.augmentation import SpecAugment, WaveformAugmenter

SAMPLES = 16000
LENGTHS = torch.ones(5)


@pytest.fixture
def wavs():
    return torch.randn(5, SAMPLES)


@pytest.fixture
def noise_folder(tmp_path):
    """Stereo, another rate, a dot in the name, nested, with a text file."""
    draw = np.random.default_rng(3)
    place = tmp_path / "musan" / "noise"
    place.mkdir(parents=True)
    stereo = draw.standard_normal((24000, 2)) * [0.3, 0.1]
    soundfile.write(place / "free.sound-0001.wav", stereo, 16000)
    soundfile.write(place / "short.flac", stereo[:3000, 0], 8000)
    (tmp_path / "musan" / "README").write_text("not audio")
    return tmp_path / "musan"


@pytest.fixture
def rir_folder(tmp_path):
    """One response: silence, the direct sound, one echo."""
    folder = tmp_path / "rirs"
    folder.mkdir()
    response = np.zeros(4000)
    response[1000], response[3000] = 0.5, 0.25
    soundfile.write(folder / "room.wav", response, 16000, subtype="FLOAT")
    return folder


def rms(wavs):
    return wavs.square().mean(-1).sqrt()


def test_nothing_switched_on_is_the_identity(wavs):
    augment = WaveformAugmenter(keep_original=True)
    out, lengths = augment(wavs, LENGTHS)
    assert torch.equal(out, wavs) and torch.equal(lengths, LENGTHS)
    labels = torch.arange(5)
    assert torch.equal(augment.replicate_labels(labels), labels)


def test_noise_has_the_wanted_level(wavs, noise_folder):
    augment = WaveformAugmenter(noise_folder, snr_low=6, snr_high=12)
    out, _ = augment(wavs, LENGTHS)
    snr = 20 * torch.log10(rms(wavs) / rms(out - wavs))
    assert ((snr > 6 - 1e-3) & (snr < 12 + 1e-3)).all()
    assert snr.unique().numel() == 5


def test_users_files_and_folders_are_left_alone(wavs, noise_folder, rir_folder):
    def state():
        return {
            path: (
                path.stat().st_mtime_ns,
                path.is_file() and path.read_bytes(),
            )
            for folder in (noise_folder, rir_folder)
            for path in sorted(folder.rglob("*"))
        }

    before = state()
    WaveformAugmenter(noise_folder, rir_folder)(wavs, LENGTHS)
    assert state() == before


def test_reverberation_keeps_place_and_level(rir_folder):
    wavs = torch.zeros(2, SAMPLES)
    wavs[:, 5000] = 1.0
    out, _ = WaveformAugmenter(rir_folder=rir_folder)(wavs, LENGTHS[:2])
    assert torch.allclose(rms(out), rms(wavs))
    assert out.abs().argmax(1).tolist() == [5000, 5000]
    # The echo 2000 samples later, at half the level; nothing else.
    assert torch.allclose(out[:, 7000], out[:, 5000] / 2)
    assert (out.abs() > 1e-4).sum() == 4


@pytest.mark.parametrize("speed, pitch", [(90, 0.9), (100, 1.0), (110, 1.1)])
def test_speed_changes_pitch_and_not_length(speed, pitch):
    time = torch.arange(SAMPLES) / SAMPLES
    wavs = torch.sin(2 * torch.pi * 400 * time).repeat(3, 1)
    out, _ = WaveformAugmenter(speeds=[speed])(wavs, LENGTHS[:3])
    assert out.shape == wavs.shape
    loudest = torch.fft.rfft(out[:, :8000]).abs().argmax(1)
    assert loudest.tolist() == [round(200 * pitch)] * 3


def test_each_crop_draws_its_own_speed(wavs):
    out, _ = WaveformAugmenter(speeds=[90, 100])(
        wavs.repeat(4, 1), torch.ones(20)
    )
    same = (out == wavs.repeat(4, 1)).all(dim=1)
    assert same.any() and not same.all()


def test_augment_prob_leaves_crops_alone(wavs):
    wavs = wavs.repeat(10, 1)
    augment = WaveformAugmenter(drop_chunk=True, augment_prob=0.5)
    out, _ = augment(wavs, torch.ones(50))
    changed = (out != wavs).any(dim=1).sum()
    assert 10 < changed < 40
    augment = WaveformAugmenter(drop_chunk=True, augment_prob=0.0)
    assert torch.equal(augment(wavs, torch.ones(50))[0], wavs)


def test_every_corruption_is_drawn(wavs, noise_folder, rir_folder):
    augment = WaveformAugmenter(
        noise_folder, rir_folder, drop_freq=True, drop_chunk=True
    )
    drawn = set()
    for index, corruption in enumerate(augment.corruptions):

        def spy(wavs, lengths, index=index, corruption=corruption):
            drawn.add(index)
            return corruption(wavs, lengths)

        augment.corruptions[index] = spy
    out, _ = augment(wavs.repeat(8, 1), torch.ones(40))
    assert drawn == {0, 1, 2, 3}
    assert out.shape == (40, SAMPLES) and torch.isfinite(out).all()


def test_keep_original_puts_it_first(wavs):
    augment = WaveformAugmenter(drop_freq=True, keep_original=True)
    out, lengths = augment(wavs, LENGTHS)
    assert torch.equal(out[:5], wavs) and not torch.equal(out[5:], wavs)
    assert lengths.shape == (10,)
    labels = torch.arange(5).unsqueeze(1)
    assert augment.replicate_labels(labels).flatten().tolist() == [
        *range(5),
        *range(5),
    ]


def test_the_same_seed_gives_the_same_batch(wavs, noise_folder, rir_folder):
    augment = WaveformAugmenter(
        noise_folder, rir_folder, speeds=[90, 100, 110], drop_chunk=True
    )
    first = torch.manual_seed(5) and augment(wavs, LENGTHS)[0]
    again = torch.manual_seed(5) and augment(wavs, LENGTHS)[0]
    assert torch.equal(first, again)


def test_autocast_does_not_touch_waveforms(wavs):
    augment = WaveformAugmenter(speeds=[90], drop_freq=True)
    plain = torch.manual_seed(5) and augment(wavs, LENGTHS)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = torch.manual_seed(5) and augment(wavs, LENGTHS)[0]
    assert mixed.dtype == torch.float32 and torch.equal(plain, mixed)


def test_silence_stays_finite(noise_folder, rir_folder):
    silence = torch.zeros(4, SAMPLES)
    augment = WaveformAugmenter(noise_folder, rir_folder)
    assert torch.equal(augment(silence, LENGTHS[:4])[0], silence)


# fmt: off
BAD = [  # options, what the message must say
    ({"augment_prob": 50}, r"augment_prob=50: want a number from 0 to 1"),
    ({"augment_prob": -1}, r"augment_prob=-1: want a number"),
    ({"augment_prob": True}, r"augment_prob=True: want a number"),
    ({"augment_prob": "half"}, r"augment_prob=half: want a number"),
    ({"augment_prob": float("nan")}, r"augment_prob=nan: want a number"),
    ({"snr_low": 9, "snr_high": 8}, r"snr_low=9, snr_high=8: want decibels"),
]
# fmt: on


@pytest.mark.parametrize("options, says", BAD)
def test_bad_options_are_refused(options, says):
    with pytest.raises(AttnError, match=says):
        WaveformAugmenter(**options)


@pytest.mark.parametrize("options", [{"augment_prob": 0}, {"snr_low": 15}])
def test_the_ends_of_ranges_are_accepted(options):
    augment = WaveformAugmenter(**options)
    assert {key: getattr(augment, key) for key in options} == options


@pytest.mark.parametrize("key", ["noise_folder", "rir_folder"])
def test_bad_folders_are_named_with_their_key(tmp_path, key):
    with pytest.raises(AttnError, match=rf"{key}: no such folder: .*gone"):
        WaveformAugmenter(**{key: str(tmp_path / "gone")})
    with pytest.raises(AttnError, match=rf"{key}: no audio files .* under"):
        WaveformAugmenter(**{key: str(tmp_path)})


@pytest.mark.parametrize("key", ["noise_folder", "rir_folder"])
def test_a_broken_file_is_named_before_it_is_drawn(tmp_path, key):
    soundfile.write(tmp_path / "good.wav", np.ones(160) / 2, 16000)
    (tmp_path / "._good.wav").write_bytes(b"of the Finder")
    WaveformAugmenter(**{key: str(tmp_path)})
    soundfile.write(tmp_path / "none.wav", np.ones(0), 16000)
    says = rf"{key}: .*none\.wav: the file holds no samples\. Mend the file"
    with pytest.raises(AudioError, match=says):
        WaveformAugmenter(**{key: str(tmp_path)})


@pytest.mark.parametrize("speeds", [[0.9], [0], [90, 90], "90"])
def test_speeds_that_are_none_are_refused(speeds):
    with pytest.raises(AttnError, match="^speeds=.*want whole numbers of perc"):
        WaveformAugmenter(speeds=speeds)


def test_one_speed_may_stand_alone(wavs):
    out, _ = WaveformAugmenter(speeds=90)(wavs, LENGTHS)
    assert out.shape == wavs.shape and not torch.equal(out, wavs)


def test_spec_augment_masks_bands_within_its_widths():
    feats = torch.ones(7, 211, 83)
    out = SpecAugment(1, 1, time_width=10, mel_width=8)(feats, torch.ones(7))
    assert (feats == 1).all()
    masked = out == 0
    frames = masked.all(dim=2).sum(dim=1)
    mels = masked.all(dim=1).sum(dim=1)
    assert (frames <= 10).all() and (mels <= 8).all()
    assert frames.max() > 0 and mels.max() > 0
    whole_bands = masked.all(dim=2)[:, :, None] | masked.all(dim=1)[:, None]
    assert torch.equal(masked, whole_bands)


@pytest.mark.parametrize("count", [-1, 2.5, "two"])
@pytest.mark.parametrize("key", ["num_time_masks", "num_mel_masks"])
def test_a_number_of_masks_that_is_none_is_refused(key, count):
    says = rf"{key}={count}: want a whole number.*call it spec_masks"
    with pytest.raises(AttnError, match=says):
        SpecAugment(**{key: count})
