"""Which device to compute on."""

from __future__ import annotations

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
