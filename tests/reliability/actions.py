"""What is done to a run folder, again and again, while the disk fails: save, publish, predict."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from unittest import mock

from models import Pair, listing

from patchscout import PatchScout
from patchscout.arguments import TrainArguments, parse_train
from patchscout.cli import main
from patchscout.data.images import read_image
from patchscout.monitor import Monitor
from patchscout.outputs import PredictionWriter

Action = Callable[[Pair, Path], int]
"""Puts the new model in place of the old one in a run folder, and returns an exit code."""


def save(pair: Pair, run: Path) -> int:
    """Save the new model from Python."""
    pair.new.save(run, overwrite=True)
    return 0


def publish(pair: Pair, run: Path) -> int:
    """Do what `patchscout train --overwrite` does, but for the training itself.

    Training, the parsing of the settings and all but one of the pictures are left out: they
    take a second and touch nothing in the folder.
    """

    def fit(scout: PatchScout, data: object, *, monitor: Monitor) -> PatchScout:
        monitor.log(1, {"autoencoder/loss": 0.5})
        vars(scout).update(vars(pair.new))
        return scout

    arguments = (str(pair.data), "--out", str(run), "--overwrite", "--quiet")
    with (
        mock.patch.object(PatchScout, "fit", fit),
        mock.patch("patchscout.commands.train.parse_train", return_value=_parsed(arguments)),
        mock.patch("patchscout.commands.train.one_of_each_type", lambda samples: samples[:1]),
    ):
        return main(["train", *arguments])


@lru_cache
def _parsed(arguments: tuple[str, ...]) -> TrainArguments:
    return parse_train(list(arguments))


def predict(pair: Pair, out: Path) -> int:
    """Write predictions of three images to a new folder, as `patchscout predict` does."""
    images = sorted((pair.data / "test").rglob("*.png"))[:3]
    with PredictionWriter(out) as writer:
        for path in images:
            writer.write(path, read_image(path), pair.old.predict(path), pair.data)
    return 0


def undisturbed(pair: Pair, run: Path, action: Action) -> set[str]:
    """Return the names in a run folder after an action that nothing went wrong in."""
    assert action(pair, run) == 0
    assert pair.which(run) == "new"
    return listing(run)
