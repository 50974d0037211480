"""Which device to compute on."""

from __future__ import annotations

import torch

from patchscout.checks import InputValueError


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
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputValueError(
            f"`device` '{name}' is not to be had here. Use `auto` or `cpu`."
        ) from None
    return device
