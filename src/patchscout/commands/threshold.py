"""`patchscout threshold RUN`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from patchscout.arguments import ThresholdArguments, parse
from patchscout.checkpoint import (
    CARD_FILE,
    CONFIG_FILE,
    EXPORTED_FILES,
    METRICS_FILE,
    RunCompletion,
    RunDescription,
    Trained,
    describe_run,
    write_config,
)
from patchscout.checks import InputValueError
from patchscout.commands.shell import console, named_images, typed
from patchscout.commands.train import tell_decision
from patchscout.decision import ImageScores, conflict, decide
from patchscout.detector import PatchScout
from patchscout.monitor import Monitor
from patchscout.presets import changed_settings
from patchscout.report import write_card


def run(arguments: list[str]) -> int:
    """Decide anew, save the decision, and say what it promises and what is out of date."""
    options = parse(ThresholdArguments, arguments, "patchscout threshold")
    described = describe_run(options.run)
    if described.trained is None:
        raise InputValueError(f"{options.run} holds no trained model: training was stopped early.")
    before = described.trained
    given = ("max_false_alarms", "min_detected", "pixel_size", "min_area", "min_length")
    kept = before.decision.asked
    if options.min_detected is not None and options.max_false_alarms is None:
        kept = kept.model_copy(update={"max_false_alarms": None})
    if options.max_false_alarms is not None and options.min_detected is None:
        kept = kept.model_copy(update={"min_detected": None})
    asked = changed_settings(kept, **{name: getattr(options, name) for name in given})
    pixel = before.decision.with_thresholds(None, options.pixel_threshold).pixel_threshold
    scores = _new_scores(options, before.scores)
    refused = conflict(scores, asked)
    if refused:
        raise InputValueError(f"{refused}. Nothing was changed. Give only one of the two.")
    trained = replace(before, decision=decide(scores, pixel, asked), scores=scores)
    _save(options.run, described, trained)
    console.print(
        f"An image is defective from a score of {trained.decision.threshold_probability:.3f} on"
        f" (before: {before.decision.threshold_probability:.3f}), a pixel from {pixel:.3f} on."
    )
    tell_decision(trained)
    stale = [name for name in EXPORTED_FILES if (options.run / name).is_file()]
    if stale:
        console.print(
            f"{', '.join(stale)} and other exports decide as before. Next:"
            f" {typed('export', options.run)}"
        )
    if (options.run / METRICS_FILE).is_file():
        console.print(
            f"{METRICS_FILE} is of the former decision. Next: {typed('evaluate', options.run)} DATA"
        )
    return 0


def _save(folder: Path, described: RunDescription, trained: Trained) -> None:
    """Write config.json and the card of a run anew, unless it was replaced meanwhile."""
    with RunCompletion(folder, (CONFIG_FILE, CARD_FILE), described.identity) as files:
        write_config(files, described.config, trained, described.digests)
        write_card(files, described.config, trained)


def _new_scores(options: ThresholdArguments, stored: ImageScores) -> ImageScores:
    """Return the stored scores, or those of the images that are given."""
    if options.good is None and options.defective is None:
        return stored
    scout = PatchScout.load(options.run, device=options.device)
    known = {path.resolve() for path in scout.images_of_split()}
    trained_on = {path.resolve() for path in scout.images_trained_on()}
    monitor = Monitor(quiet=options.quiet)
    of_test_images = stored.of_test_images and None in (options.good, options.defective)

    def scores(folder: Path) -> tuple[float, ...]:
        paths = [path for path, _ in named_images((folder,), apart_from=options.run)]
        seen = next((path for path in paths if path.resolve() in trained_on), None)
        if seen is not None:
            raise InputValueError(
                f"{seen} was trained on, so its score says nothing about new images. Name a folder"
                " of others."
            )
        nonlocal of_test_images
        if not known.isdisjoint(path.resolve() for path in paths):
            of_test_images = True
            console.print(
                f"{folder} holds test images of this run: what `evaluate` finds on them is too good"
                " from now on."
            )
        named = monitor.track(paths, f"scoring {folder.name}", len(paths), "image")
        return tuple(scout.predict(path).image_score for path in named)

    new = stored
    if options.good is not None:
        new = replace(new, normal=scores(options.good))
    if options.defective is not None:
        new = replace(new, defective=scores(options.defective), kind="new")
    return replace(new, of_test_images=of_test_images)
