"""What the commands share: where they print, commands as typed, the images that are named."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from rich.console import Console

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.photos import find_photos, left_out_lines
from patchscout.data.walk import status_of
from patchscout.text import printable, shell_word


class PlainConsole(Console):
    """Prints texts as they are, one line each: nothing in them is markup or moves the cursor."""

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True)

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print texts, in which what cannot be seen is an escape, and what rich draws."""
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **settings)


console = PlainConsole()


def typed(*words: str | Path) -> str:
    """Return a command as a person types it, quoted where a shell needs it."""
    return " ".join(map(shell_word, ("patchscout", *map(str, words))))


def named_images(
    paths: tuple[Path, ...], apart_from: Path, *, quiet: bool = False
) -> list[tuple[Path, Path | None]]:
    """Return each image with the folder it was found in, if it was found in one.

    Args:
        paths: Images, and folders that are searched, see `find_photos`.
        apart_from: The output folder, in which earlier output is not searched for images.
        quiet: Do not print what is left out.
    """
    images: list[tuple[Path, Path | None]] = []
    for path in paths:
        status = status_of(path)
        if status is None:
            raise InputNotFoundError(f"{path} is not there. Name an image or a folder of images.")
        if not stat.S_ISDIR(status.st_mode):
            images.append((path, None))
            continue
        found = find_photos(path, apart_from=[apart_from])
        left_out = {**found.left_out, "masks": sorted(found.masks)}
        if not found.images:
            there = "; ".join(left_out_lines(left_out)) or "nothing is there"
            raise InputValueError(
                f"{path} holds no image ({there}). Expected image files, such as .png or .jpg."
            )
        images += [(file, path) for file in found.images]
        if not quiet:
            for line in left_out_lines(left_out):
                console.print(f"Left out: {line}")
    if not images:
        raise InputValueError("no image is named. Add image files or folders after the model.")
    return images
