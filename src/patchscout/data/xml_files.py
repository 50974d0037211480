"""XML files that people hand in, read within the limits; entities are never expanded."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from patchscout.checks import InputError, InputValueError
from patchscout.data.clock import Clock
from patchscout.limits import current_limits

MOST_NODES = 5_000_000
"""Elements and attributes of a file, which take up to 300 bytes each."""


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree as long as it is no deeper than allowed and declares no entities."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.depth = 0
        self.num_nodes = 0
        self._clock = Clock(path)

    def doctype(self, *_: Any) -> None:
        """Refuse a document type, which alone can declare entities, before it is read."""
        raise ValueError("it has a document type declaration, which may hide what it holds")

    def start(self, tag: Any, attrs: dict[Any, Any], /) -> Element:
        """Count depth and nodes, and look at the clock."""
        self._clock.check()
        self.depth += 1
        self.num_nodes += 1 + len(attrs)
        if self.num_nodes > MOST_NODES:
            raise ValueError(f"it has more than {MOST_NODES:,} elements and attributes")
        if self.depth > current_limits().depth:
            raise ValueError(f"it is nested more than {current_limits().depth} deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        """Count the depth."""
        self.depth -= 1
        return super().end(tag)


def parse_xml(data: bytes, path: Path) -> Element:
    """Return the root of an XML file.

    Raises:
        InputValueError: It is no XML, nested too deep, or has a document type declaration.
    """
    try:
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_Builder(path)))
    except InputError:
        raise
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputValueError(
            f"{path} is not XML that can be read ({error}). Expected an export of CVAT; export it "
            "again."
        ) from error
