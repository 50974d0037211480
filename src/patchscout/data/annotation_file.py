"""Annotation files of every tool: which one it is, parsed once, and the mask of each image."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from patchscout.checks import InputValueError
from patchscout.data.annotations import LINE_WIDTH_PX, AnnotatedImage, MaskFile, image_key
from patchscout.data.brushes import is_brush_folder, parse_brushes
from patchscout.data.clock import Clock
from patchscout.data.coco import parse_coco
from patchscout.data.cvat import parse_cvat, parse_labelme_xml
from patchscout.data.images import is_image_name
from patchscout.data.json_files import parse_json, read_limited
from patchscout.data.label_studio import is_label_studio, parse_tasks
from patchscout.data.labelme import LabelMeFile, parse_labelme
from patchscout.data.mask_images import MaskTypes
from patchscout.data.names import NameIndex
from patchscout.data.via import is_via, parse_via
from patchscout.data.walk import is_folder, list_folder
from patchscout.data.xml_files import parse_xml
from patchscout.data.yolo import parse_yolo
from patchscout.text import shown
from patchscout.types import NORMAL, Mask, MaskSource

ANY_SIDE_PX = 1000
"""Height and width that areas are compared at where a file does not tell those of its image."""


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
        image = self._file().images[self.key]
        source = f"{self.path} (image {shown(image.file_name)})" if self.key else str(self.path)
        return image.draw(image_size, self.line_width_px, source)

    def defect_type(self) -> str | None:
        """Return the label of the largest annotation of the image.

        Raises:
            InputError: As `read` does.
        """
        return self._file().defect_type(self.key)

    def _file(self) -> AnnotationFile:
        file = read_annotation_file(self.path)
        if self.key in file.images:
            return file
        if self.key:
            raise InputValueError(
                f"{self.path} has no image {shown(self.key)} any more. Export it again."
            )
        raise InputValueError(
            f"{self.path} is for images that it names, and lies where the annotations of one image"
            " do. Give the file itself with `--data.masks`."
        )


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

    @cached_property
    def _names(self) -> NameIndex:
        return NameIndex(self.images)

    def find(self, relative_path: PurePosixPath) -> str | None:
        """Return the key of an image: by its relative path, by its base name, by what tools add.

        An image that is listed without annotations is not found, but stands in for no other.

        Raises:
            InputValueError: Only the base name fits, and it fits several images.
        """
        wanted = PurePosixPath(image_key(str(relative_path)))
        matches = self._by_name.get(wanted.parts[-2:]) or self._by_name.get(wanted.parts[-1:], [])
        best = [key for key in matches if key == str(wanted)] or [
            key for key in matches if PurePosixPath(key).parts[-len(wanted.parts) :] == wanted.parts
        ]
        matches = best or matches or self._named_alike(wanted)
        if len(matches) > 1:
            raise InputValueError(
                f"{relative_path} fits {len(matches)} images of {self.path}, such as "
                f"{shown(matches[0])} and {shown(matches[1])}. Expected one; give the names in it "
                "with the folder that the image lies in."
            )
        return matches[0] if matches and self.images[matches[0]].annotations else None

    def _named_alike(self, wanted: PurePosixPath) -> list[str]:
        match = self._names.match(str(wanted))
        return [match] if match else []

    def defect_type(self, key: str) -> str:
        """Return the label of the largest annotation of an image that is a defect, else `defect`.

        Raises:
            InputValueError: It is the name of what has no defect.
        """
        image = self.images[key]
        defects = [annotation for annotation in image.annotations if not annotation.is_hole]
        labels = {defect.label for defect in defects}
        name = next(iter(labels), None)
        if len(labels) > 1:
            size = image.height or ANY_SIDE_PX, image.width or ANY_SIDE_PX
            timed = Clock(self.path).timed(defects)
            name = max(timed, key=lambda defect: defect.measured_area(size)).label
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
    if is_folder(path):
        return AnnotationFile(path, parse_brushes(path))
    return AnnotationFile(path, _images(read_limited(path, _EXPECTED), path))


def annotation_path(path: Path) -> Path | None:
    """Return the file that annotates all images, where `path` is or holds one; else None.

    A folder holds one if it is the only JSON or XML file in it, without images beside it, and is
    not for one image alone. A folder of Label Studio's brush masks stands for itself.
    """
    if not is_folder(path) or is_brush_folder(path):
        return path
    files = list_folder(path)[1]
    found = [file for file in files if file.suffix.lower() in (".json", ".xml")]
    if len(found) != 1 or any(map(is_image_name, files)):
        return None
    return None if "" in read_annotation_file(found[0]).images else found[0]


def mask_source(file: Path, line_width_px: float, types: MaskTypes) -> MaskSource:
    """Return the mask in a file that is for one image: a mask image, or annotations."""
    if file.suffix.lower() == ".json":
        return LabelMeFile(file, line_width_px)
    is_text = file.suffix.lower() in ANNOTATION_SUFFIXES
    return AnnotatedMask(file, "", line_width_px) if is_text else MaskFile(file, types)


ANNOTATION_SUFFIXES = (".json", ".xml", ".txt")
"""What files of annotations for one image end in: LabelMe's, CVAT's in its form, and YOLO's."""


_EXPECTED = "a file of annotations"
_READ = (
    "Read are JSON of COCO, VIA, LabelMe and Label Studio, XML of `CVAT for images` and LabelMe, "
    "and text of YOLO for segmentation; export it as one of these."
)


def _images(data: bytes, path: Path) -> dict[str, AnnotatedImage]:
    """Return the images of a file by key, whatever it is called; the key of a single one is empty.

    Raises:
        InputValueError: It is of no known format, or does not fit its own.
    """
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"<":
        root = parse_xml(data, path)
        if root.tag == "annotations":
            return parse_cvat(root, path)
        if root.tag == "annotation":
            return {"": parse_labelme_xml(root, path)}
        raise InputValueError(f"{path} is XML with the root {shown(root.tag)!r}. {_READ}")
    if start in (b"{", b"[") or path.suffix.lower() == ".json":
        content = parse_json(data, path, _EXPECTED)
        if is_label_studio(content):
            return parse_tasks(content, path)
        if not isinstance(content, dict):
            raise InputValueError(f"{path} holds a JSON {type(content).__name__}. {_READ}")
        if "shapes" in content:
            return {"": parse_labelme(content, path)}
        if is_via(content):
            return parse_via(content, path)
        if {"images", "annotations"} & content.keys():
            return parse_coco(content, path)
        raise InputValueError(
            f"{path} holds JSON with the keys {shown(list(content)[:5])}. {_READ}"
        )
    if path.suffix.lower() == ".txt":
        return {"": parse_yolo(data, path)}
    raise InputValueError(f"{path} is neither JSON nor XML. {_READ}")
