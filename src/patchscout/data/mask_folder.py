"""Finding the mask that belongs to an image, among mask images and LabelMe files by name."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from patchscout.checks import InputNotFoundError
from patchscout.data.annotation_file import ANNOTATION_SUFFIXES, mask_source
from patchscout.data.annotations import LINE_WIDTH_PX, MaskFile
from patchscout.data.images import IMAGE_SUFFIXES
from patchscout.data.mask_images import MaskTypes, types_of_folder
from patchscout.data.walk import is_folder, list_files
from patchscout.types import MaskSource, Sample, TypedMask

FLAT_TYPE = "defect"
"""The defect type of images that lie in no sub-folder and have no category."""

MASK_ENDING = "_mask"
"""What may follow the image's name in the name of its mask."""


class MaskFolder:
    """A folder of masks; each is named after its image, in the same sub-folder.

    For `scratch/007.png` these are tried in turn: `scratch/007_mask.*`, `scratch/007.*` with the
    ending of an image, and annotations for one image, `scratch/007.json`, `.xml` or `.txt`.
    """

    def __init__(
        self, path: Path, line_width_px: float = LINE_WIDTH_PX, types: MaskTypes = ()
    ) -> None:
        masks = path / "SegmentationClass"  # of CVAT and VOC
        self.path = masks if is_folder(masks) else path
        self._line_width_px = line_width_px
        self._types = types

    @cached_property
    def _files(self) -> dict[Path, Path]:
        """All files below the folder, by relative path with the suffix in lower case."""
        files = reversed(list_files(self.path)) if is_folder(self.path) else ()
        return {self._key(file.relative_to(self.path)): file for file in files}

    @staticmethod
    def _key(relative: Path) -> Path:
        return relative.with_suffix(relative.suffix.lower())

    def find(self, image_path: Path, relative: Path) -> MaskSource | None:
        """Return where the mask of an image is, or None.

        Args:
            image_path: The image, which is never taken for its own mask.
            relative: Its path below the folder of images, such as `scratch/007.png`.
        """
        stem = relative.parent / relative.stem
        for ending in (MASK_ENDING, ""):
            for suffix in IMAGE_SUFFIXES:
                file = self._files.get(Path(f"{stem}{ending}{suffix}"))
                if file is not None and file != image_path:
                    return mask_source(file, self._line_width_px, self._known_types)
        for suffix in ANNOTATION_SUFFIXES:
            file = self._files.get(Path(f"{stem}{suffix}"))
            if file is not None:
                return mask_source(file, self._line_width_px, self._known_types)
        return None

    @cached_property
    def _known_types(self) -> MaskTypes:
        return self._types or (types_of_folder(self.path) if is_folder(self.path) else ())

    def type_of(self, mask: MaskSource | None, folder_type: str) -> str:
        """Return the defect type of an image: that of its folder, unless the mask tells more.

        A mask tells it where types of values are set, and where the image is in no sub-folder.
        """
        if folder_type != FLAT_TYPE and not (self._types and isinstance(mask, MaskFile)):
            return folder_type
        return (mask.defect_type() if isinstance(mask, TypedMask) else None) or folder_type

    def label(self, images: dict[Path, str], images_root: Path) -> tuple[Sample, ...]:
        """Return the images, which show defects, with their masks.

        Args:
            images: The defect type of each image path.
            images_root: The folder that corresponds to this one.

        Raises:
            InputNotFoundError: A mask, or every one, is missing.
        """
        samples: dict[Path, Sample] = {}
        for image_path, folder_type in images.items():
            mask = self.find(image_path, image_path.relative_to(images_root))
            samples[image_path] = Sample(image_path, self.type_of(mask, folder_type), mask)
        missing = [path for path, sample in samples.items() if sample.mask is None]
        if missing:
            stem = self.path / missing[0].relative_to(images_root).with_suffix("")
            expected = f"{stem}{MASK_ENDING}.png, {stem.name}.png or {stem.name}.json"
            raise masks_missing(missing, len(samples), f"{self.path} for {expected}")
        return tuple(samples.values())


def masks_missing(missing: list[Path], num_images: int, looked_in: str) -> InputNotFoundError:
    """Return the error that says which of `num_images` defective images have no mask."""
    if len(missing) == num_images:
        return InputNotFoundError(
            f"No labeled defects: masks are missing for all {num_images} defective images in "
            f"{missing[0].parent}. Looked in {looked_in}; add the masks or check the path."
        )
    others = f" and of {len(missing) - 1} more images" if len(missing) > 1 else ""
    return InputNotFoundError(
        f"The mask of {missing[0]}{others} is missing. Looked in {looked_in}; add it or remove "
        "the image."
    )
