"""What may be left of a folder after a power cut, worked out from the calls that wrote it.

The model of durability is the least that POSIX promises:

1. What is in a file is on disk once `fsync` was called on it, and not before.
2. A name (made, moved, removed) is on disk once `fsync` was called on its folder; a move, on the
   folder that it leads to. Of one folder, names reach the disk in the order they were changed in.
3. A move is done as a whole or not at all.

`Disk.states` yields what a disk may hold that keeps these promises and no other: nothing that
was not flushed; all names, with files that are empty or full of zeros; and parts drawn at random.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from faults import Call, Watch, watched

Tree = dict[str, bytes | None]
"""Content by relative path; None for a folder."""

WRITES = ("write", "truncate", "ftruncate", "close")


@dataclass(eq=False)
class Node:
    """A file or a folder, whatever its name.

    Attributes:
        is_folder: Which of both.
        entries: What is in a folder, as a program sees it.
        history: Of a file: from which moment on it held what, and of that what was flushed.
    """

    is_folder: bool
    entries: dict[str, Node] = field(default_factory=dict)
    history: list[tuple[int, bytes, bytes]] = field(default_factory=list)

    def at(self, moment: int) -> tuple[bytes, bytes]:
        """Return the content and the flushed content at a moment."""
        held = [(content, flushed) for since, content, flushed in self.history if since <= moment]
        return held[-1] if held else (b"", b"")


@dataclass(eq=False)
class Change:
    """Names in one or two folders that change together.

    Attributes:
        moment: When.
        edits: Folder, name, and what is there then.
        durable_from: From which moment on it is surely on disk.
    """

    moment: int
    edits: list[tuple[Node, str, Node | None]]
    durable_from: float = math.inf

    @property
    def folder(self) -> Node:
        """The folder whose flushing makes it durable."""
        return self.edits[-1][0]


class Disk(Watch):
    """Follows the calls below a folder; what is there at first is on disk."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        self.moment = 0
        self.changes: list[Change] = []
        self.top = self._read(self.root)
        self._start = {id(node): dict(node.entries) for node in self._folders(self.top)}

    def after(self, call: Call) -> None:
        """Follow one call."""
        self.moment += 1
        name, path = call.name, call.path
        if name == "open" and call.makes:
            self._made(path)
        elif name in WRITES and (node := self._find(path)) and not node.is_folder:
            self._written(node, path)
        elif name in ("fsync", "fdatasync"):
            self._flushed(path)
        elif name == "mkdir":
            self._change((path, Node(is_folder=True)))
        elif name in ("unlink", "remove", "rmdir"):
            self._change((path, None))
        elif name in ("rename", "replace"):
            assert call.target is not None
            self._change((path, None), (call.target, self._find(path)))
        elif name == "link":
            assert call.target is not None
            self._change((call.target, self._find(path)))
        elif name == "symlink":
            raise NotImplementedError("links are not part of the model")

    def states(self, moment: int, num_random: int = 3) -> Iterator[tuple[str, Tree]]:
        """Yield what may be left after a power cut, with a name for each.

        Args:
            moment: So many calls were made before.
            num_random: How many states are drawn at random.
        """
        flushed = [change for change in self.changes if change.durable_from <= moment]
        all_names = [change for change in self.changes if change.moment <= moment]
        yield "what was flushed", self._tree(flushed, moment, _flushed)
        yield "all", self._tree(all_names, moment, _content)
        yield "names of empty files", self._tree(all_names, moment, _cut_off)
        yield "names of files of zeros", self._tree(all_names, moment, _zeroed)
        for seed in range(num_random):
            rng = random.Random(f"{moment}/{seed}")
            kept = self._some_changes(all_names, moment, rng)
            tree = self._tree(kept, moment, lambda a, b, rng=rng: rng.choice(LEFT)(a, b))
            yield f"some, drawn by {moment}/{seed}", tree

    def check(self) -> None:
        """Raise AssertionError if something was written by calls that were not seen."""
        seen = self._tree(self.changes, self.moment, _content)
        assert seen == read_tree(self.root), "calls were missed: something writes in C"

    def _made(self, path: Path) -> None:
        node = self._find(path)
        if node is None:
            node = Node(is_folder=False)
            self._change((path, node))
        if not node.is_folder:
            self._written(node, path)

    def _written(self, node: Node, path: Path) -> None:
        content, flushed = node.at(self.moment)
        if (now := path.read_bytes()) != content:
            node.history.append((self.moment, now, flushed))

    def _flushed(self, path: Path) -> None:
        node = self._find(path)
        if node is None:
            return  # removed while it was open
        if not node.is_folder:
            now = path.read_bytes()
            node.history.append((self.moment, now, now))
            return
        for change in self.changes:
            if change.folder is node:
                change.durable_from = min(change.durable_from, self.moment)

    def _change(self, *edits: tuple[Path, Node | None]) -> None:
        found = []
        for path, node in edits:
            folder = self._find(path.parent)
            assert folder is not None, f"{path.parent} was made by calls that were not seen"
            found.append((folder, path.name, node))
            _put(folder.entries, path.name, node)
        self.changes.append(Change(self.moment, found))

    def _some_changes(
        self, changes: list[Change], moment: int, rng: random.Random
    ) -> Iterator[Change]:
        """Yield what is durable and, of each folder, some of what was changed first."""
        stopped: set[int] = set()
        for change in changes:
            folders = {id(folder) for folder, *_ in change.edits}
            if change.durable_from <= moment:
                yield change
            elif folders & stopped or rng.random() < 0.2:
                stopped |= folders
            else:
                yield change

    def _tree(
        self,
        changes: Iterator[Change] | list[Change],
        moment: int,
        content: Callable[[bytes, bytes], bytes],
    ) -> Tree:
        entries = {key: dict(names) for key, names in self._start.items()}
        for change in changes:
            for folder, name, node in change.edits:
                _put(entries.setdefault(id(folder), {}), name, node)
        tree: Tree = {}

        def walk(folder: Node, prefix: str) -> None:
            for name, node in entries.get(id(folder), {}).items():
                tree[prefix + name] = None if node.is_folder else content(*node.at(moment))
                walk(node, f"{prefix}{name}/")

        walk(self.top, "")
        return tree

    def _read(self, path: Path) -> Node:
        """Return the node of what is there before anything is done."""
        if not path.is_dir():
            content = path.read_bytes()
            return Node(is_folder=False, history=[(0, content, content)])
        return Node(is_folder=True, entries={p.name: self._read(p) for p in path.iterdir()})

    def _folders(self, node: Node) -> Iterator[Node]:
        if node.is_folder:
            yield node
            for entry in node.entries.values():
                yield from self._folders(entry)

    def _find(self, path: Path) -> Node | None:
        node = self.top
        for part in path.relative_to(self.root).parts:
            if part not in node.entries:
                return None
            node = node.entries[part]
        return node


def follow(root: Path, action: Callable[[], object]) -> Disk:
    """Return the disk of a folder that an action wrote to, every call of it seen."""
    disk = Disk(root)
    with watched(root, disk):
        action()
    disk.check()
    return disk


def read_tree(folder: Path) -> Tree:
    """Return all that is below a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


def write_tree(tree: Tree, folder: Path) -> Path:
    """Write a tree to a new folder."""
    folder.mkdir(parents=True)
    for name, content in sorted(tree.items()):
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
    return folder


def _put(entries: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


def _content(content: bytes, _: bytes) -> bytes:
    return content


def _flushed(_: bytes, flushed: bytes) -> bytes:
    return flushed


def _cut_off(content: bytes, flushed: bytes) -> bytes:
    """Return a file without what was not flushed; of one that was written anew nothing."""
    return flushed if content.startswith(flushed) else b""


def _zeroed(content: bytes, flushed: bytes) -> bytes:
    """Return a file of the full length, with zeros for what was not flushed."""
    start = _cut_off(content, flushed)
    return start + bytes(len(content) - len(start))


LEFT = (_content, _flushed, _cut_off, _zeroed)
"""What may be left of a file, by its content and what of it was flushed."""
