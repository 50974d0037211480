"""YAML and JSON files of settings: plain values alone, checked against the limits as they are read.

What a file asks for is counted while its nodes are put together, aliases counted as what they
stand for, so that nothing is built that is larger than allowed.
"""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any, NoReturn

import yaml

from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.data.walk import size_of_file, status_of
from patchscout.limits import current_limits
from patchscout.text import shown

_NODES_PER_ALIAS = 1000
_SHARE_OF_FILE_MIB = 1 / 16  # 1 MiB of YAML takes seconds, and settings are a few lines
_NUMBER = re.compile(r"(?!.{65})[+-]?(?!0[\d_])[\d_.]+([eE][+-]?\d+)?")
"""Decimal and not thousands of digits; YAML also takes 010 for 8, and 1:30 for 90."""
_PREFIX = "tag:yaml.org,2002:"
_NUMBERS = {f"{_PREFIX}{name}" for name in ("int", "float")}
_TEXT, _BOOL, _MERGE = f"{_PREFIX}str", f"{_PREFIX}bool", f"{_PREFIX}merge"
_PLAIN = {*_NUMBERS, _TEXT, _BOOL, *(f"{_PREFIX}{name}" for name in ("null", "seq", "map"))}


def read_yaml(path: Path, option: str) -> Any:
    """Return what is in a YAML or JSON file: text, finite numbers, booleans, lists, mappings.

    Args:
        path: The file.
        option: What the file was given with, such as `--config`.

    Raises:
        InputNotFoundError: If the file is not there.
        InputValueError: If it is not YAML, holds other values, or asks for more than the limits
            `file_mib`, `depth`, `aliases` and `seconds` allow.
    """
    if status_of(path) is None:
        raise InputNotFoundError(f"`{option}` file {path} is not there. Check the path.")
    most_mib = current_limits().file_mib * _SHARE_OF_FILE_MIB
    if size_of_file(path, "Expected a YAML file") > most_mib * 2**20:
        raise InputValueError(
            f"{path} is larger than {most_mib:g} MiB, a sixteenth of `limits.file_mib`. Give a "
            "file of settings alone, or raise `--limits.file-mib`."
        )
    try:
        return _Loader(path.read_bytes().decode("utf-8"), path).get_single_data()
    except InputError:
        raise
    except OSError as error:
        raise InputValueError(
            f"{path} may not be read ({error.strerror}). Change its permissions."
        ) from error
    except (RecursionError, MemoryError) as error:
        raise InputValueError(
            f"{path} is nested too deep or too large for the memory. Shorten it, or lower "
            "`--limits.depth`."
        ) from error
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = shown(error.problem or error.context or "it is damaged")
        raise InputValueError(
            f"{path} is not valid YAML: {problem}{where}. Mend the file."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:  # characters that YAML does not have
        problem = shown(str(error))
        raise InputValueError(
            f"{path} is not valid YAML: {problem}. Mend the file, saved as UTF-8."
        ) from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader in Python, which counts and refuses.

    The one in C would recurse on the stack of the process.
    """

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self._path = path
        self._limits = current_limits()
        self._end = time.monotonic() + self._limits.seconds
        self._num_aliases = 0
        self._depth = 0
        # Of each complete node, by identity: how many nodes it stands for, and how deep it is.
        self._sizes: dict[int, tuple[int, int]] = {}

    def get_event(self) -> yaml.Event:
        """Count depth, aliases and time as parts of the file come in."""
        event = super().get_event()
        if isinstance(event, yaml.CollectionStartEvent):
            self._depth += 1
            self._check_depth(self._depth, event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            self._num_aliases += 1
            if self._num_aliases > self._limits.aliases:
                allowed = f"the {self._limits.aliases} aliases that `limits.aliases` allows"
                self._refuse(event, f"has more than {allowed}", "aliases")
        if time.monotonic() > self._end:
            allowed = f"takes more than the {self._limits.seconds:g} s of `limits.seconds`"
            self._refuse(event, allowed, "seconds")
        return event

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Put a node together, unless it stands for too much."""
        alias = self.peek_event() if self.check_event(yaml.AliasEvent) else None
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if alias is not None:
            if id(node) not in self._sizes:  # it is not complete yet
                self._refuse(alias, f"has `*{shown(alias.anchor)}` within what it stands for")
            return node
        if node.tag not in _PLAIN and not (node.tag == _MERGE and index is None):
            kind = shown(node.tag.removeprefix(_PREFIX))
            self._refuse(
                node,
                f"has a value of type `{kind}`; expected text, numbers, true, false, null, lists "
                "and mappings",
            )
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        sizes = [self._sizes[id(part)] for part in parts]
        size = 1 + sum(size for size, _ in sizes)
        depth = max((depth for _, depth in sizes), default=0)
        depth += isinstance(node, yaml.CollectionNode)
        most = _NODES_PER_ALIAS * self._limits.aliases
        if max(size, len(self._sizes)) > most:
            allowed = f"{most} values ({_NODES_PER_ALIAS} x `limits.aliases`)"
            self._refuse(node, f"stands for more than {allowed}", "aliases")
        self._check_depth(depth, node)
        self._sizes[id(node)] = size, depth
        return node

    def _check_depth(self, depth: int, at: yaml.Event | yaml.Node) -> None:
        if depth > self._limits.depth:
            allowed = f"the {self._limits.depth} levels that `limits.depth` allows"
            self._refuse(at, f"is nested deeper than {allowed}", "depth")

    def _check_keys(self, node: yaml.MappingNode) -> None:
        """Refuse keys that are no text, and those that are there twice; whole numbers are text."""
        seen = set()
        for key, _ in node.value:
            if key.tag == f"{_PREFIX}int":
                key.tag = _TEXT
                self.constructed_objects.pop(key, None)
            if key.tag not in (_TEXT, _MERGE) or not isinstance(key, yaml.ScalarNode):
                name = f"`{shown(key.value)}`" if isinstance(key, yaml.ScalarNode) else "a list"
                self._refuse(key, f"has {name} for a name; expected text, if need be in quotes")
            if key.value in seen:
                self._refuse(key, f"has `{shown(key.value)}` twice")
            seen.add(key.value)

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        """Refuse what is no text that can be written, or no number that can be computed with."""
        try:
            node.value.encode("utf-8")
            if node.tag in _NUMBERS and not _NUMBER.fullmatch(node.value):
                raise ValueError
            value = None if node.tag == _MERGE else self.construct_object(node)
        except (ValueError, LookupError):
            value = math.nan
        if isinstance(value, float) and not math.isfinite(value):
            kind = {_TEXT: "text", _BOOL: "boolean"}.get(node.tag, "finite decimal number")
            value = shown(node.value.encode("utf-8", "replace").decode())
            self._refuse(node, f"has `{value}`, which is no {kind} that can be used")

    def _refuse(self, at: yaml.Event | yaml.Node, what: str, limit: str = "") -> NoReturn:
        line = at.start_mark.line + 1
        remedy = f"Shorten it, or raise `--limits.{limit}`" if limit else "Mend the file"
        raise InputValueError(f"{self._path} {what} (line {line}). {remedy}.")
