"""Records the file-system calls below one folder, and lets any of them fail or be the last.

While `watched` holds, the functions of `os` that change or read a folder are wrapped, and `open`
is Python's own implementation in `_pyio`, which reads and writes by `os.read` and `os.write`: so
that every call of a program in Python is seen, one by one. What a library writes in C is not; the
files it leaves are noticed when they are closed, flushed or moved.
"""

from __future__ import annotations

import _pyio  # pyright: ignore[reportMissingImports] - has no stub
import builtins
import errno
import fcntl
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES)

PATH_CALLS = (
    "open",
    "mkdir",
    "rmdir",
    "unlink",
    "remove",
    "rename",
    "replace",
    "link",
    "symlink",
    "scandir",
    "listdir",
    "stat",
    "lstat",
    "chmod",
    "truncate",
)
"""Take a path (some of them a file descriptor instead)."""

TWO_PATHS = ("rename", "replace", "link")

FD_CALLS = ("read", "write", "fsync", "fdatasync", "ftruncate", "close")
"""Take a file descriptor."""


@dataclass(frozen=True)
class Call:
    """One file-system call.

    Attributes:
        number: Counted from 0.
        name: Of the function, such as `replace`.
        path: What it is about; of two paths the source.
        target: Of two paths the other one, else None.
        makes: Whether it is an `open` that may make or empty the file.
    """

    number: int
    name: str
    path: Path
    target: Path | None = None
    makes: bool = False

    def __str__(self) -> str:
        words = [f"#{self.number}", self.name, "/".join(self.path.parts[-2:])]
        return " ".join(words + ([] if self.target is None else ["->", self.target.name]))


class Watch:
    """Does nothing; what is derived from it looks at the calls."""

    def before(self, call: Call) -> None:
        """Look at a call that is about to be made; an exception is its outcome."""

    def after(self, call: Call) -> None:
        """Look at a call that went well."""


class Recorder(Watch):
    """Keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def before(self, call: Call) -> None:
        """Keep the call."""
        self.calls.append(call)


class Fault(Watch):
    """Lets one call fail, once.

    Args:
        number: Of the call.
        error: A number of `errno`.
    """

    def __init__(self, number: int, error: int) -> None:
        self.number = number
        self.error = error
        self.hit: Call | None = None

    def before(self, call: Call) -> None:
        """Fail, if it is this one."""
        if call.number == self.number:
            self.hit = call
            raise OSError(self.error, os.strerror(self.error), str(call.path))


class Death(Watch):
    """Ends the process before one call, as a kill does: nothing is cleaned up."""

    STATUS = 77

    def __init__(self, number: int) -> None:
        self.number = number

    def before(self, call: Call) -> None:
        """End the process, if it is this one."""
        if call.number == self.number:
            os._exit(self.STATUS)


@contextmanager
def watched(root: Path, watch: Watch) -> Iterator[None]:
    """Show `watch` each file-system call at or below `root` that this process makes.

    A write before which the process dies writes half of its bytes first.
    """
    layer = _Layer(root, watch)
    patches = [mock.patch.object(os, name, layer.path_call(name)) for name in PATH_CALLS]
    patches += [mock.patch.object(os, name, layer.fd_call(name)) for name in FD_CALLS]
    patches.append(mock.patch.object(fcntl, "flock", layer.fd_call("flock", fcntl.flock)))
    patches += [mock.patch.object(module, "open", layer.open) for module in (builtins, io)]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()


class _Layer:
    """Wraps functions; knows the folder and counts."""

    def __init__(self, root: Path, watch: Watch) -> None:
        self.root = os.path.realpath(root)
        self.watch = watch
        self.count = 0
        self.is_inside = False  # the watch's own calls are not watched
        self.originals = {name: getattr(os, name) for name in (*PATH_CALLS, *FD_CALLS)}
        self.plain_open = builtins.open

    def path_call(self, name: str) -> Callable[..., Any]:
        """Return a function of `os` that takes a path, watched."""
        function = self.originals[name]

        def call(*args: Any, **options: Any) -> Any:
            given = args[0] if args else options.get("path", options.get("src", "."))
            source = self._path(given, options.get("dir_fd", options.get("src_dir_fd")))
            target = None
            if name in TWO_PATHS:
                other = args[1] if len(args) > 1 else options["dst"]
                target = self._path(other, options.get("dst_dir_fd"))
            if source is None and target is None:
                return function(*args, **options)
            flags = args[1] if name == "open" and len(args) > 1 else options.get("flags", 0)
            makes = name == "open" and bool(flags & (os.O_CREAT | os.O_TRUNC))
            path = source or target
            assert path is not None
            return self._watched(name, path, target, makes, lambda: function(*args, **options))

        return call

    def fd_call(self, name: str, function: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Return a function that takes a file descriptor, watched."""
        real = function or self.originals[name]

        def call(fd: Any, *args: Any) -> Any:
            path = self._path(fd if isinstance(fd, int) else fd.fileno(), None)
            if path is None:
                return real(fd, *args)

            def cut_short() -> None:
                if name == "write" and isinstance(self.watch, Death):
                    real(fd, bytes(args[0])[: len(args[0]) // 2])
                elif name == "close":
                    real(fd)  # also a close that fails closes

            return self._watched(name, path, None, False, lambda: real(fd, *args), cut_short)

        return call

    def open(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        """Open as `open` does; below the folder in Python, for its calls to be seen."""
        below = not self.is_inside and self._path(file, None) is not None
        return (_pyio.open if below else self.plain_open)(file, mode, *args, **options)

    def _watched(
        self,
        name: str,
        path: Path,
        target: Path | None,
        makes: bool,
        function: Callable[[], Any],
        cut_short: Callable[[], None] = lambda: None,
    ) -> Any:
        if self.is_inside:
            return function()
        call = Call(self.count, name, path, target, makes)
        self.count += 1
        self.is_inside = True
        try:
            if getattr(self.watch, "number", None) == call.number:
                cut_short()
            self.watch.before(call)
        finally:
            self.is_inside = False
        result = function()
        self.is_inside = True
        try:
            self.watch.after(call)
        finally:
            self.is_inside = False
        return result

    def _path(self, given: Any, folder_fd: int | None) -> Path | None:
        """Return the path that is meant if it is at or below the folder, else None."""
        try:
            if isinstance(given, int):
                path = _path_of(given)
            else:
                path = os.fsdecode(given)
                if folder_fd is not None:
                    path = f"{_path_of(folder_fd)}/{path}"
        except (OSError, TypeError):
            return None
        path = os.path.abspath(path)  # noqa: PTH100 - asks the file system nothing
        is_below = path == self.root or path.startswith(self.root + os.sep)
        return Path(path) if is_below else None


def _path_of(descriptor: int) -> str:
    """Return the path of an open file, which Linux knows; the last one if it was removed."""
    return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")  # noqa: PTH115


def record(root: Path, action: Callable[[], object]) -> list[Call]:
    """Return the file-system calls that an action makes below a folder."""
    recorder = Recorder()
    with watched(root, recorder):
        action()
    return recorder.calls


def die_at(number: int, root: Path, action: Callable[[], object]) -> int:
    """Do something in a forked process that dies at a call; return how it ended.

    Returns:
        `Death.STATUS`, 0 if it came to its end before, 1 after an error.
    """
    child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException), watched(root, Death(number)):
            action()
            status = 0
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
