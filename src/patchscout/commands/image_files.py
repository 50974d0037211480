"""The images that a person names: files, and folders that are searched."""

from __future__ import annotations

from pathlib import Path

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.images import IMAGE_SUFFIXES


def named_images(paths: tuple[Path, ...], apart_from: Path) -> list[tuple[Path, Path | None]]:
    """Return each image with the folder it was found in, if it was found in one.

    Args:
        paths: Images, and folders that are searched.
        apart_from: The output folder, in which earlier output is not searched for images.
    """
    images: list[tuple[Path, Path | None]] = []
    for path in paths:
        if path.is_dir():
            found = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in IMAGE_SUFFIXES
                and not file.name.startswith(".")
                and not file.resolve().is_relative_to(apart_from.resolve())
            )
            if not found:
                raise InputValueError(
                    f"{path} holds no image. Expected files ending in {', '.join(IMAGE_SUFFIXES)}."
                )
            images += [(file, path) for file in found]
        elif path.is_file():
            images.append((path, None))
        else:
            raise InputNotFoundError(f"{path} is not there. Name an image or a folder of images.")
    if not images:
        raise InputValueError("no image is named. Add image files or folders after the model.")
    return images
