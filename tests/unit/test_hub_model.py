"""A loaded model: what it is given is checked, what it gives is exact."""

import numpy as np
import pytest
import torch
from hub_folders import with_text, write_run
from speechbrain.inference.speaker import EncoderClassifier

from speechbrain_attn import hub
from speechbrain_attn.errors import AttnError, TooShortError
from speechbrain_attn.hub.safe import load_safe_hparams
from speechbrain_attn.scoring.calibration import Calibration

RATE = 16000
HOST_FBANK = "speechbrain.lobes.features.Fbank"
OUR_FBANK = "speechbrain_attn.lobes.features.Fbank"
ECAPA = """!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
  input_size: 13
  channels: [8, 8, 8, 8, 24]
  attention_channels: 4
  se_channels: 4
  lin_neurons: 6
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("hub") / "run") / "model"


@pytest.fixture
def model(folder):
    return hub.load(folder)


@pytest.fixture
def host_ecapa(tmp_path):
    """The host's own network, on which padding has an influence."""
    folder = write_run(tmp_path / "run") / "model"
    text = (folder / "hyperparams.yaml").read_text()
    start = text.index("embedding_model:")
    end = text.index("classifier:")
    text = text[:start] + "embedding_model: " + ECAPA + text[end:]
    text = text.replace(OUR_FBANK, HOST_FBANK)
    (folder / "hyperparams.yaml").write_text(text)
    network = load_safe_hparams(folder / "hyperparams.yaml")["embedding_model"]
    torch.save(network.state_dict(), folder / "embedding_model.ckpt")
    return hub.load(folder)


def test_an_utterance_in_a_batch_is_the_same_as_alone(model):
    wavs = torch.randn(3, 8000)
    lengths = torch.tensor([1.0, 4001 / 8000, 777 / 8000])
    expected = torch.cat(
        [
            model.encode_batch(wav[: round(8000 * part.item())])
            for wav, part in zip(wavs, lengths, strict=True)
        ]
    )
    wavs[1, 4001:] = float("nan")
    torch.testing.assert_close(model.encode_batch(wavs, lengths), expected)


def test_so_it_is_where_padding_has_an_influence(host_ecapa):
    wavs = torch.randn(2, 8000)
    alone = host_ecapa.encode_batch(wavs[1, :4000])
    both = host_ecapa.encode_batch(wavs, [1.0, 0.5])
    torch.testing.assert_close(both[1:], alone)
    # Control: as one padded batch it would not be.
    padded = EncoderClassifier.encode_batch(
        host_ecapa, wavs, torch.tensor([1.0, 0.5])
    )
    assert (padded[1] - alone[0]).abs().max() > 1e-4


def test_arrays_lists_and_single_waveforms_will_do(model):
    wav = torch.randn(8000)
    expected = model.encode_batch(wav)
    assert expected.shape == (1, 1, 6)
    assert torch.equal(model.encode_batch(wav.numpy()), expected)
    assert torch.equal(model.encode_batch([wav.tolist()]), expected)


@pytest.mark.parametrize(
    "wavs, lengths, says",
    [
        (np.zeros((1, 800), dtype=np.int16), None, "divide 16-bit.*32768"),
        (torch.zeros(1, 800, 2), None, r"got \(1, 800, 2\). Average channels"),
        (torch.zeros(0, 800), None, r"got \(0, 800\)"),
        (torch.zeros(2, 800), [1.0], r"got \[1.0\] for a batch of 2"),
        (torch.zeros(2, 800), [800, 400], r"got \[800.0, 400.0\].*\(0, 1\]"),
        (torch.zeros(2, 800), [1.0, 0.0], r"want the part.*\(0, 1\]"),
        (torch.full((2, 800), float("nan")), None, "utterance 0 holds NaN"),
    ],
)
def test_what_does_not_fit_is_refused(model, wavs, lengths, says):
    with pytest.raises(AttnError, match=f"(?i){says}"):
        model.encode_batch(wavs, lengths)


@pytest.mark.parametrize("samples", [0, 3, 400])
def test_too_short_names_the_shortest(host_ecapa, samples):
    """Five frames, as the host pads by mirroring."""
    says = "no samples" if samples == 0 else "needs 640 samples at 16,000 Hz"
    with pytest.raises(TooShortError, match=says):
        host_ecapa.encode_batch(torch.zeros(1, samples))
    assert host_ecapa.encode_batch(torch.zeros(1, 640)).shape[2] == 6


def test_errors_that_are_not_of_length_stay(model, monkeypatch):
    def fail(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.mods.embedding_model, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        model.encode_batch(torch.zeros(1, RATE))


def embeddings_for_diarisation(classifier, waveforms, masks, shortest):
    """What pyannote.audio and diart do with a host's EncoderClassifier.

    Masked stretches are cut out, the rest is padded, rows too short for the
    network come out as NaN.
    """
    signals = [wave[mask] for wave, mask in zip(waveforms, masks, strict=True)]
    counts = torch.tensor([len(signal) for signal in signals])
    padded = torch.nn.utils.rnn.pad_sequence(signals, batch_first=True)
    lengths = counts / counts.max()
    lengths[counts < shortest] = 1.0
    found = classifier.encode_batch(padded, wav_lens=lengths).squeeze(1)
    found[counts < shortest] = float("nan")
    return found


def test_the_way_of_pyannote_and_diart(folder):
    """With the host's class, whose shortest length they search themselves."""
    classifier = EncoderClassifier.from_hparams(str(folder))
    with pytest.raises(RuntimeError, match="want 1 or more"):
        classifier.encode_batch(torch.randn(1, 0))
    lower, upper = 0, RATE // 2
    while upper - lower > 1:
        middle = (lower + upper) // 2
        try:
            classifier.encode_batch(torch.randn(1, middle))
            upper = middle
        except RuntimeError:
            lower = middle
    assert upper == 1  # what the message says
    waveforms = torch.randn(3, RATE)
    masks = torch.ones(3, RATE, dtype=torch.bool)
    masks[1, 8000:] = False
    masks[2] = False
    found = embeddings_for_diarisation(classifier, waveforms, masks, upper)
    assert torch.isfinite(found[:2]).all() and torch.isnan(found[2]).all()
    alone = classifier.encode_batch(waveforms[1:2, :8000])[:, 0]
    torch.testing.assert_close(found[1:2], alone)


def test_a_decision_needs_a_threshold(model):
    wavs = torch.randn(1, RATE)
    with pytest.raises(AttnError, match="no calibration.json"):
        model.verify_batch(wavs, wavs)
    _, decision = model.verify_batch(wavs, wavs, threshold=1.1)
    assert not decision


def test_the_threshold_of_the_calibration_is_used(tmp_path):
    folder = write_run(tmp_path / "run") / "model"
    draw = np.random.default_rng(0)
    scores = np.r_[draw.normal(2, 1, 500), draw.normal(-2, 1, 500)]
    labels = np.arange(1000) < 500
    Calibration.fit(scores, labels).save(folder / "calibration.json")
    model = hub.load(folder)
    threshold = model.calibration.thresholds["eer"].score
    one, other = torch.randn(2, 1, RATE)
    score, decision = model.verify_batch(one, other)
    assert decision == (score > threshold)
    Calibration.fit(scores, labels, model_sha256="c4" * 32).save(
        folder / "calibration.json"
    )
    with pytest.raises(AttnError, match="was fitted on another model's"):
        hub.load(folder).verify_batch(one, other)
    other = Calibration.fit(scores, labels, scoring="s-norm")
    other.save(folder / "calibration.json")
    says = "calibration.json: was fitted on s-norm scores, and these are cosine"
    with pytest.raises(AttnError, match=says):
        hub.load(folder)
    (folder / "calibration.json").write_text("{}")
    with pytest.raises(AttnError, match="calibration.json: field"):
        hub.load(folder)


def test_a_model_of_another_rate_reads_files_at_its_own(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    folder = write_run(tmp_path / "run") / "model"
    with_text("sample_rate: 16000", "sample_rate: 8000")(folder, None)
    assert hub.load(folder).load_audio(tmp_path / "a.wav").shape == (8000,)
