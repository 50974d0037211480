"""JSON files that people hand in, read within the limits and with errors of one line."""

from __future__ import annotations

import json
import math
import re
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, PlainValidator, ValidationError

from patchscout.checks import InputValueError
from patchscout.data.walk import size_of_file
from patchscout.limits import current_limits
from patchscout.text import shown

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_AT_ONCE = 1 << 20


def read_json_object(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Args:
        path: The file.
        what: What it should be, with its article, such as `a LabelMe file`.

    Raises:
        InputNotFoundError: There is no such file.
        InputValueError: It is not JSON, not an object, or beyond the limits on size and depth.
    """
    return parse_json_object(read_limited(path, what), path, what)


def read_limited(path: Path, what: str) -> bytes:
    """Read a file of text within the limit on its size, see `read_json_object`."""
    limit_mib = current_limits().file_mib
    size = size_of_file(path, f"Expected {what}")
    data = b""
    try:
        if size <= limit_mib << 20:
            with path.open("rb") as file:
                data = file.read((limit_mib << 20) + 1)  # it may have grown
    except OSError as error:
        raise InputValueError(
            f"{path} is not readable ({_reason(error)}). Expected {what}; change its permissions."
        ) from error
    if max(size, len(data)) > limit_mib << 20:
        raise InputValueError(
            f"{path} has {math.ceil(size / 2**20)} MiB; at most {limit_mib} MiB are read. "
            f"Expected {what}; divide it, or raise `--limits.file-mib`."
        )
    return data


def parse_json_object(data: bytes, path: Path, what: str) -> dict[str, Any]:
    """Read the content of a JSON file that holds one object, see `read_json_object`."""
    content = parse_json(data, path, what)
    if not isinstance(content, dict):
        raise InputValueError(
            f"{path} holds a JSON {type(content).__name__}. Expected {what}; export it again."
        )
    return content


def parse_json(data: bytes, path: Path, what: str) -> Any:
    """Read the content of a JSON file, see `read_json_object`."""
    _check_depth(data, path)
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=partial(_object, path))
    except InputValueError:
        raise
    except (RecursionError, ValueError) as error:
        raise _not_readable(path, what, error) from error


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, refused where of two values under one key the first would be lost."""
    content = dict(pairs)
    if len(content) < len(pairs):
        for key, value in pairs:
            if content[key] != value:
                raise InputValueError(
                    f"{path} has the key {shown(key)!r} twice in one object, with the values "
                    f"{shown(value, 40)} and {shown(content[key], 40)}. Remove one of them."
                )
    return content


def _not_readable(path: Path, what: str, error: Exception) -> InputValueError:
    return InputValueError(
        f"{path} is not readable JSON ({_reason(error)}). Expected {what}; export it again."
    )


def _check_depth(data: bytes, path: Path) -> None:
    """Refuse JSON that is nested deeper than the limit, without following it down."""
    outside_strings = b"".join(re.sub(rb"\\.", b"", data, flags=re.DOTALL).split(b'"')[::2])
    brackets = outside_strings.translate(None, delete=_NOT_BRACKETS)
    limit, depth = current_limits().depth, 0
    for start in range(0, len(brackets), _AT_ONCE):
        part = np.frombuffer(brackets[start : start + _AT_ONCE], np.uint8)
        opens = (part == ord("[")) | (part == ord("{"))
        depths = depth + np.cumsum(np.where(opens, 1, -1))
        if depths.max() > limit:
            raise InputValueError(
                f"{path} is nested more than {limit} deep. Export it again, or raise "
                "`--limits.depth`."
            )
        depth = int(depths[-1])


def _reason(error: Exception) -> str:
    """Return in a few words why a file is not JSON."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, json.JSONDecodeError):
        return str(error)
    return "it has a number of thousands of digits"


Model = TypeVar("Model", bound=BaseModel)


def parse_entry(model: type[Model], value: object, where: str, remedy: str) -> Model:
    """Return a part of a file as a model.

    Args:
        model: What it must look like.
        value: The part.
        where: File and entry, the start of the message.
        remedy: What the file should be and what to do, the end of the message.

    Raises:
        InputValueError: It does not fit; the message names field, expectation and value.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    field = "".join(f"[{part}]" if i else str(part) for i, part in enumerate(first["loc"]))
    field = f"`{field}` " if field else ""
    if first["type"] == "missing":
        raise InputValueError(f"{where}: {field}is missing. {remedy}")
    must_be = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not first["loc"]:
        must_be = "it must be an object with fields"
    raise InputValueError(f"{where}: {field}{must_be}; got {shown(first['input'])}. {remedy}")


def is_number(value: object) -> bool:
    """Return whether a JSON value is a finite number; true and false are none."""
    if type(value) not in (int, float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max  # pyright: ignore[reportOperatorIssue]


def number_array(values: list[Any]) -> np.ndarray:
    """Return a list of finite numbers in a JSON file as float64.

    Raises:
        ValueError: Something else is among them.
    """
    try:
        numbers = np.array(values if set(map(type, values)) <= {int, float} else [np.nan], float)
    except OverflowError:
        numbers = np.array([np.inf])
    if not np.isfinite(numbers).all():
        wrong = next(value for value in values if not is_number(value))
        raise ValueError(f"must be finite numbers, not {shown(wrong)}")
    return numbers


def _number(value: Any) -> float:
    if not is_number(value):
        raise ValueError("must be a finite number")
    return float(value)


def _whole(value: Any) -> int | None:
    """Return a JSON value as a whole number, which some tools write as 512.0, else None."""
    if is_number(value) and value == math.floor(value):
        return int(value)
    return value if type(value) is int else None


def _side(value: Any) -> int:
    whole = _whole(value)
    if whole is None or not 1 <= whole < 1 << 31:
        raise ValueError("must be a whole number of pixels, 1 or more")
    return whole


def _identifier(value: Any) -> str:
    whole = value if isinstance(value, str) else _whole(value)
    if whole is None:
        raise ValueError("must be a whole number or a text")
    return str(whole)


def _text(value: Any) -> str:
    # Not pydantic's own, which refuses file names that are not UTF-8.
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


Number = Annotated[float, PlainValidator(_number)]
"""A finite number."""
Side = Annotated[int, PlainValidator(_side)]
"""Width or height in pixels."""
Identifier = Annotated[str, PlainValidator(_identifier)]
"""What tells an entry from others: tools write one number as 7, 7.0 or "7"."""
Text = Annotated[str, PlainValidator(_text)]
"""Any text, a file name that is not UTF-8 included."""
