"""The page of training options, and options that need no training."""

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from speechbrain_attn.dataio.crops import RandomCrops, read_crop
from speechbrain_attn.dataio.datasets import TrainingExamples, speaker_encoder
from speechbrain_attn.dataio.rows import ManifestRows
from speechbrain_attn.dataio.sampling import Crop, CropDataset
from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.lobes.models.serialized_mha import SerializedMHA
from speechbrain_attn.nnet.losses import GE2E
from speechbrain_attn.nnet.schedules import (
    regroup,
    scale_queries,
    spare_from_decay,
)
from speechbrain_attn.training.options import OPTIONS, options_page
from speechbrain_attn.training.speeds import all_speeds, num_classes


@pytest.fixture
def hparams(tmp_path):
    """A repository with two YAML files that have every option."""
    folder = tmp_path / "hparams"
    folder.mkdir()
    lines = [f"{option.key}: 0 # a comment\n" for option in OPTIONS]
    text = "# A system\n" + "".join(lines) + "opt_class: x\n"
    (folder / "a.yaml").write_text(text)
    text = text.replace("margin: 0 ", "margin: 0.5 ")
    text = text.replace("top_k: 0 ", "#")
    text = text.replace("speeds: 0", "speeds: !ref <seed>")
    (folder / "b.yaml").write_text(text)
    (folder / "verification.yaml").write_text("margin: 0.987\n")
    return tmp_path


def row(page, key):
    (line,) = [x for x in page.splitlines() if x.startswith(f"| `{key}` |")]
    return line


def test_the_page_has_defaults_files_and_what_was_measured(hparams):
    record = {
        "key": "top_k",
        "value": 5,
        "system": "serialized_mha",
        "list": "veri_test",
        "eer_without": 0.125,
        "deviation": 0.004,
        "eer_with": 0.1,
        "ratio_interval": [0.7, 0.95],
    }
    page = options_page(hparams, [record])
    assert "| `0`, `0.5` |" in row(page, "margin") and "0.987" not in page
    assert "| `0`, from `seed` |" in row(page, "speeds")
    assert row(page, "margin").endswith("| not measured |")
    assert row(page, "top_k_margin").endswith("| in `top_k` |")
    assert row(page, "top_k").endswith(
        "| 5: EER 12.5 ± 0.4 to 10.0 %, ratio 0.80 (0.70 to 0.95), "
        "serialized_mha on veri_test |"
    )
    assert "- `top_k`: a\n" in page and "- `margin`: all\n" in page


def test_an_option_that_is_nowhere_is_refused(hparams):
    with pytest.raises(AttnError, match="'sped' is not among the options"):
        options_page(hparams, [{"key": "sped"}])
    for path in (hparams / "hparams").glob("*.yaml"):
        path.write_text(path.read_text().replace("\nema_decay", "\nema"))
    with pytest.raises(AttnError, match="ema_decay: no training YAML"):
        options_page(hparams, [])


def test_speeds_multiply_the_classes():
    assert all_speeds([]) == [100] and num_classes(7, []) == 7
    assert all_speeds([90, 110]) == [100, 90, 110]
    assert num_classes(7, [90, 110]) == 21


@pytest.mark.parametrize("speeds", [[100], [90, 90], [0.9], [49], [201], ["9"]])
def test_speeds_that_are_none_are_refused(speeds):
    with pytest.raises(AttnError, match="speaker_speeds=.*want whole numbers"):
        all_speeds(speeds)


@pytest.fixture
def tone(tmp_path):
    """Two seconds of 400 Hz, and then as much of silence."""
    path = tmp_path / "tone.wav"
    wave = np.sin(2 * np.pi * 400 * np.arange(32000) / 16000)
    soundfile.write(path, np.concatenate([wave, 0 * wave]), 16000)
    return path


@pytest.mark.parametrize("speed", [90, 110])
def test_a_crop_at_another_speed_is_whole(tone, speed):
    """Of the file so much more is read: there is no seam within the crop."""
    crop = read_crop(tone, 16000, 64000, 0.0, speed)
    assert crop.shape == (16000,)
    spectrum = torch.fft.rfft(crop).abs()
    assert spectrum.argmax() == round(400 * speed / 100)
    assert spectrum.max() > 0.98 * 8000  # a single line: one tone throughout
    # The last crop ends with the file.
    assert read_crop(tone, 16000, 64000, 0.9999, speed).abs().max() < 1e-3


def test_an_item_has_another_speed_in_another_epoch():
    crops = RandomCrops(100, seed=1, speeds=[100, 90, 110])
    items = [f"u{number}" for number in range(300)]
    drawn = {}
    for epoch in (1, 2):
        crops.set_epoch(epoch)
        drawn[epoch] = [crops.speed_index(item) for item in items]
        counts = np.bincount(drawn[epoch], minlength=3)
        assert counts.sum() == 300 and counts.min() > 70
    assert drawn[1] != drawn[2]
    crops.set_epoch(1)
    assert [crops.speed_index(item) for item in items] == drawn[1]


def test_a_speaker_at_another_speed_has_another_class(tone, tmp_path):
    """The speed that is heard is the one that the class number tells."""
    manifest = tmp_path / "train.csv"
    lines = [f"u{n},4.0,{tone},0,16000,{'ab'[n % 2]}" for n in range(20)]
    heading = "ID,duration,wav,start,stop,spk_id"
    manifest.write_text("\n".join([heading, *lines]) + "\n")
    rows = ManifestRows(manifest, tmp_path)
    encoder = speaker_encoder(rows, tmp_path / "labels.txt", 7)
    crops = RandomCrops(16000, seed=1, speeds=[100, 90, 110])
    chunks = TrainingExamples(rows, encoder, crops, False, num_speakers=7)
    seen = set()
    for number in range(20):
        example = chunks[number]
        speed, speaker = divmod(example["spk_id_encoded"], 7)
        pitch = torch.fft.rfft(example["sig"]).abs().argmax()
        assert speaker == number % 2
        assert pitch == pytest.approx([400, 360, 440][speed], abs=1)
        seen.add(speed)
    assert seen == {0, 1, 2}
    ge2e = CropDataset(rows, encoder, crops.speeds, num_speakers=7)
    numbers, files = ge2e.speakers_and_files()
    assert len(ge2e) == len(files) == 60
    for row, speed, speaker in ((0, 0, 0), (21, 1, 1), (59, 2, 1)):
        example = ge2e[Crop(row, 16000, 0.0)]
        assert example["spk_id_encoded"] == numbers[row] == 7 * speed + speaker
        pitch = torch.fft.rfft(example["sig"]).abs().argmax()
        assert pitch == [400, 360, 440][speed]


def test_one_speaker_alone_is_refused(tone, tmp_path):
    """There is nobody to tell it apart from."""
    manifest = tmp_path / "train.csv"
    heading = "ID,duration,wav,start,stop,spk_id"
    manifest.write_text(f"{heading}\nu1,4.0,{tone},0,16000,anna\n")
    rows = ManifestRows(manifest, tmp_path)
    with pytest.raises(AttnError, match="holds one speaker, 'anna'; want two"):
        speaker_encoder(rows, tmp_path / "labels.txt", 7)
    assert not (tmp_path / "labels.txt").exists()


def test_queries_of_hops_are_spared_from_decay():
    network = SelfAttentiveTDNN(16, channels=(8, 8, 8, 8), num_hops=3)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.3)
    spare_from_decay(optimizer, [network])
    spared = optimizer.param_groups[1]["params"]
    queries = [one for one in spared if one.dim() > 1]
    assert [one.shape for one in queries] == [(3, 128)]


def test_decay_is_taken_off_vectors_and_queries_only():
    """Also in groups with a learning rate of their own, which they keep."""
    network = DoubleMHA(16, channels=[2, 4], embedding_size=8, num_heads=2)
    loss = GE2E()
    modules = [network, loss]
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.5, weight_decay=0.3)
    regroup(optimizer, loss.parameter_groups())
    slow = list(network.pooling.parameters())
    regroup(optimizer, [{"params": slow, "lr_factor": 0.1}])
    spare_from_decay(optimizer, modules)
    found = {
        id(p): (group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert len(found) == len(parameters)
    for name, parameter in network.named_parameters():
        spared = parameter.dim() == 1 or name.endswith("query")
        rate = 0.05 if name.startswith("pooling.") else 0.5
        assert found[id(parameter)] == (
            0.0 if spared else 0.3,
            pytest.approx(rate),
        )
    assert found[id(loss.b)] == (0.0, pytest.approx(5.0))
    assert any(name.endswith("query") for name, _ in network.named_parameters())


def test_a_network_without_vectors_keeps_its_one_group():
    layer = nn.Linear(2, 3, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, weight_decay=0.5)
    spare_from_decay(optimizer, [layer])
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    "lobe, options",
    [
        (SelfAttentiveTDNN, {"channels": (8, 8, 8, 8), "num_hops": 3}),
        (DoubleMHA, {"channels": [4, 8], "num_heads": 2}),
        (SerializedMHA, {"channels": (8, 8, 8), "num_layers": 2}),
    ],
)
def test_attention_begins_as_plain_averaging_and_learns(lobe, options):
    torch.manual_seed(8)
    network = lobe(16, embedding_size=8, **options).eval()
    x = torch.randn(2, 24, 16)
    before = network.attention(x)
    scale_queries([network], 0.0)
    uniform = network.attention(x)
    expected = torch.full_like(uniform, 1 / uniform.shape[2])
    torch.testing.assert_close(uniform, expected)
    assert not torch.allclose(before, expected, atol=1e-4)
    optimizer = torch.optim.AdamW(network.parameters(), 0.1)
    network(x)[:, :, 0].sum().backward()
    optimizer.step()
    assert not torch.allclose(network.attention(x), expected, atol=1e-4)


def test_a_network_without_queries_is_refused():
    with pytest.raises(AttnError, match="query_scale=0: the network has no"):
        scale_queries([nn.Linear(2, 3)], 0)
