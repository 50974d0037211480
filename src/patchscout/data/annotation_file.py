"""One annotation file for many images, COCO's or VIA's, parsed once; the mask of each of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from patchscout.checks import InputValueError
from patchscout.data.annotations import LINE_WIDTH_PX, AnnotatedImage, image_key
from patchscout.data.coco import parse_coco
from patchscout.data.json_files import read_json_object
from patchscout.data.via import is_via, parse_via
from patchscout.text import shown
from patchscout.types import NORMAL, Mask


@dataclass(frozen=True)
class AnnotatedMask:
    """The mask of one image from a file that annotates several.

    Attributes:
        path: The file, parsed once and kept for the next image.
        key: What the image is called in it, see `image_key`.
        line_width_px: How wide lines and points are, in pixels of the image as annotated.
    """

    path: Path
    key: str
    line_width_px: float = LINE_WIDTH_PX

    def read(self, image_size: tuple[int, int]) -> Mask:
        """Return the mask of an image of `image_size` (height, width).

        Raises:
            InputNotFoundError: There is no such file.
            InputValueError: It is of no known format, does not fit the image, marks nothing, or is
                beyond the limits.
        """
        image = read_annotation_file(self.path).images.get(self.key)
        if image is None:
            raise InputValueError(
                f"{self.path} has no image {shown(self.key)} any more. Export it again."
            )
        source = f"{self.path} (image {shown(image.file_name)})"
        return image.draw(image_size, self.line_width_px, source)


@dataclass(frozen=True)
class AnnotationFile:
    """A parsed annotation file: its images by key, see `image_key`."""

    path: Path
    images: dict[str, AnnotatedImage]

    @cached_property
    def _by_name(self) -> dict[tuple[str, ...], list[str]]:
        """The keys of the images by base name, and by folder and base name."""
        by_name: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for key in self.images:
            parts = PurePosixPath(key).parts
            for name in {parts[-1:], parts[-2:]}:
                by_name[name].append(key)
        return by_name

    def find(self, relative_path: PurePosixPath) -> str | None:
        """Return the key of an image, by its relative path, else by its base name.

        An image that is listed without annotations is not found, but stands in for no other.

        Raises:
            InputValueError: Only the base name fits, and it fits several images.
        """
        wanted = PurePosixPath(image_key(str(relative_path)))
        matches = self._by_name.get(wanted.parts[-2:]) or self._by_name.get(wanted.parts[-1:], [])
        best = [key for key in matches if key == str(wanted)] or [
            key for key in matches if PurePosixPath(key).parts[-len(wanted.parts) :] == wanted.parts
        ]
        matches = best or matches
        if len(matches) > 1:
            raise InputValueError(
                f"{relative_path} fits {len(matches)} images of {self.path}, such as "
                f"{shown(matches[0])} and {shown(matches[1])}. Expected one; give the names in it "
                "with the folder that the image lies in."
            )
        return matches[0] if matches and self.images[matches[0]].annotations else None

    def defect_type(self, key: str) -> str:
        """Return the label of the largest annotation of an image that is a defect, else `defect`.

        Raises:
            InputValueError: It is the name of what has no defect.
        """
        image = self.images[key]
        defects = [annotation for annotation in image.annotations if not annotation.is_hole]
        name = max(defects, key=lambda defect: defect.area).label if defects else None
        if name == NORMAL:
            raise InputValueError(
                f"{self.path} has a category `{NORMAL}`, as normal images are called, for a defect "
                f"in {shown(image.file_name)}. Give the category another name."
            )
        return name or "defect"


def read_annotation_file(path: Path) -> AnnotationFile:
    """Parse an annotation file; the last one is kept, and parsed anew once it has changed.

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is of no known format, or beyond the limits.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return _parse(path, 0, 0)  # which says what is wrong
    return _parse(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _parse(path: Path, _mtime_ns: int, _size: int) -> AnnotationFile:
    content = read_json_object(path, "a COCO or VIA file")
    parse = parse_via if is_via(content) else parse_coco
    return AnnotationFile(path, parse(content, path))
