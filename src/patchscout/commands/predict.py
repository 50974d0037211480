"""`patchscout predict MODEL IMAGE_OR_FOLDER... --out DIR`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from patchscout.arguments import PredictArguments, parse
from patchscout.checks import InputValueError, about
from patchscout.commands.image_files import named_images
from patchscout.commands.shell import console, tell
from patchscout.data.images import read_image
from patchscout.exported import ExportedModel
from patchscout.memory import keep_freed_memory
from patchscout.monitor import Monitor
from patchscout.outputs import PredictionWriter
from patchscout.types import Image, Prediction, make_prediction


def run(arguments: list[str]) -> int:
    """Find defects in images, and write what was found."""
    options = parse(PredictArguments, arguments, "patchscout predict")
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise InputValueError(f"`--threshold` must be in [0, 1]; got {options.threshold}.")
    images = named_images(options.images, apart_from=options.out)
    reads = [options.model, *(path for path, _ in images)]
    keep_freed_memory()
    monitor = Monitor(quiet=options.quiet)
    num_anomalous = 0
    with PredictionWriter(options.out, options.overwrite, reads) as writer:
        find_defects = _load(options.model, options.device)
        # All of them first, so that a damaged one does not end the work in the middle.
        for path, _ in monitor.track(images, "checking the images", len(images), "image"):
            read_image(path)
        for path, folder in monitor.track(images, "predicting", len(images), "image"):
            image = read_image(path)
            with about(path):
                found = find_defects(image)
            if options.threshold is not None:
                found = make_prediction(found.anomaly_map, options.threshold)
            writer.write(path, image, found, folder)
            num_anomalous += found.is_anomalous
    console.print(f"{num_anomalous} of {len(images)} images are defective. See {options.out}.")
    return 0


def _load(model: Path, device: str) -> Callable[[Image], Prediction]:
    """Return what finds defects in an image."""
    if model.is_file():
        if device != "auto":
            raise InputValueError(
                f"`--device` is for run folders; {model} is a file, whose library decides."
                " Leave it out."
            )
        exported = ExportedModel.load(model)
        tell(exported.note)
        return exported.predict
    from patchscout.detector import PatchScout  # needs PyTorch, which a model file may not

    scout = PatchScout.load(model, device=device)
    tell(scout.note)
    return scout.predict
