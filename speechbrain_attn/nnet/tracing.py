"""Whether a graph is being made of what runs."""

import torch


def is_traced():
    """True in an export and under ``torch.compile``.

    A graph may run elsewhere than where it is made, on other batches, and
    reading a value or writing in place does not go into it.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
