"""The wording of every error that a user can cause.

Each error names, in one line, what is wrong, where, and what to do about it. The command line
prints that line and exits with 2; Python users get an ordinary ValueError, TypeError or
FileNotFoundError, since each class below is one of those too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from patchscout.text import printable, shortened


class InputError(Exception):
    """Something a user gave does not fit; the message is one line that says how to mend it."""

    def __str__(self) -> str:
        return one_line(str(self.args[0]))


class InputValueError(InputError, ValueError):
    """A value, file or folder that is there but does not fit."""


class InputTypeError(InputError, TypeError):
    """An argument of a type that is not accepted."""


class InputNotFoundError(InputError, FileNotFoundError):
    """A file or folder that is not there."""


def one_line(message: str) -> str:
    """Return a message as one line of a sensible length, with nothing in it that is not shown."""
    return shortened(printable(re.sub(r"\s*\n\s*", " ", message.strip())))


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Name the file that an error inside the block is about, where the error cannot know it."""
    try:
        yield
    except InputValueError as error:
        raise InputValueError(f"{path}: {error}") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint such as `; did you mean 'seed'?`, or nothing where no name is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ""
