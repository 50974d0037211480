"""`patchscout export RUN [IMAGE_OR_FOLDER...]`."""

from __future__ import annotations

from pathlib import Path

from patchscout.arguments import ExportArguments, parse
from patchscout.checks import InputValueError
from patchscout.commands.shell import console, named_images, typed
from patchscout.data.split import evenly_chosen
from patchscout.detector import PatchScout
from patchscout.exported import SUFFIXES

MOST_IMAGES = 16
"""An exported model is checked on at most so many images, evenly chosen."""


def run(arguments: list[str]) -> int:
    """Write a model file, and say how near it is to the model it was made of."""
    options = parse(ExportArguments, arguments, "patchscout export")
    scout = PatchScout.load(options.run, device="cpu")
    suffix = SUFFIXES[options.format]
    path = options.out or options.run / f"model{suffix}"
    if path.suffix != suffix:
        raise InputValueError(
            f"`--out` must end in {suffix} for `--format {options.format}`; got {path}."
        )
    if not path.parent.is_dir():
        raise InputValueError(f"`--out` folder {path.parent} is not there. Make it first.")
    files = [path, path.with_suffix(".bin")] if options.format == "openvino" else [path]
    there = [file for file in files if file.exists()]
    if options.out is not None and there and not options.overwrite:
        raise InputValueError(
            f"{there[0]} is there already. Name another file, or give `--overwrite`."
        )
    parity = scout.export(
        path,
        options.format,
        pixel_type=options.pixels,
        images=evenly_chosen(_images(options, scout), MOST_IMAGES),
        tolerance=options.tolerance,
    )
    console.print(f"Written to {path}. Compared with PyTorch, {parity}.")
    console.print(f"Next: {typed('predict', path)} IMAGES --out DIR")
    return 0


def _images(options: ExportArguments, scout: PatchScout) -> list[Path]:
    """Return the images that were named, else those that the model was trained and tested on."""
    if options.images:
        return [image for image, _ in named_images(options.images, apart_from=options.run)]
    images = scout.images_of_split()
    if not images:
        raise InputValueError(
            "The images that the model was trained on are not there any more, and the exported"
            " one is to be checked on some. Name image files or folders after the run folder."
        )
    return images
