"""Several processes of one program, as torchrun starts them."""

import torch


def leave_process_group():
    """End the group that the host's ``ddp_init_group`` began, if it did.

    Left to the end of the interpreter, a thread of gloo's that is still at
    work then aborts a process whose work is done, and torchrun calls the
    whole run failed. To be called by all processes, at their end.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
