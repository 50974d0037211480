"""What the commands share: where they print, and commands as a person types them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from patchscout.text import printable, shell_word


class PlainConsole(Console):
    """Prints texts as they are, one line each: nothing in them is markup or moves the cursor."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print texts, in which what cannot be seen is an escape, and what rich draws."""
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **settings)


console = PlainConsole()
_errors = PlainConsole(stderr=True)


def tell(note: str | None) -> None:
    """Print what a user should know of a model, if anything, on standard error."""
    if note is not None:
        _errors.print(f"patchscout: {note}")


def typed(*words: str | Path) -> str:
    """Return a command as a person types it, quoted where a shell needs it."""
    return " ".join(map(shell_word, ("patchscout", *map(str, words))))
