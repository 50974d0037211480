"""Finding the mask that belongs to an image, by name among mask images and annotation files."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.annotation_file import ANNOTATION_SUFFIXES, mask_source
from patchscout.data.annotations import LINE_WIDTH_PX, MaskFile, MaskFiles, mask_files
from patchscout.data.images import is_image_name
from patchscout.data.labelme import image_name
from patchscout.data.mask_images import MaskTypes, types_of_folder
from patchscout.data.names import NameIndex
from patchscout.data.photos import (
    Key,
    Photos,
    key_of,
    looks_like_mask,
    mask_name,
    without_image_ending,
    without_image_folders,
)
from patchscout.data.walk import is_folder, list_files
from patchscout.text import shown
from patchscout.types import LeftOut, MaskSource, Sample, TypedMask

FLAT_TYPE = "defect"
"""The defect type of images that lie in no sub-folder and have no category."""


class MaskFolder:
    """A folder of masks; each is named after its image, in the same sub-folder.

    For `scratch/007.png` these are tried in turn: `scratch/007_mask.*` or another ending that
    `photos.mask_name` knows, `scratch/007.*` with the suffix of an image, annotations for one
    image, `scratch/007.json`, `.xml` or `.txt`, and the images in the folder `scratch/007`. All of
    `007_mask_1.*` and the like, or in such a folder, are united. Sub-folders called `masks`,
    `images` or the like do not count, nor do the Unicode form, the case and what other tools add to
    names, see `NameIndex`.

    Args:
        path: The folder.
        photos: Files that are no masks, though they may lie in it.
        line_width_px: How wide annotated lines and points are.
        types: What the values or colors of mask images stand for; unset: what CVAT's
            `labelmap.txt` says.
    """

    def __init__(
        self,
        path: Path,
        photos: Collection[Path] = (),
        line_width_px: float = LINE_WIDTH_PX,
        types: MaskTypes = (),
    ) -> None:
        masks = path / "SegmentationClass"  # of CVAT and VOC, beside masks of single objects
        self.path = masks if is_folder(masks) else path
        self._types = types
        self._line_width_px = line_width_px
        self._photos = set(photos)
        self._image_of: dict[Path, Path] = {}
        self._labelme_files: dict[Key, Path] = {}

    @cached_property
    def _files(self) -> dict[Key, list[tuple[int, Path]]]:
        """All files that may be masks by what their images would be called, with their rank."""
        files: dict[Key, list[tuple[int, Path]]] = defaultdict(list)
        for file in list_files(self.path) if is_folder(self.path) else ():
            relative = file.relative_to(self.path)
            is_text = file.suffix.lower() in ANNOTATION_SUFFIXES
            if file in self._photos or not (is_text or is_image_name(file)):
                continue
            name = mask_name(relative)
            if name and name.has_ending and not is_text:
                files[without_image_folders(name.key)].append((0, file))
            key = name.key if name and not name.has_ending else key_of(relative)
            files[without_image_folders(key)].append((2 if is_text else 1, file))
        return files

    @property
    def used(self) -> set[Path]:
        """The files that are the mask of an image that was looked up."""
        return set(self._image_of)

    @property
    def unused(self) -> list[Path]:
        """The files of images that are the mask of no image that was looked up."""
        files = {file for found in self._files.values() for _, file in found}
        return sorted(file for file in files - self.used if is_image_name(file))

    def find(self, relative: Path) -> MaskSource | None:
        """Return where the mask of an image is, or None.

        Args:
            relative: The image's path below the folder of images, such as `scratch/007.png`.

        Raises:
            InputValueError: It was found for an image of another name already.
        """
        folders, stem = without_image_folders(key_of(relative))
        found = self._files.get((folders, stem)) or self._files_named_alike(folders, stem)
        if not found:
            files = self._parts_of_mask((*folders, stem.casefold()))
        else:
            found.sort()
            files = [file for rank, file in found if rank == found[0][0]]
            if not any(map(_is_numbered, files)):
                masks = files if len(files) == 1 else [f for f in files if looks_like_mask(f)]
                files = (masks or files)[:1]
        for file in files:
            self._take(file, relative)
        if len(files) > 1:
            return MaskFiles(tuple(MaskFile(file, self._known_types) for file in files))
        return mask_source(files[0], self._line_width_px, self._known_types) if files else None

    def _parts_of_mask(self, folders: tuple[str, ...]) -> list[Path]:
        """Return the images in the folder that is called as an image is."""
        stems = self._stems.get(folders, ())
        files = {file for stem in stems for rank, file in self._files[folders, stem] if rank < 2}
        return sorted(files)

    def _take(self, file: Path, relative: Path) -> None:
        """Note the image that a mask is for, and refuse one that is for another."""
        other = self._image_of.setdefault(file, relative)
        if key_of(other) != key_of(relative):
            raise InputValueError(
                f"{file} fits the images {shown(str(other))} and {shown(str(relative))}. Expected "
                f"one; give each a mask of its own, such as {shown(relative.stem)}_mask.png."
            )
        if file.suffix.lower() == ".json":
            folders, _ = without_image_folders(key_of(relative))
            self._labelme_files[folders, relative.name] = file

    @cached_property
    def _known_types(self) -> MaskTypes:
        return self._types or types_of_folder(self.path)

    def type_of(self, mask: MaskSource | None, folder_type: str) -> str:
        """Return the defect type of an image: that of its folder, unless the mask tells more.

        A mask tells it where types of values are set, and where the image is in no sub-folder.
        """
        if folder_type != FLAT_TYPE and not (self._types and mask_files(mask)):
            return folder_type
        return (mask.defect_type() if isinstance(mask, TypedMask) else None) or folder_type

    def check_one_file_each(self) -> None:
        """Refuse a LabelMe file that is for an image whose annotations were found in another.

        Raises:
            InputValueError: There is one; it names both.
        """
        files = {file for found in self._files.values() for _, file in found}
        for file in sorted(files - self.used) if self._labelme_files else ():
            if file.suffix.lower() == ".json" and (name := image_name(file)):
                folders, _ = without_image_folders(key_of(file.relative_to(self.path)))
                if (other := self._labelme_files.get((folders, name))) is not None:
                    raise InputValueError(
                        f"{other} and {file} both annotate {shown(name)}. Expected one LabelMe "
                        "file for an image; put the shapes of both into the first, or remove one."
                    )

    @cached_property
    def _stems(self) -> dict[tuple[str, ...], list[str]]:
        """What the images would be called of the files in each folder."""
        stems: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for folders, stem in self._files:
            stems[folders].append(stem)
        return stems

    @cached_property
    def _names(self) -> dict[tuple[str, ...], tuple[dict[str, str], NameIndex]]:
        """By folder: the names in lower case, each with the one it is of, and all by their forms.

        Where names differ by case alone, the first stands for all.
        """
        return {
            folders: ({stem.casefold(): stem for stem in reversed(stems)}, NameIndex(stems))
            for folders, stems in self._stems.items()
        }

    def _files_named_alike(self, folders: tuple[str, ...], stem: str) -> list[tuple[int, Path]]:
        """Return the masks whose name differs as systems and other tools change names."""
        if folders not in self._names:
            return []
        in_lower_case, index = self._names[folders]
        match = (
            in_lower_case.get(stem.casefold())
            or index.match(stem)
            or in_lower_case.get(without_image_ending(stem).casefold())
        )
        return self._files[folders, match] if match else []

    def looked_for(self, relative: Path) -> str:
        """Return what was looked for in vain, and the name there that is nearest to it."""
        stem = relative.with_suffix("").as_posix()
        names = difflib.get_close_matches(
            stem, [file.relative_to(self.path).as_posix() for file in self.unused], n=1
        )
        there = f" (the nearest there is {names[0]})" if names else ""
        return f"{self.path} for {stem}_mask.png, {stem}.png or {stem}.json{there}"


def _is_numbered(file: Path) -> bool:
    name = mask_name(Path(file.name))
    return name is not None and name.is_numbered


def label_images(
    images: dict[Path, str], images_root: Path, folders: Sequence[MaskFolder], found: Photos
) -> tuple[tuple[Sample, ...], str, LeftOut]:
    """Return images that show defects with their masks, as far as there are any.

    Args:
        images: The defect type of each image path.
        images_root: The folder that corresponds to those of masks.
        folders: Folders of masks; the first that has one counts.
        found: What else lies among the images.

    Returns:
        The images; where the first missing mask was looked for, if one is missing; and the files
        that are not used.
    """
    samples, missing = [], []
    for image_path, defect_type in images.items():
        relative = image_path.relative_to(images_root)
        for folder in folders:
            if (mask := folder.find(relative)) is not None:
                samples.append(Sample(image_path, folder.type_of(mask, defect_type), mask))
                break
        else:
            samples.append(Sample(image_path, defect_type))
            missing.append(relative)
    for folder in folders:
        folder.check_one_file_each()
    looked_in = folders[0].looked_for(missing[0]) if missing else ""
    left_out = left_out_of_defective(found, {file for folder in folders for file in folder.used})
    unused = {file for f in folders if f.path != images_root for file in f.unused}
    return tuple(samples), looked_in, {**left_out, "masks that fit no image": sorted(unused)}


def left_out_of_defective(found: Photos, used: set[Path]) -> LeftOut:
    """Return what is left out of a folder of defective images, of whose files some are masks."""
    left_out = {
        reason: [f for f in files if f not in used] for reason, files in found.left_out.items()
    }
    return {**left_out, "masks not used": [file for file in found.masks if file not in used]}


def masks_missing(samples: Sequence[Sample], looked_in: str) -> InputNotFoundError:
    """Return the error that none of the defective images has a mask."""
    return InputNotFoundError(
        f"No labeled defects: masks are missing for all {len(samples)} defective images in "
        f"{samples[0].image_path.parent}. Looked in {looked_in}; add the masks, check the path, or "
        "train without labels: `labeled_per_type` 0."
    )
