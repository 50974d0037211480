"""What lies in folders: listed in full, or refused where it may not be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.files.manifest import MANIFEST
from patchscout.types import LeftOut


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what is directly in a folder: its sub-folders and all else, each sorted.

    A symbolic link to a folder counts as a sub-folder.

    Raises:
        InputNotFoundError: There is no such folder.
        InputValueError: It may not be read.
    """
    found = _scan(folder)
    folders = sorted(path for path, is_a_folder, _ in found if is_a_folder)
    return folders, sorted(path for path, is_a_folder, _ in found if not is_a_folder)


def list_files(
    folder: Path, apart_from: Iterable[Path] = (), left_out: LeftOut | None = None
) -> list[Path]:
    """Return the files in a folder and all folders below it, sorted: the one rule of every command.

    Links to folders are followed, each folder once. Left out are hidden files and folders, folders
    that this program wrote, and links that lead back to where they are.

    Args:
        folder: Where to search.
        apart_from: Folders and files that are not searched.
        left_out: What is left out is added here, by the reason.

    Raises:
        InputNotFoundError: There is no such folder.
        InputValueError: It, or a folder below it, may not be read.
    """
    files: list[Path] = []
    left_out = {} if left_out is None else left_out
    top = Path(os.path.realpath(folder))
    excluded = {Path(os.path.realpath(path)) for path in apart_from} - {top}
    visited: set[Path] = set()
    waiting, links = [folder], list[Path]()
    while waiting or links:
        # Links come last, so that a folder is known by its own path where it has one.
        current = waiting.pop() if waiting else links.pop(links.index(min(links)))
        real = Path(os.path.realpath(current))
        if real in excluded:
            continue
        if real in visited or (real != top and top.is_relative_to(real)):
            left_out.setdefault("links to what is searched anyway", []).append(current)
            continue
        if real != top and os.path.isfile(current / MANIFEST):  # noqa: PTH113 - never raises
            left_out.setdefault("folders that PatchScout wrote", []).append(current)
            continue
        visited.add(real)
        for path, is_a_folder, is_link in _scan(current):
            if path.name.startswith("."):
                if path.name not in (MANIFEST, ".DS_Store"):
                    left_out.setdefault("hidden", []).append(path)
            elif not is_a_folder:
                files.append(path)
            else:
                (links if is_link else waiting).append(path)
    return sorted(files)


def is_folder(path: Path) -> bool:
    """Return whether a folder is there; one that may not be looked at is refused."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def status_of(path: Path) -> os.stat_result | None:
    """Return what the system says of a file or folder; None where there is none.

    Raises:
        InputValueError: The system does not let it be looked at.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # no permission, a loop of links, a name too long
        raise _refused(path, error) from error


def size_of_file(path: Path, expected: str) -> int:
    """Return the size of a regular file in bytes.

    Args:
        path: The file; a pipe or a device, which could be waited for without end, is refused.
        expected: What should be there, such as "Expected a PNG image".

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is a folder or no regular file, or may not be looked at.
    """
    status = status_of(path)
    if status is None:
        raise InputNotFoundError(f"{path} does not exist. {expected}; check the path.")
    if stat.S_ISDIR(status.st_mode):
        raise InputValueError(f"{path} is a folder. {expected}; name a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise InputValueError(
            f"{path} is a pipe, socket or device. {expected} in a regular file; copy it into one."
        )
    return status.st_size


def _scan(folder: Path) -> list[tuple[Path, bool, bool]]:
    """Return what is in a folder, whether it is a sub-folder, and whether it is a symbolic link."""
    try:
        with os.scandir(folder) as entries:
            return [
                (folder / entry.name, _leads_to_folder(entry), entry.is_symlink())
                for entry in entries
            ]
    except (OSError, ValueError) as error:
        raise _refused(folder, error) from error


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link that leads nowhere is not."""
    try:
        return entry.is_dir()
    except OSError:
        if entry.is_symlink():
            return False
        raise


def _refused(path: Path, error: OSError | ValueError) -> InputNotFoundError | InputValueError:
    """Return the error for a file or folder that the system does not let be read."""
    if isinstance(error, FileNotFoundError):
        return InputNotFoundError(f"{path} does not exist. Check the path.")
    if isinstance(error, PermissionError):
        return InputValueError(f"{path} may not be read. Change its permissions or leave it out.")
    reason = error.strerror if isinstance(error, OSError) else error
    return InputValueError(f"{path} cannot be read: {reason}. Check the path or leave it out.")


def relative_path(path: Path, root: Path) -> str:
    """Return a path relative to `root` with forward slashes."""
    return Path(os.path.relpath(path, root)).as_posix()
