"""`patchscout predict MODEL IMAGE_OR_FOLDER... --out DIR`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from patchscout import drift
from patchscout.arguments import PredictArguments, parse
from patchscout.checks import InputValueError, about
from patchscout.commands.shell import console, named_images
from patchscout.data.images import read_image
from patchscout.decision import Decision, check_thresholds
from patchscout.exported import ExportedModel
from patchscout.memory import keep_freed_memory
from patchscout.monitor import Monitor
from patchscout.outputs import PredictionWriter
from patchscout.prediction import Prediction, make_prediction
from patchscout.presets import changed_settings
from patchscout.types import Image
from patchscout.waiting import num_cores

MOST_AT_ONCE, PIXELS_AT_ONCE = 4, 64_000_000
"""Images that are scored side by side on a CPU: no more of either, so that they fit into memory."""

FindDefects = Callable[[Image], Prediction]


def run(arguments: list[str]) -> int:
    """Find defects in images, and write what was found."""
    options = parse(PredictArguments, arguments, "patchscout predict")
    check_thresholds(options.score_threshold, options.pixel_threshold)
    images = named_images(options.images, options.out, quiet=options.quiet)
    reads = [options.model, *(path for path, _ in images)]
    keep_freed_memory()
    monitor = Monitor(quiet=options.quiet)
    num_anomalous = 0
    changes: list[tuple[str, ...]] = []
    scores: list[float] = []
    with PredictionWriter(options.out, options.overwrite, reads) as writer:
        find_defects, num_at_once, decision, normal_scores = _load(options.model, options.device)
        decision = _changed(decision, options)
        paths = [path for path, _ in images]
        # All of them first, so that a damaged one does not end the work in the middle.
        checked = monitor.track(paths, "checking the images", len(images), "image")
        largest = max(read_image(path)[..., 0].size for path in checked)
        num_at_once = min(num_at_once, PIXELS_AT_ONCE // largest - 1)  # one more is being written
        scored = _in_turn(find_defects, paths, num_at_once)
        done = zip(images, scored, strict=True)
        for (path, folder), (image, found) in monitor.track(
            done, "predicting", len(images), "image"
        ):
            if decision != found.decision:
                found = make_prediction(
                    found.anomaly_map, found.image_score, decision, found.unlike_training
                )
            changes.append(found.unlike_training)
            scores.append(found.image_score)
            writer.write(path, image, found, folder)
            num_anomalous += found.is_anomalous
    console.print(f"{num_anomalous} of {len(images)} images are defective. See {options.out}.")
    for line in (drift.summary(changes), drift.higher_scores(scores, normal_scores)):
        if line is not None:
            console.print(line)
    return 0


def _changed(decision: Decision, options: PredictArguments) -> Decision:
    """Return the decision with what is given."""
    if options.pixel_size is not None:
        decision = decision.model_copy(
            update={"asked": changed_settings(decision.asked, pixel_size=options.pixel_size)}
        )
    return decision.with_thresholds(options.score_threshold, options.pixel_threshold)


def _in_turn(
    find_defects: FindDefects, paths: Sequence[Path], num_at_once: int
) -> Iterator[tuple[Image, Prediction]]:
    """Yield each image and what was found in it, in their order; so many are scored ahead.

    Threads with an image each never wait for each other, as those that share one do: beside other
    work on the machine that is what takes the time.
    """

    def score(path: Path) -> tuple[Image, Prediction]:
        image = read_image(path)
        with about(path):
            return image, find_defects(image)

    if num_at_once < 1:
        yield from map(score, paths)
        return
    with ThreadPoolExecutor(num_at_once) as pool:
        waiting = deque(pool.submit(score, path) for path in paths[:num_at_once])
        try:
            for path in paths[num_at_once:]:
                found = waiting.popleft().result()
                waiting.append(pool.submit(score, path))
                yield found
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _load(model: Path, device: str) -> tuple[FindDefects, int, Decision, Sequence[float]]:
    """Return what finds defects in an image, and what is known of it.

    That is how many images may be scored at once, the decision, and scores of normal images, which
    exported models do not have.
    """
    named = os.environ.get("OMP_NUM_THREADS", "")
    num_threads = int(named) if named.isdecimal() and int(named) else num_cores()
    num_at_once = min(num_threads, MOST_AT_ONCE)
    if model.is_file():
        if device != "auto":
            raise InputValueError(
                f"`--device` is for run folders; {model} is a file, whose library decides."
                " Leave it out."
            )
        exported = ExportedModel.load(model, num_threads=num_threads // num_at_once)
        return exported.predict, num_at_once, exported.facts.decision, ()
    import torch  # a model file may do without it

    from patchscout.detector import PatchScout

    scout = PatchScout.load(model, device=device)
    if scout.device.type != "cpu":
        num_at_once = 1
    else:
        torch.set_num_threads(num_threads // num_at_once)
    return scout.predict, num_at_once, scout.decision, scout.trained.scores.normal
