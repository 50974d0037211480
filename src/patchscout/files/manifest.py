"""Which files of a folder are this program's: a list of names with digests, inside the folder.

The list is the user's to edit and may come with a folder from anywhere, so that it alone proves
nothing: a file is this program's only if its name is a plain one below the folder, no link is on
the way, and its content is what the list says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from patchscout.files.atomic import write_text_atomic

MANIFEST = ".patchscout-files"
FORMAT_VERSION = 2
"""The first one listed names alone, which prove nothing; it is read as an empty list."""

Digests = dict[str, str]
"""The sha256 of each file by its name below the folder, with forward slashes."""

_DIGESTS = TypeAdapter(Digests)


def read_manifest(folder: Path) -> Digests:
    """Return what the list in a folder says; nothing if there is none or it is damaged."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="ascii"))
        if content.get("format_version") != FORMAT_VERSION:
            return {}
        return {
            name: digest
            for name, digest in _DIGESTS.validate_python(content.get("files"), strict=True).items()
            if is_plain(name)
        }
    except (OSError, ValueError, AttributeError, RecursionError, ValidationError):
        return {}


def write_manifest(folder: Path, digests: Mapping[str, str]) -> None:
    """Write the list of a folder, or remove it where nothing is listed."""
    if digests:
        content = {"format_version": FORMAT_VERSION, "files": dict(digests)}
        write_text_atomic(folder / MANIFEST, json.dumps(content, indent=1) + "\n")
    else:
        (folder / MANIFEST).unlink(missing_ok=True)


def is_plain(name: str) -> bool:
    """Whether a name is relative and leads nowhere but down.

    Example:
        >>> [is_plain(name) for name in ("masks/1.png", "../1.png", "/1.png", "a/../1.png", "")]
        [True, False, False, False, False]
    """
    path = PurePosixPath(name)
    if "\0" in name or path.is_absolute() or str(path) != name or name == ".":
        return False
    return ".." not in path.parts and Path(name).parts == path.parts


def is_reached_without_links(folder: Path, name: str) -> bool:
    """Whether what is on the way to a file below a folder is folders, as far as it is there."""
    parents = PurePosixPath(name).parents
    return all(
        not (place := folder / parent).is_symlink() and (place.is_dir() or not place.exists())
        for parent in list(parents)[:-1]
    )


def is_unchanged(folder: Path, name: str, digest: str) -> bool:
    """Whether a file is still what was written there."""
    place = folder / name
    if not is_reached_without_links(folder, name) or place.is_symlink() or not place.is_file():
        return False
    return digest_of(place) == digest


def digest_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
