"""Batch norm's running statistics over several processes."""

import torch


@torch.no_grad()
def share_running_statistics(modules):
    """Give all processes the mean of their running means and variances.

    Each process normalises by its own crops, and its statistics follow them.
    The mean over processes follows the crops of all; called after every
    batch, it leaves all processes with the same state, whichever saves it.

    Arguments
    ---------
    modules : iterable of torch.nn.Module
    """
    buffers = [
        part._buffers[name]
        for module in modules
        for part in module.modules()
        for name in ("running_mean", "running_var")
        if part._buffers.get(name) is not None
    ]
    if not buffers:
        return
    # One message for all of them.
    joined = torch.cat([buffer.flatten() for buffer in buffers])
    torch.distributed.all_reduce(joined)
    joined /= torch.distributed.get_world_size()
    sizes = [buffer.numel() for buffer in buffers]
    for buffer, part in zip(buffers, joined.split(sizes), strict=True):
        buffer.copy_(part.view_as(buffer))
