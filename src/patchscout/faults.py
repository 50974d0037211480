"""Writes down a fault of the program itself, for the person to send."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from patchscout.text import shell_word

PACKAGES = (
    *("patchscout", "torch", "numpy", "pydantic", "tyro", "rich", "pillow", "tifffile"),
    *("opencv-python-headless", "safetensors", "PyYAML", "onnx", "onnxruntime", "openvino"),
)


def write_report(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write traceback, command, versions and system to a new file.

    Args:
        error: What went wrong.
        arguments: What the person typed after the program's name.

    Returns:
        The file, in the current folder, or in that for temporary files if that one cannot be
        written to; None if neither can.
    """
    name = f"patchscout-error-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    content = _report(error, arguments).encode(errors="backslashreplace")
    for folder in (Path(), Path(tempfile.gettempdir())):
        path = folder / name
        try:
            # Never into a file, or through a link, that is there already.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            continue
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        except OSError:  # such as a full disk
            path.unlink(missing_ok=True)
            continue
        return path
    return None


def _report(error: BaseException, arguments: Sequence[str]) -> str:
    command = " ".join(map(shell_word, ("patchscout", *arguments)))
    versions = [f"{package} {found}" for package in PACKAGES if (found := _version(package))]
    return "\n".join(
        [
            f"command: {command}",
            f"system: {platform.platform()}, Python {sys.version.split()[0]}",
            f"versions: {', '.join(versions)}",
            "",
            *(part.rstrip("\n") for part in traceback.format_exception(error)),
            "",
        ]
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
