"""Progress on the screen and figures in the run folder, while something long goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from tqdm import tqdm

from patchscout.checks import InputValueError
from patchscout.text import printable

Item = TypeVar("Item")


class Monitor:
    """Draws progress bars and keeps logged figures.

    Args:
        quiet: Draw nothing.
        folder: The run folder, where `metrics.jsonl` is written; None keeps no figures.
        tensorboard: Write TensorBoard logs there too (needs the `tensorboard` extra).
    """

    def __init__(
        self, *, quiet: bool = True, folder: Path | None = None, tensorboard: bool = False
    ) -> None:
        self.quiet = quiet
        self.folder = folder
        self._file: IO[str] | None = None
        self._writer: Any = None
        if folder is not None:
            self._file = (folder / "metrics.jsonl").open("w", encoding="utf-8", buffering=1)
            if tensorboard:
                self._writer = _summary_writer(folder)

    def track(
        self, items: Iterable[Item], description: str, total: int | None = None, unit: str = "step"
    ) -> Iterator[Item]:
        """Yield the items while a bar shows rate and remaining time."""
        yield from tqdm(
            items,
            desc=printable(description),
            total=total,
            unit=unit,
            disable=self.quiet,
            dynamic_ncols=True,
            delay=0.5,
        )

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Keep figures of one training step, each under a name such as `autoencoder/loss`."""
        if self._file is not None:
            rounded = {name: float(f"{value:.6g}") for name, value in figures.items()}
            self._file.write(json.dumps({"step": step, **rounded}) + "\n")
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def say(self, line: str) -> None:
        """Print a line between progress bars, if there still is something to print it to."""
        if not self.quiet:
            with suppress(OSError):  # the terminal is gone: not worth the model
                tqdm.write(printable(line))

    def close(self) -> None:
        """Finish the files."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputValueError(
            "`tensorboard` needs TensorBoard. Run `pip install patchscout[tensorboard]`."
        ) from None
    return SummaryWriter(folder / "tensorboard")
