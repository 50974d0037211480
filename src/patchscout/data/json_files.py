"""JSON files that people hand in, read with errors of one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from patchscout.checks import InputNotFoundError, InputValueError


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Args:
        path: The file.
        what: What it should be, with its article, such as `a LabelMe file`.

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputNotFoundError(
            f"{path} does not exist. Expected {what}; check the path."
        ) from error
    except (OSError, RecursionError, ValueError) as error:
        raise InputValueError(
            f"{path} is not readable JSON ({error}). Expected {what}; export it again."
        ) from error
    if not isinstance(content, dict):
        raise InputValueError(
            f"{path} holds a JSON {type(content).__name__}. Expected {what}; export it again."
        )
    return content


def refuse_newer(version: object, newest: int, path: Path) -> None:
    """Refuse a file whose `format_version` is above the newest one that is known.

    Raises:
        InputValueError: It is; the message names `path`.
    """
    if isinstance(version, int) and version > newest:
        raise InputValueError(
            f"{path} has format {version}; this PatchScout reads up to {newest}. Update it."
        )


def parse_json_object(text: bytes, path: Path, what: str) -> dict[str, Any]:
    import json as j

    try:
        content = j.loads(text)
    except (RecursionError, ValueError) as error:
        raise InputValueError(
            f"{path} is not readable JSON ({error}). Expected {what}; export it again."
        ) from error
    if not isinstance(content, dict):
        raise InputValueError(
            f"{path} holds a JSON {type(content).__name__}. Expected {what}; export it again."
        )
    return content
