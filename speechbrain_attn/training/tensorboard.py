"""The log of each epoch for TensorBoard."""

from speechbrain.utils.distributed import if_main_process

from speechbrain_attn.errors import AttnError


def tensorboard_writer(folder):
    """Writer of the main process; None if ``folder`` is, or elsewhere.

    Raises
    ------
    AttnError
        TensorBoard is not installed.
    """
    if folder is None or not if_main_process():
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise AttnError(
            f"tensorboard_folder={folder}: TensorBoard is not installed; "
            "pip install tensorboard, or set --tensorboard_folder=null."
        ) from None
    return SummaryWriter(folder)


def write_scalars(writer, epoch, stages):
    """Hand the statistics of each stage, {stage: {name: value}}, over."""
    for stage, stats in stages.items():
        for name, value in stats.items():
            writer.add_scalar(f"{stage}/{name}", value, epoch)
    writer.flush()
