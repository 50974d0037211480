"""How much a file that someone hands in may ask for, checked before the work is done."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Whole = Annotated[int, Field(ge=1)]


class Limits(BaseModel):
    """Limits on what is read; each can be raised where files are trusted and memory suffices."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    megapixels: Annotated[float, Field(gt=0, le=175)] = 64.0
    """Pixels of an image, in millions."""
    decoded_mib: Whole = 1024
    """What the pixels of an image may take at its own depth, in MiB; as float32 RGB, as which it is
    worked on, it takes 12 bytes a pixel beside that."""
    file_mib: Whole = 64
    """Size of an annotation file, in MiB; a settings file may have a sixteenth of it."""
    points: Whole = 1_000_000
    """Corners of all shapes, or runs of all masks, that one image has in an annotation file."""
    aliases: Whole = 100
    """Aliases in a YAML file, which may stand for a thousand times as many values in all."""
    depth: Whole = 64
    """How deep a JSON or YAML file may be nested."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """Time to read one annotation or image file; looked at between its parts."""


_limits = Limits()


def current_limits() -> Limits:
    """Return the limits that hold in this process."""
    return _limits


def set_limits(limits: Limits) -> None:
    """Let other limits hold in this process, for all of its threads."""
    global _limits
    _limits = limits
