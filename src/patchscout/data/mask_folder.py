"""Finding the mask that belongs to an image, among mask images and LabelMe files by name."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from patchscout.checks import InputNotFoundError
from patchscout.data.annotations import LINE_WIDTH_PX, MaskFile
from patchscout.data.images import IMAGE_SUFFIXES
from patchscout.data.labelme import LabelMeFile
from patchscout.data.walk import is_folder, list_files
from patchscout.types import MaskSource, Sample

MASK_ENDING = "_mask"
"""What may follow the image's name in the name of its mask."""


class MaskFolder:
    """A folder of masks; each is named after its image, in the same sub-folder.

    For `scratch/007.png` these are tried in turn: `scratch/007_mask.*`, `scratch/007.*` with the
    ending of an image, and LabelMe's `scratch/007.json`.
    """

    def __init__(self, path: Path, line_width_px: float = LINE_WIDTH_PX) -> None:
        self.path = path
        self._line_width_px = line_width_px

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
                    return MaskFile(file)
        file = self._files.get(Path(f"{stem}.json"))
        return LabelMeFile(file, self._line_width_px) if file is not None else None

    def label(self, images: dict[Path, str], images_root: Path) -> tuple[Sample, ...]:
        """Return the images, which show defects, with their masks.

        Args:
            images: The defect type of each image path.
            images_root: The folder that corresponds to this one.

        Raises:
            InputNotFoundError: A mask, or every one, is missing.
        """
        samples = {
            image_path: Sample(
                image_path, defect_type, self.find(image_path, image_path.relative_to(images_root))
            )
            for image_path, defect_type in images.items()
        }
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
