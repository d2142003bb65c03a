"""Several processes of one program, as torchrun starts them."""

import atexit
import os
import sys

import torch


def end_process():
    """End this process with success, if it is one of several.

    To be called last, by all processes. Functions of ``atexit`` run, the
    finalisation of the interpreter does not: a thread of gloo's may be about to
    free the tensors of the last collective operation, which takes the
    interpreter's lock, and one that asks for this lock during finalisation
    aborts the process. torchrun would then call the whole run failed.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
