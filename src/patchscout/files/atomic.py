"""Writes files so that a reader finds the old content or the new one, and a power cut too."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

_PARTIAL = ".patchscout-{pid}-{token}.partial"
_PARTIAL_NAME = re.compile(r"\.patchscout-(\d+)-[0-9a-f]{8}\.partial(\.\w+)?")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path to write to that takes the place of `path` when the block ends well.

    The temporary file lies in the same folder, since only a move within one file system is
    atomic, and keeps the suffix, by which image writers choose their format. When the block has
    ended, content and name are on the disk.

    Args:
        path: The file to write; its folder is there. A link there is replaced, not followed.

    Yields:
        Where to write. If the block raises, the file there is removed and `path` is untouched.
    """
    name = _PARTIAL.format(pid=os.getpid(), token=secrets.token_hex(4)) + path.suffix
    partial = path.with_name(name)
    try:
        yield partial
        sync_file(partial)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove what `atomic_path` left in a folder when its process was killed."""
    for file in folder.iterdir():
        match = _PARTIAL_NAME.fullmatch(file.name)
        if match and not _is_running(int(match[1])):
            file.unlink(missing_ok=True)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, and wait until its content is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; Windows does so by itself."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def _is_running(pid: int) -> bool:
    """Whether a process of this machine runs; if in doubt, it does."""
    if os.name != "posix":
        return True
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
