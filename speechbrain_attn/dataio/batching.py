"""Waveforms of several lengths as one zero-padded batch of whole hops.

Features make one frame a hop (``lobes.features.Fbank``), so an utterance that
fills whole hops has the same frames alone and in every batch, and its relative
length gives their number exactly.
"""

import torch

HOP_SAMPLES = 160  # 10 ms at 16 kHz, the hop of the features


def roomy(hops):
    """So many hops, or up to an eighth more, of eight sizes an octave.

    Batches padded to these share few sizes. For each new one a CPU's library
    of kernels makes itself ready, which in bf16 takes a tenth of a batch's
    time, and more than the padding.

    Example
    -------
    >>> [roomy(hops) for hops in (7, 100, 257, 300)]
    [7, 104, 288, 320]
    """
    step = 1 << max(hops.bit_length() - 4, 0)
    return -(-hops // step) * step


def pad_waveforms(waveforms, hop_samples=HOP_SAMPLES, min_hops=0):
    """Pad waveforms with zeros to whole hops and to one length.

    Arguments
    ---------
    waveforms : list of torch.Tensor
        Each [samples].
    hop_samples : int
        Samples from one frame to the next.
    min_hops : int
        The batch has at least so many.

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
    num_hops = max(min_hops, *hops)
    wavs = _zero_padded(waveforms, num_hops * hop_samples)
    return wavs, torch.tensor(hops, dtype=torch.float32) / num_hops


def padded_features(compute_features, waveforms, device="cpu", few_sizes=False):
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
    few_sizes : bool
        True pads to a ``roomy`` size.

    Returns
    -------
    feats : torch.Tensor
        [batch, frames, features]
    lengths : torch.Tensor
        [batch] float32 in (0, 1]: the part of ``frames`` that each fills.
    """
    hop = getattr(compute_features, "hop_samples", HOP_SAMPLES)
    min_hops = 0
    if few_sizes:
        min_hops = roomy(-(-max(map(len, waveforms)) // hop))
    if not getattr(compute_features, "takes_lengths", False):
        wavs, lengths = pad_waveforms(waveforms, hop, min_hops)
        return compute_features(wavs.to(device)), lengths.to(device)
    samples = torch.tensor([max(len(wav), hop) for wav in waveforms])
    wavs = _zero_padded(waveforms, max(min_hops * hop, int(samples.max())))
    samples = samples.to(device)
    feats = compute_features(wavs.to(device), samples / wavs.shape[1])
    return feats, compute_features.num_frames(samples) / feats.shape[1]


def _zero_padded(waveforms, num_samples):
    """Waveforms [batch, samples], zeros behind each."""
    wavs = torch.zeros(len(waveforms), num_samples)
    for row, wav in zip(wavs, waveforms, strict=True):
        row[: len(wav)] = wav
    return wavs


def zero_padding(wavs, lengths, hop_samples=HOP_SAMPLES):
    """Batch with everything beyond each utterance's whole hops set to zero.

    ``wavs`` [batch, samples] and ``lengths`` [batch] as ``pad_waveforms``
    returns them; what lies in the padding may be anything, NaN too.
    """
    hops = torch.round(lengths * (wavs.shape[1] / hop_samples))
    index = torch.arange(wavs.shape[1], device=wavs.device)
    padding = index >= (hops * hop_samples).unsqueeze(1)
    return wavs.masked_fill(padding, 0.0)
