"""Which device to compute on, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from patchscout.checks import InputValueError

KINDS = ("cpu", "cuda", "mps")
"""What can be computed on; a number may follow, as in `cuda:1`."""


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        InputValueError: If there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type in KINDS:
            torch.zeros(1, device=device)
            return device
    except (RuntimeError, AssertionError, NotImplementedError):
        pass
    raise InputValueError(
        f"`device` must be `auto` or one of {', '.join(KINDS)} that this machine has; got '{name}'."
        " Use `auto` or `cpu`."
    )


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    is_supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and is_supported is not None and is_supported()


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which convolutions run in bfloat16 where the hardware is faster at it."""
    if has_fast_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def full_precision() -> AbstractContextManager[object]:
    """Return a context in which a GPU convolves float32 in float32, not in the shorter TF32.

    So that a model finds the same on every device, to rounding.
    """
    cudnn = torch.backends.cudnn
    return cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )
