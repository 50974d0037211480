"""What the commands share: where they print, commands as typed, the images that are named."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from rich.console import Console

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.images import IMAGE_SUFFIXES, is_image_name
from patchscout.data.walk import list_files, status_of
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


def named_images(paths: tuple[Path, ...], apart_from: Path) -> list[tuple[Path, Path | None]]:
    """Return each image with the folder it was found in, if it was found in one.

    Args:
        paths: Images, and folders that are searched.
        apart_from: The output folder, in which earlier output is not searched for images.
    """
    images: list[tuple[Path, Path | None]] = []
    output = os.path.realpath(apart_from)
    for path in paths:
        status = status_of(path)
        if status is None:
            raise InputNotFoundError(f"{path} is not there. Name an image or a folder of images.")
        if not stat.S_ISDIR(status.st_mode):
            images.append((path, None))
            continue
        found = [
            file
            for file in list_files(path)
            if is_image_name(file) and not Path(os.path.realpath(file)).is_relative_to(output)
        ]
        if not found:
            raise InputValueError(
                f"{path} holds no image. Expected files ending in {', '.join(IMAGE_SUFFIXES)}."
            )
        images += [(file, path) for file in found]
    if not images:
        raise InputValueError("no image is named. Add image files or folders after the model.")
    return images
