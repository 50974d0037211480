"""The images in folders: which files are photos, and which are masks that lie among them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from patchscout.checks import InputError, InputValueError
from patchscout.data.images import is_image_name, read_image
from patchscout.data.walk import list_files, relative_path
from patchscout.types import LeftOut

Key = tuple[tuple[str, ...], str]
"""Sub-folders and name of a file, such that an image and its mask have the same."""

_SURE = r"masks?|gt|ground[-_ ]?truths?"
_LIKELY = r"labels?|annotations?|seg|segmentations?"
_NUMBERED = r"masks?(?P<number>[-_. ]?\d{1,3})"
_ENDING = re.compile(rf"(.+)[-_. ](?:(?P<sure>{_SURE})|{_LIKELY}|{_NUMBERED})", re.IGNORECASE)
_FOLDER = re.compile(rf"(?P<sure>{_SURE})|{_LIKELY}", re.IGNORECASE)
_IMAGE_FOLDER = re.compile(r"ima?ge?s?", re.IGNORECASE)
_IMAGE_ENDING = re.compile(r"(.+)[-_. ](?:ima?ge?|photo|rgb|orig(?:inal)?)", re.IGNORECASE)

MASKS_BESIDE_NORMAL = "masks beside normal images"
"""Why masks are left out that should mark nothing."""

_FEW_COLORS = 16
_NEAR = 16 / 255
_SHARE_NEAR = 0.9
_ENOUGH_PIXELS = 2**14  # of an image, to tell whether it looks like a mask


class Photos(NamedTuple):
    """What lies in a folder and those below it.

    Attributes:
        images: The photos, sorted.
        masks: Masks beside them, with the photo of each.
        left_out: What is neither, by the reason.
    """

    images: list[Path]
    masks: dict[Path, Path]
    left_out: LeftOut


class MaskName(NamedTuple):
    """What a name says of a file.

    Attributes:
        key: What its image would be called.
        is_sure: Whether it is a mask even where there is no such image.
        has_ending: Whether the name itself ends like that of a mask.
        is_numbered: Whether it ends like that of one mask of several.
    """

    key: Key
    is_sure: bool
    has_ending: bool
    is_numbered: bool = False


def find_photos(folder: Path, apart_from: Iterable[Path] = ()) -> Photos:
    """Find the images in a folder and all below it, and tell photos from masks file by file.

    A file is the mask of a photo if its name is the photo's with an ending such as `_mask`, `_gt`,
    `_mask_2` or `-label`, be it in place of `_img` or the like; if it lies in a sub-folder of such
    a name; or if both have one name with different suffixes, and it alone looks like a mask, see
    `looks_like_mask`. Only files of one name are read.

    Args:
        folder: Where to search, see `walk.list_files`.
        apart_from: Folders that are not searched.

    Raises:
        InputNotFoundError: There is no such folder.
        InputValueError: It may not be read.
    """
    left_out: LeftOut = {}
    photos: dict[Key, list[Path]] = defaultdict(list)
    named_masks: list[tuple[Path, MaskName]] = []
    for file in list_files(folder, apart_from, left_out):
        relative = file.relative_to(folder)
        if not is_image_name(file):
            left_out.setdefault("no images", []).append(file)
        elif name := mask_name(relative):
            named_masks.append((file, name))
        else:
            photos[key_of(relative)].append(file)
    masks: dict[Path, Path] = {}
    for key, files in photos.items():
        if len(files) > 1 and (photo := _only_photo(files)) is not None:
            masks |= {file: photo for file in files if file != photo}
            photos[key] = [photo]
    by_key: dict[Key, Path] = {}
    for key, files in photos.items():
        folders, stem = without_image_folders(key)
        by_key.setdefault((folders, without_image_ending(stem)), files[0])
    by_key |= {without_image_folders(key): files[0] for key, files in photos.items()}
    by_key |= {key: files[0] for key, files in photos.items()}
    for file, name in named_masks:
        photo = by_key.get(name.key) or by_key.get(without_image_folders(name.key))
        if photo is not None:
            masks[file] = photo
        elif name.is_sure:
            left_out.setdefault("masks without an image", []).append(file)
        else:
            photos[key_of(file.relative_to(folder))].append(file)
    return Photos(sorted(file for files in photos.values() for file in files), masks, left_out)


def key_of(relative: Path) -> Key:
    """Return folders and name of a file in one Unicode form, without the suffix."""
    *folders, stem = unicodedata.normalize("NFC", relative.with_suffix("").as_posix()).split("/")
    return tuple(folders), stem


def without_image_folders(key: Key) -> Key:
    """Return a key whose folders are in lower case, without those called `images` or the like."""
    folders = tuple(name.casefold() for name in key[0] if not _IMAGE_FOLDER.fullmatch(name))
    return folders, key[1]


def without_image_ending(stem: str) -> str:
    """Return a name without an ending that says that it is a photo, such as `_img`."""
    ending = _IMAGE_ENDING.fullmatch(stem)
    return ending[1] if ending else stem


def mask_name(relative: Path) -> MaskName | None:
    """Return what the name of a mask says of its image; None if it is not named as a mask.

    Example:
        >>> mask_name(Path("hole/7_mask.png")).key, mask_name(Path("masks/7.png")).key
        ((('hole',), '7'), ((), '7'))
    """
    folders, stem = key_of(relative)
    ending = _ENDING.fullmatch(stem)
    words = [match for match in (ending, *map(_FOLDER.fullmatch, folders)) if match]
    if not words:
        return None
    others = tuple(name for name in folders if not _FOLDER.fullmatch(name))
    is_sure = any(match["sure"] for match in words)
    stem = ending[1] if ending else stem
    is_numbered = ending is not None and ending["number"] is not None
    return MaskName((others, stem), is_sure, ending is not None, is_numbered)


def looks_like_mask(path: Path) -> bool:
    """Return whether an image has few colors, or hardly any but its darkest and its brightest.

    A file that cannot be read does not.
    """
    try:
        pixels = read_image(path, background=0.0)
    except InputError:  # told where it is used
        return False
    step = max(1, math.isqrt(pixels[..., 0].size // _ENOUGH_PIXELS))
    pixels = pixels[::step, ::step]
    levels = np.round(pixels * 255).astype(np.uint32)
    colors = (levels[..., 0] * 256 + levels[..., 1]) * 256 + levels[..., 2]
    if len(np.unique(colors)) <= _FEW_COLORS:
        return True
    grey = pixels[..., 0]
    low, high = grey.min(), grey.max()
    share = np.mean(np.minimum(grey - low, high - grey) <= _NEAR)
    is_grey = bool(np.all(pixels == grey[..., None]))
    return bool(is_grey and low <= _NEAR and share >= _SHARE_NEAR)


def _only_photo(files: list[Path]) -> Path | None:
    """Return the one of several files of a name that is no mask, if there is one such file."""
    # A format that loses detail is not for masks, so that it is only decoded in doubt.
    lossy = (".jpg", ".jpeg", ".jfif")
    photos: list[Path] = []
    for file in sorted(files, key=lambda file: file.suffix.lower() in lossy):
        is_last = file.suffix.lower() in lossy and not photos
        if is_last or not looks_like_mask(file):
            photos.append(file)
    return photos[0] if len(photos) == 1 else None


def defect_type_of(relative: Path) -> str | None:
    """Return the first folder of a defective image's path, which names its type.

    Folders called `images` or the like do not count; None where there is no other.
    """
    return next((name for name in relative.parts[:-1] if not _IMAGE_FOLDER.fullmatch(name)), None)


def joined(*parts: LeftOut) -> LeftOut:
    """Return what is left out of several folders together."""
    together: LeftOut = {}
    for part in parts:
        for reason, files in part.items():
            together[reason] = sorted({*together.get(reason, ()), *files})
    return {reason: files for reason, files in together.items() if files}


def left_out_of_normal(found: Photos) -> LeftOut:
    """Return what is left out of a folder of normal images."""
    return {**found.left_out, MASKS_BESIDE_NORMAL: list(found.masks)}


def check_has_images(found: Photos, where: str, expected: str) -> None:
    """Refuse a folder without an image, and say what is there instead.

    Args:
        found: What is in the folder.
        where: The folder, as the error names it.
        expected: What should be there, without a full stop.
    """
    if not found.images:
        there = (
            f" ({'; '.join(lines)})" if (lines := left_out_lines(left_out_of_normal(found))) else ""
        )
        raise InputValueError(
            f"{where} has no images{there}. {expected}; put files there that Pillow reads, such as "
            "PNG or JPEG."
        )


def left_out_lines(left_out: LeftOut, root: Path | None = None) -> list[str]:
    """Return how many files are left out for each reason, with the first one.

    Args:
        left_out: The files.
        root: What they are shown relative to; unset: they are shown as they are.

    Example:
        >>> left_out_lines({"hidden": [Path("a/.b.png"), Path("a/.c.png")]}, Path("a"))
        ['2 hidden (.b.png, ...)']
    """
    return [
        f"{len(files)} {reason} ({relative_path(files[0], root) if root else files[0]}"
        f"{', ...' * (len(files) > 1)})"
        for reason, files in left_out.items()
        if files
    ]
