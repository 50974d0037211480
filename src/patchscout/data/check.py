"""Reads all masks and the headers of all images, and tells what a data set holds."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from patchscout.checks import InputError
from patchscout.data.annotations import mask_files, read_turned_mask
from patchscout.data.image_files import decode, open_image
from patchscout.data.images import ImageFacts, read_facts
from patchscout.data.photos import MASKS_BESIDE_NORMAL, left_out_lines, looks_like_mask
from patchscout.data.split import evenly_chosen
from patchscout.data.walk import relative_path
from patchscout.monitor import Monitor
from patchscout.text import printable
from patchscout.types import Dataset, Mask, Sample, Split

MOST_DECODED = 16
"""Normal images whose values are looked at."""

DARK = 0.1
"""Share of the range of 8 bits that an image should reach."""

USUAL_BITS = (8, 10, 12, 14)
"""Bits of cameras whose values are stored in files of 16."""

MOST_MARKED, MOST_OF_BORDER = 0.5, 0.9
"""Shares of an image and of its border that only a mask marks that is inverted."""

BYTES_PER_PIXEL = 0.05
"""Share of a byte below which a compressed file may hold one color alone."""


@dataclass
class Findings:
    """What was found in the files of a data set.

    Attributes:
        problems: Files that cannot be used, each an error that says what to do.
        warnings: What is odd and may be right, a line each.
        odd_masks: Images whose mask marks most of them.
        facts: What the headers of images say, each with how many say so.
    """

    problems: list[InputError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    odd_masks: list[Sample] = field(default_factory=list)
    facts: Counter[ImageFacts] = field(default_factory=Counter)


def inspect(dataset: Dataset, monitor: Monitor | None = None) -> Findings:
    """Read every mask, the header of every image, and the values of some; collect what is wrong.

    Args:
        dataset: All images.
        monitor: Shows progress; silent unless given.
    """
    samples = (*dataset.train_normal, *dataset.test_normal, *dataset.anomalous)
    findings = Findings()
    num_masks = 0
    of_one_color: list[Path] = []
    readings: dict[tuple[str, str], list[Path]] = defaultdict(list)
    turned: list[Path] = []
    in_doubt: list[Path] = []
    for sample in (monitor or Monitor()).track(
        samples, "checking the images", len(samples), "image"
    ):
        try:
            facts = read_facts(sample.image_path)
            findings.facts[facts] += 1
            if sample.mask is not None:
                num_masks += 1
                mask, was_turned = read_turned_mask(sample)
                for file in mask_files(sample.mask):
                    if reading := file.reading():
                        readings[reading].append(file.path)
                if was_turned is not False:
                    (turned if was_turned else in_doubt).append(sample.image_path)
                if _marks_most(mask):
                    findings.odd_masks.append(sample)
            elif not sample.is_anomalous and _may_be_mask(sample.image_path, facts):
                of_one_color.append(sample.image_path)
        except InputError as error:
            findings.problems.append(error)
    marking = [file for file in dataset.left_out.get(MASKS_BESIDE_NORMAL, ()) if _marks(file)]
    chosen = evenly_chosen(dataset.train_normal, MOST_DECODED)
    found = [
        _missing(dataset),
        _listed(
            dataset,
            [sample.image_path for sample in findings.odd_masks],
            f"of {num_masks} masks mark most of their image up to its border",
            "If they are inverted, save them with 0 for normal and 255 for anomalous. If the place "
            "of the defect is unknown, remove them: evaluation takes images without a mask as a "
            "whole",
        ),
        _listed(
            dataset,
            of_one_color,
            "normal images look like masks",
            "Leave them out, or move masks into a folder of their own",
        ),
        _listed(
            dataset,
            marking,
            "masks beside normal images mark something",
            "Move these images to the defective ones, or correct the masks",
        ),
        *(_listed(dataset, paths, *reading) for reading, paths in readings.items()),
        _listed(
            dataset,
            turned,
            "annotations are made for images as they are stored, which EXIF turns",
            "They are turned too",
        ),
        _listed(
            dataset,
            in_doubt,
            "annotated images are turned or mirrored by EXIF, which does not change their size",
            "Their annotations are taken as made upright, as most tools show images; where that is "
            "wrong, save the images without EXIF",
        ),
        None if findings.problems else _dark([sample.image_path for sample in chosen]),
    ]
    findings.warnings = [line for line in found if line]
    return findings


def check_dataset(dataset: Dataset, monitor: Monitor | None = None) -> Findings:
    """Read every mask and the header of every image, so that what does not fit is told at once.

    Args:
        dataset: All images.
        monitor: Shows progress; silent unless given.

    Raises:
        InputNotFoundError: A file has gone.
        InputValueError: An image or a mask does not fit.
    """
    findings = inspect(dataset, monitor)
    if findings.problems:
        first, *others = findings.problems
        more = f" {len(others)} more do not fit: `patchscout info` lists them." if others else ""
        raise type(first)(f"{first}{more}")
    return findings


def summary(dataset: Dataset, findings: Findings, split: Split | None = None) -> list[str]:
    """Return what was found in a data set as lines: the first words of training.

    Args:
        dataset: All images.
        findings: What `inspect` returned.
        split: Which of the images are trained and tested on, where that is known.
    """
    rows = [("layout", dataset.layout or "-")]
    normal = (*dataset.train_normal, *dataset.test_normal)
    rows.append(("normal", _counts(normal, split)))
    for defect_type in dataset.defect_types:
        samples = [s for s in dataset.anomalous if s.defect_type == defect_type]
        rows.append((defect_type, _counts(samples, split)))
    sizes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for facts, count in findings.facts.items():
        sizes[f"{facts.size[1]} x {facts.size[0]} px"] += count
        kinds[f"{facts.bits} bits {'grey' if facts.num_channels == 1 else 'color'}"] += count
    rows.append(("width x height", _most_common(sizes)))
    rows.append(("values", _most_common(kinds)))
    if paged := sum(count for facts, count in findings.facts.items() if facts.has_more_pages):
        rows.append(("pages", f"{paged} images have several; the first is read"))
    formats = Counter(_format_of(s) for s in dataset.anomalous if s.mask is not None)
    if dataset.anomalous:
        rows.append(("masks", _most_common(formats) or "none"))
    rows += [("left out", line) for line in left_out_lines(dataset.left_out, dataset.root)]
    width = min(max(len(printable(name)) for name, _ in rows), 24)
    lines = [f"Images of {dataset.name}"]
    lines += [f"  {printable(name):{width}}  {printable(text)}" for name, text in rows]
    return [*lines, *(f"Warning: {line}" for line in findings.warnings)]


def _counts(samples: Sequence[Sample], split: Split | None) -> str:
    """Return how many images there are, and what is done with them."""
    text = f"{len(samples)} images"
    if num_unknown := sum(not sample.has_mask for sample in samples):
        text += f", {num_unknown} without a mask"
    if split is None:
        return text
    paths = {sample.image_path for sample in samples}
    parts = (("to train on", (*split.train_normal, *split.labeled)), ("to test on", split.test))
    used = [(sum(s.image_path in paths for s in part), what) for what, part in parts]
    used.append((len(samples) - sum(count for count, _ in used), "not used"))
    return f"{text}: {', '.join(f'{count} {what}' for count, what in used if count)}"


def _most_common(counts: Counter[str]) -> str:
    """Return the three most frequent of some texts, each with its number where there are more."""
    shown = [f"{text} ({n})" if len(counts) > 1 else text for text, n in counts.most_common(3)]
    more = f", and {len(counts) - 3} more" if len(counts) > 3 else ""
    return ", ".join(shown) + more


def _format_of(sample: Sample) -> str:
    """Return what kind of annotation a mask comes from."""
    if mask_files(sample.mask):
        return "mask images"
    words = re.findall("[A-Z][a-z]*", type(sample.mask).__name__)
    known = {"LabelMeFile": "LabelMe", "AnnotatedMask": "annotations"}
    return known.get("".join(words), " ".join(words))


def _marks_most(mask: Mask) -> bool:
    """Return whether a mask marks most of its image up to the border, as an inverted one does."""
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return bool(mask.mean() >= MOST_MARKED and border.mean() >= MOST_OF_BORDER)


def _may_be_mask(path: Path, facts: ImageFacts) -> bool:
    """Return whether a file so small that it can hold no photo looks like a mask."""
    num_pixels = facts.size[0] * facts.size[1]
    return path.stat().st_size < BYTES_PER_PIXEL * num_pixels and looks_like_mask(path)


def _marks(path: Path) -> bool:
    """Return whether a mask has more than one value."""
    try:
        with open_image(path) as image:
            pixels = decode(image)
    except InputError:
        return True  # it cannot be told that it does not
    return bool(pixels.min() != pixels.max())


def _listed(dataset: Dataset, paths: Sequence[Path], what: str, remedy: str) -> str | None:
    """Return a line that names some files and says what to do, if there are any."""
    if not paths:
        return None
    names = ", ".join(relative_path(path, dataset.root) for path in paths[:3])
    return f"{len(paths)} {what} ({names}{', ...' if len(paths) > 3 else ''}). {remedy}."


def _missing(dataset: Dataset) -> str | None:
    """Return the line on defective images without masks."""
    unknown = [sample.image_path for sample in dataset.anomalous if not sample.has_mask]
    use = "They are not trained on, and evaluation takes them as whole images"
    if len(unknown) == len(dataset.anomalous):
        use = "Training uses simulated defects alone, and evaluation gives figures of images alone"
    looked_in = f"Looked in {dataset.looked_in}. " if dataset.looked_in else ""
    return _listed(dataset, unknown, "defective images have no mask", f"{looked_in}{use}")


def _dark(paths: Sequence[Path]) -> str | None:
    """Return the line on images that hardly use the range of values that they could."""
    peaks: dict[str, float] = {}
    for path in paths:
        with open_image(path) as image:
            pixels = decode(image)
        kind = pixels.dtype.name
        peaks[kind] = max(peaks.get(kind, 0.0), float(pixels.max()))
    found = f"The largest value of {len(paths)} normal images is"
    if "uint16" in peaks:
        peak = int(peaks["uint16"])
        bits = next((bits for bits in USUAL_BITS if peak < 2**bits), 16)
        what = f"{peak} of 65535: {bits} bits in files of 16"
        remedy = f"Multiply the values of all images by {2 ** (16 - bits)}"
        is_dark = bits < 16
    else:
        share = max(peaks.get("uint8", 0.0) / 255, peaks.get("float32", 0.0))
        what = f"{share:.3f} of the largest possible one: they are dark"
        remedy = "Scale the values of all images alike"
        is_dark = share < DARK
    if not is_dark:
        return None
    return f"{found} {what}. {remedy}, also of those to predict, or defects will be missed."
