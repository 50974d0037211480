"""What a figure was measured on and with: machine, commit, date."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from patchscout.waiting import num_cores


def machine_line(device: torch.device) -> str:
    """Return processor, cores and, if it is used, the GPU in one line."""
    line = f"{_processor()}, {num_cores()} cores, {platform.system()}"
    if device.type == "cuda":
        line += f", {torch.cuda.get_device_name(device)}"
    return line


def _processor() -> str:
    """Return the model of the processor."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Return the git commit of this program, `-dirty` if changed; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        run = ["git", "-C", str(here)]
        tracked = subprocess.run(
            [*run, "ls-files", "--error-unmatch", str(here / "__init__.py")], capture_output=True
        )
        if tracked.returncode:  # installed below somebody else's checkout
            return None
        done = subprocess.run(
            [*run, "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None


def today() -> str:
    """Return date and time (UTC)."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
