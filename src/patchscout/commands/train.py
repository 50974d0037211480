"""`patchscout train DATA --out RUN`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from patchscout.arguments import parse_train
from patchscout.checkpoint import CONFIG_FILE, PICTURE_FILE, RunFolder, Trained
from patchscout.commands.shell import console, typed
from patchscout.config import Config
from patchscout.decision import conflict, promises
from patchscout.detector import PatchScout
from patchscout.monitor import Monitor
from patchscout.report import one_of_each_type, write_card, write_picture


def run(arguments: list[str]) -> int:
    """Train, and say what to do next."""
    options = parse_train(arguments)
    scout = PatchScout(options.settings)
    reads = data_paths(options.data, options.settings)
    with RunFolder(options.out, overwrite=options.overwrite, reads=reads) as folder:
        monitor = Monitor(
            quiet=options.quiet, folder=folder, tensorboard=options.settings.tensorboard
        )
        try:
            scout.fit(options.data, monitor=monitor)
        finally:
            monitor.close()
        scout.write(folder)
        if scout.is_trained:
            assert scout.split is not None
            with suppress(KeyboardInterrupt):  # the picture is not worth the model
                write_picture(
                    scout,
                    one_of_each_type(scout.split.labeled or scout.split.train_normal),
                    folder / PICTURE_FILE,
                )
            write_card(folder, scout.config, scout.trained)
    if scout.is_trained and scout.record.is_complete:
        console.print(f"Trained in {scout.record.seconds:.0f} s. The model is in {options.out}.")
        tell_decision(scout.trained)
        if scout.split is not None and scout.split.has_test_defects:
            console.print(f"Next: {typed('evaluate', options.out, options.data)}")
        else:  # nothing to evaluate on
            console.print(f"Next: {typed('predict', options.out)} IMAGES --out DIR")
        return 0
    config_file = options.out / CONFIG_FILE
    again = typed("train", options.data, "--config", config_file, "--out", options.out)
    if scout.is_trained:
        console.print(
            f"Stopped after {scout.record.num_steps} steps. {options.out} holds the model as it was"
            " then and can be evaluated and used."
        )
    else:
        console.print(
            f"Stopped before there was a model. {options.out} holds the settings and the split."
        )
    console.print(f"To train to the end: {again} --overwrite")
    return 130


def tell_decision(trained: Trained) -> None:
    """Say what the decision promises, and what cannot be had."""
    for line in promises(trained.decision, trained.scores.kind):
        console.print(line)
    refused = conflict(trained.scores, trained.decision.asked)
    if refused:
        console.print(f"What was asked for, {refused}. The budget holds.")


def data_paths(root: Path, config: Config) -> list[Path]:
    """Return where the images and masks of a data set are."""
    data = config.data
    return [
        root / (data.normal or "train"),
        root / (data.defective or "test"),
        root / (data.masks or data.defective or "ground_truth"),
        *(root / path for path in (data.roi, data.ignore) if path is not None),
    ]
