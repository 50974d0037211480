"""Folders that commands write to, in which no one else's files are lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from patchscout.checks import InputError, InputValueError
from patchscout.files.atomic import write_text_atomic

_MARKER = ".patchscout-files"
"""Lists, one JSON string a line, what this program wrote to a folder: all it may remove there."""

_PARTIAL = ".patchscout-partial"
"""Sub-folder of what is not yet in its place; while it is there no other command writes there."""


def reserve_folder(folder: Path, overwrite: bool = False, names: Sequence[str] = ()) -> None:
    """Make an empty output folder, or clear one of what this program wrote there before.

    Args:
        folder: The output folder; made with its parents if it is not there.
        overwrite: Whether a folder that holds files may be used. Only what `claim` noted there
            is removed; anything else stays.
        names: What is claimed there at once.

    Raises:
        InputValueError: If it cannot be used, see `check_free`, or cannot be made.
    """
    check_free(folder, overwrite, names=names)
    if folder.is_dir():
        clear(folder)
    make_folder(folder)
    for name in names:
        claim(folder, name)


def check_free(
    folder: Path,
    overwrite: bool = False,
    *,
    names: Iterable[str] = (),
    reads: Iterable[Path] = (),
) -> None:
    """Refuse an output folder that cannot be used; nothing is touched.

    Args:
        folder: The output folder.
        overwrite: Whether a folder that holds files may be used.
        names: What will be claimed there, see `claim`.
        reads: Files and folders that the command reads.

    Raises:
        InputValueError: If the folder holds files and `overwrite` is False, if it is a file, if
            another command writes to it, if someone else's file is in the way, or if clearing it
            would remove what the command reads.
    """
    if folder.exists() and not folder.is_dir():
        raise InputValueError(f"`--out` must be a folder; {folder} is a file. Name another path.")
    if not folder.is_dir():
        return
    held = sorted(item.name for item in folder.iterdir() if item.name != _MARKER)
    if _PARTIAL in held:
        raise InputValueError(
            f"Another command writes to {folder}, or one was killed there. Wait for it, or remove"
            f" {folder / _PARTIAL}."
        )
    if held and not overwrite:
        raise InputValueError(
            f"`--out` must be a new or empty folder; {folder} holds {held[0]}"
            f"{f' and {len(held) - 1} more' if len(held) > 1 else ''}. Name another folder, "
            "or give `--overwrite` to replace what PatchScout wrote there."
        )
    for name in names:
        check_claim(folder, name)
    _check_spared(folder, reads)


def make_folder(folder: Path, *, exist_ok: bool = True) -> None:
    """Make an output folder with its parents, if it is not there.

    Raises:
        InputValueError: If it cannot be made, or is there and `exist_ok` is False.
    """
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        raise InputValueError(
            f"`--out` folder {folder} cannot be made: {error.strerror}. Name another path."
        ) from error


def claim(folder: Path, name: str) -> None:
    """Note, before writing it, that `folder / name` is this program's to replace.

    Args:
        folder: A folder made by `reserve_folder`.
        name: A file below it; or, with a slash at its end, a folder, which is later removed with
            all that is in it.

    Raises:
        InputValueError: If something is there that this program did not write.
    """
    if name not in _claimed(folder):
        check_claim(folder, name)
        note(folder, name)


def check_claim(folder: Path, name: str) -> None:
    """Refuse a name that `claim` would refuse; nothing is touched.

    Raises:
        InputValueError: If something is there that this program did not write.
    """
    if (folder / name).exists() and name not in _claimed(folder):
        raise InputValueError(
            f"{folder / name} is there already and was not written by PatchScout. Move it, or "
            "name another folder for `--out`."
        )


def adopt(folder: Path, names: Iterable[str]) -> None:
    """Note files that are this program's, as in a copied folder, which may lack the list."""
    claimed = _claimed(folder)
    new = [name for name in names if name not in claimed and (folder / name).exists()]
    if new:
        note(folder, *new)


def note(folder: Path, *names: str) -> None:
    """Note names as `claim` does; that nothing is there is known."""
    with (folder / _MARKER).open("a", encoding="ascii") as marker:
        marker.writelines(json.dumps(name) + "\n" for name in names)


def clear(folder: Path, keep: Sequence[str] = ()) -> None:
    """Remove what this program wrote to a folder but some, and sub-folders that are empty then."""
    root = folder.resolve()
    for name, path in _claimed_paths(folder):
        if name in keep:
            continue
        if name.endswith("/") and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_file() or path.is_symlink():
            path.unlink()
        for parent in path.parents[: path.parents.index(root)]:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
    if keep:
        write_text_atomic(folder / _MARKER, "".join(json.dumps(name) + "\n" for name in keep))
    else:
        (folder / _MARKER).unlink(missing_ok=True)


class OutputFolder:
    """Writes a folder whose files take their place together, when all of them are done.

    Until then they are in a hidden folder inside it, which is never on another file system and
    which a second command that writes there finds. A failure, also one with `overwrite`, leaves
    what was there before.

    Args:
        folder: The output folder.
        names: What may be written, a folder with a slash at its end.
        overwrite: Whether earlier output in it is replaced.
        reads: Files and folders that the command reads, which must not be replaced.

    Raises:
        InputValueError: On entering, if the folder cannot be used, see `check_free`. On leaving,
            if the files cannot take their place; they are kept then.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        overwrite: bool,
        reads: Iterable[Path] = (),
    ) -> None:
        self.folder = folder
        self.names = names
        self.overwrite = overwrite
        self.reads = reads

    def __enter__(self) -> Path:
        """Return the folder to write to."""
        check_free(self.folder, self.overwrite, names=self.names, reads=self.reads)
        self._place = self.folder.resolve()
        self._partial = self._place / _PARTIAL
        self._new = [path for path in self._partial.parents if not path.exists()]
        make_folder(self._place)
        make_folder(self._partial, exist_ok=False)
        return self._partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Move what was written to its place; after an error, leave no trace instead."""
        written: list[str] = []
        try:
            if kind is None:
                written = self._move()
        except (InputError, OSError) as error:
            raise InputValueError(
                f"{str(error).rstrip('.')}. What was written is kept in {self._partial}."
            ) from error
        except KeyboardInterrupt:
            self._leave_no_trace()
            raise
        self._leave_no_trace()
        if kind is None:
            clear(self._place, keep=written)

    def _move(self) -> list[str]:
        """Put all that was written in its place, or nothing of it; return the names."""
        items = sorted(self._partial.iterdir())
        names = [f"{item.name}/" if item.is_dir() else item.name for item in items]
        for name in names:
            check_claim(self._place, name)
        for name in names:
            claim(self._place, name)
        replaced = self._partial / ".replaced"
        replaced.mkdir()
        moves = [(self._place / item.name, replaced / item.name) for item in items]
        moves = [(old, aside) for old, aside in moves if old.exists()]
        moves += [(item, self._place / item.name) for item in items]
        try:
            for source, target in moves:
                source.rename(target)
        except BaseException:
            for source, target in reversed(moves):
                if target.exists() and not source.exists():
                    target.rename(source)
            raise
        return names

    def _leave_no_trace(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        for folder in self._new:
            if not any(folder.iterdir()):
                folder.rmdir()


def _claimed(folder: Path) -> list[str]:
    """Return what this program wrote to a folder."""
    try:
        lines = (folder / _MARKER).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith('"')]  # the last may be cut off


def _claimed_paths(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the path of what this program wrote to a folder."""
    root = folder.resolve()
    for name in _claimed(folder):
        path = (root / name).parent.resolve() / Path(name).name
        if root in path.parents:  # no marker that was edited, nor a link to elsewhere
            yield name, path


def _check_spared(folder: Path, reads: Iterable[Path]) -> None:
    """Refuse to clear a folder of files that the command reads."""
    root = folder.resolve()
    removed = {path for _, path in _claimed_paths(folder) if path.exists()}
    around = {parent for path in removed for parent in path.parents}
    for path in reads:
        place = path.resolve()
        holds_removed = place in around and place.is_relative_to(root)
        if holds_removed or not removed.isdisjoint((place, *place.parents)):
            raise InputValueError(
                f"`--overwrite` would remove {path} or files in it, which this command reads. Name"
                " another folder for `--out`."
            )
