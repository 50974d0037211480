"""What the commands share: where they print, and commands as a person types them."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

console = Console(markup=False, highlight=False, soft_wrap=True)
"""Prints names and commands as they are: nothing in them is markup, no line is broken."""


def typed(*words: str | Path) -> str:
    """Return a command as a person types it, quoted where a shell needs it."""
    return shlex.join(["patchscout", *map(str, words)])
