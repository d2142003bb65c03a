"""Waveforms of several lengths as one zero-padded batch of whole hops.

Features make one frame a hop (``lobes.features.Fbank``), so an utterance that
fills whole hops has the same frames alone and in every batch, and its relative
length gives their number exactly.
"""

import torch

HOP_SAMPLES = 160  # 10 ms at 16 kHz, the hop of the features


def pad_waveforms(waveforms, hop_samples=HOP_SAMPLES):
    """Pad waveforms with zeros to whole hops and to one length.

    Arguments
    ---------
    waveforms : list of torch.Tensor
        Each [samples].
    hop_samples : int
        Samples from one frame to the next.

    Returns
    -------
    wavs : torch.Tensor
        [batch, samples], samples a multiple of ``hop_samples``.
    lengths : torch.Tensor
        [batch] float32 in (0, 1]: the part of ``samples`` that each
        utterance fills, its last hop counted whole.

    Example
    -------
    >>> wavs, lengths = pad_waveforms([torch.ones(161), torch.ones(640)])
    >>> wavs.shape, lengths
    (torch.Size([2, 640]), tensor([0.5000, 1.0000]))
    """
    hops = [-(-len(wav) // hop_samples) for wav in waveforms]
    wavs = torch.zeros(len(waveforms), max(hops) * hop_samples)
    for row, wav in zip(wavs, waveforms, strict=True):
        row[: len(wav)] = wav
    return wavs, torch.tensor(hops, dtype=torch.float32) / max(hops)


def padded_features(compute_features, waveforms, device="cpu"):
    """Features of waveforms, each as it has them alone, as one batch.

    Arguments
    ---------
    compute_features : torch.nn.Module
        Of ``lobes.features``. A waveform is padded to whole hops, unless they
        want to know where it ends: then to one hop, if it is shorter.
    waveforms : list of torch.Tensor
        Each [samples].
    device : str or torch.device
        Where ``compute_features`` is.

    Returns
    -------
    feats : torch.Tensor
        [batch, frames, features]
    lengths : torch.Tensor
        [batch] float32 in (0, 1]: the part of ``frames`` that each fills.
    """
    hop = getattr(compute_features, "hop_samples", HOP_SAMPLES)
    if not getattr(compute_features, "takes_lengths", False):
        wavs, lengths = pad_waveforms(waveforms, hop)
        return compute_features(wavs.to(device)), lengths.to(device)
    samples = torch.tensor([max(len(wav), hop) for wav in waveforms])
    wavs = torch.zeros(len(waveforms), int(samples.max()))
    for row, wav in zip(wavs, waveforms, strict=True):
        row[: len(wav)] = wav
    samples = samples.to(device)
    feats = compute_features(wavs.to(device), samples / wavs.shape[1])
    return feats, compute_features.num_frames(samples) / feats.shape[1]


def zero_padding(wavs, lengths, hop_samples=HOP_SAMPLES):
    """Batch with everything beyond each utterance's whole hops set to zero.

    ``wavs`` [batch, samples] and ``lengths`` [batch] as ``pad_waveforms``
    returns them; what lies in the padding may be anything, NaN too.
    """
    hops = torch.round(lengths * (wavs.shape[1] / hop_samples))
    index = torch.arange(wavs.shape[1], device=wavs.device)
    padding = index >= (hops * hop_samples).unsqueeze(1)
    return wavs.masked_fill(padding, 0.0)
