"""From waveform to embedding: the same alone, in any batch, on any padding."""

import pytest
import torch
from subjects import (
    FEATURES,
    LOBE_SUBJECTS,
    POOLED_SUBJECTS,
    assert_near,
    ids,
)

from speechbrain_attn.dataio.batching import (
    HOP_SAMPLES,
    pad_waveforms,
    zero_padding,
)
from speechbrain_attn.lobes.features import (
    Fbank,
    KaldiFbank,
    SentenceNormalization,
    batch_features,
)

# Not whole hops, more and less than a window, and less than a hop.
SAMPLES = (3701, 1999, 401, 399, 163, 160, 97, 1)
FEATURE_ROWS = {
    "fbank": lambda: Fbank(n_mels=FEATURES),
    "kaldi_fbank": lambda: KaldiFbank(n_mels=FEATURES),
}
LOBES = LOBE_SUBJECTS + POOLED_SUBJECTS

every_lobe = pytest.mark.parametrize("subject", LOBES, ids=ids(LOBES))
every_feature = pytest.mark.parametrize("features", FEATURE_ROWS)


def embed(network, features, wavs, lengths):
    """What training and inference do with a padded batch of waveforms."""
    wavs = zero_padding(wavs, lengths)
    feats = batch_features(features, wavs, lengths)
    return network(SentenceNormalization()(feats, lengths), lengths)


def fill_padding(wavs, lengths, extra_hops, filling):
    """The batch with more padding, all of it (not the last hops) filled."""
    batch, samples = wavs.shape
    longer = torch.full((batch, samples + extra_hops * HOP_SAMPLES), filling)
    own = (lengths * samples).round().int().tolist()
    for row, wav, count in zip(longer, wavs, own, strict=True):
        row[:count] = wav[:count]
    return longer, lengths * samples / longer.shape[1]


def speechlike():
    """Waveforms of several lengths and levels."""
    return [
        torch.randn(samples) * 10.0**-power
        for power, samples in enumerate(SAMPLES[:4])
    ] + [torch.randn(samples) for samples in SAMPLES[4:]]


@every_feature
@every_lobe
@torch.no_grad()
def test_batch_equals_single_under_any_padding(subject, features):
    network, features = subject.make(), FEATURE_ROWS[features]()
    wavs = speechlike()
    expected = [
        embed(network, features, *pad_waveforms([wav]))[0] for wav in wavs
    ]
    batch, lengths = pad_waveforms(wavs)
    assert_near(embed(network, features, batch, lengths), expected)
    for extra_hops, filling in ((0, float("nan")), (1, 1e3), (31, 0.0)):
        inputs = fill_padding(batch, lengths, extra_hops, filling)
        assert_near(embed(network, features, *inputs), expected)


@torch.no_grad()
def test_padding_that_is_not_zeroed_would_be_noticed():
    """Control: the windows at the end look into the padding."""
    network, features = LOBE_SUBJECTS[0].make(), FEATURE_ROWS["fbank"]()
    batch, lengths = pad_waveforms(speechlike())
    filled, longer = fill_padding(batch, lengths, 0, 1e3)
    feats = SentenceNormalization()(features(filled), longer)
    expected = embed(network, features, batch, lengths)
    assert (network(feats, longer)[1:] - expected[1:]).abs().max() > 1e-2


@every_feature
@every_lobe
@torch.no_grad()
def test_digital_silence_is_finite(subject, features):
    """Alone, beside speech, and as the middle of an utterance."""
    network, features = subject.make(), FEATURE_ROWS[features]()
    gap = torch.randn(3701)
    gap[500:3000] = 0.0
    wavs = [torch.zeros(1999), torch.randn(1999), gap, torch.zeros(160)]
    expected = [
        embed(network, features, *pad_waveforms([wav]))[0] for wav in wavs
    ]
    batch, lengths = pad_waveforms(wavs)
    assert_near(embed(network, features, batch, lengths), expected)


@every_feature
@torch.no_grad()
def test_features_alone_equal_those_in_a_batch(features):
    features = FEATURE_ROWS[features]()
    wavs = speechlike()
    batch, lengths = pad_waveforms(wavs)
    longer = fill_padding(batch, lengths, 7, 0.0)
    found = batch_features(features, *longer)
    for row, wav in zip(found, wavs, strict=True):
        alone = features(pad_waveforms([wav])[0])[0]
        assert len(alone) == -(-len(wav) // HOP_SAMPLES)
        assert_near(row[: len(alone)], alone)


def test_what_extraction_may_pad_says_so():
    for build in FEATURE_ROWS.values():
        assert build().exact_padding is True
    assert SentenceNormalization().exact_padding is True
