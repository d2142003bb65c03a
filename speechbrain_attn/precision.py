"""Number formats of a network's products, and where each is fast."""

import functools
import logging

import torch

logger = logging.getLogger(__name__)

PRECISIONS = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
# In the words of torch.cpu.get_capabilities, for x86 and for ARM. A processor
# without these converts each number; with AVX2 alone, a training step of
# hparams/demo/serialized_mha.yaml takes 20 times as long as in fp32.
_INSTRUCTIONS = {
    "bf16": ("amx_bf16", "avx512_bf16", "bf16"),
    "fp16": ("amx_fp16", "avx512_fp16", "fp16_arith"),
}


def fast_precision():
    """The precision to train in, for a YAML: "bf16" where it pays.

    That is where the accelerator, or without one the processor, multiplies in
    bfloat16; elsewhere "fp32".
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "bf16" if is_fast("bf16", accelerator or "cpu") else "fp32"


def is_fast(precision, device):
    """Whether a device multiplies in a precision of ``PRECISIONS`` itself."""
    kind = torch.device(device).type
    if kind == "cpu" and precision in _INSTRUCTIONS:
        found = torch.cpu.get_capabilities()
        return any(found.get(name) for name in _INSTRUCTIONS[precision])
    if kind == "cuda" and precision == "bf16":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return True


@functools.cache  # once, not after every epoch of a training run
def warn_if_slow(precision, device):
    """Log a warning where a precision costs time instead of saving it."""
    if not is_fast(precision, device):
        logger.warning(
            "precision %s: this %s does not multiply in it, and may take many "
            "times as long as in fp32. Take fp32.",
            precision,
            "processor" if torch.device(device).type == "cpu" else "device",
        )
