"""Writes files so that a reader finds the old content or the new one, never half of it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path to write to that takes the place of `path` when the block ends well.

    The temporary file lies in the same folder, since only a move within one file system is
    atomic, and keeps the suffix, by which image writers choose their format.

    Args:
        path: The file to write; its folder is there.

    Yields:
        Where to write. If the block raises, the file there is removed and `path` is untouched.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with the line ends that it has.

    A file name that is not valid UTF-8 reaches Python with surrogates in it; it is written as
    the bytes that it was, so that one such name does not cost a whole table.
    """
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def write_json_atomic(path: Path, data: object) -> None:
    """Write `data` as indented JSON.

    Args:
        path: The file to write.
        data: Dictionaries, lists, tuples, strings, numbers and paths; numpy numbers and arrays
            too. What is not finite is written as null, for which JSON has no number.

    Raises:
        TypeError: For any other kind of object.
    """
    write_text_atomic(path, json_text(data) + "\n")


def json_text(data: object) -> str:
    """Return `data` as `write_json_atomic` writes it."""
    return json.dumps(_json_ready(data), indent=2, allow_nan=False)


def _json_ready(value: object) -> Any:
    """Return `value` with only types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _json_ready(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
