"""Folders that commands write to: all of the new or all of the old, and no one else's files lost.

What a command writes is staged in a hidden folder inside the output folder. When all of it is on
the disk a journal is written there, and from then on the new content counts: the files are moved
to their places one by one, and what is left of the old is removed last. A command that is killed
in between is finished by the next one that opens the folder; without a journal what it staged is
dropped. A lock that ends with its process keeps a folder to one writer.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from patchscout.checks import InputError, InputValueError
from patchscout.files.atomic import remove_partial_files, sync_file, sync_folder, write_new
from patchscout.files.manifest import (
    MANIFEST,
    Digests,
    digest_of,
    is_plain,
    is_reached_without_links,
    is_unchanged,
    read_manifest,
    write_manifest,
)

LOCK = ".patchscout-lock"
STAGING = ".patchscout-new"
_FILES, _JOURNAL = "files", "journal.json"
_OWN = (MANIFEST, LOCK, STAGING)

PATIENCE_S = 2.0
"""How long a command waits for the lock: one that only reads holds it too, for a moment, where it
finds a folder that seems to be left by a killed one."""


class Journal(BaseModel):
    """What is to become of a folder.

    Attributes:
        new: The staged files, those that are moved first before the others.
        old: The files of this program that are there and are replaced or removed.
        kept: Those that stay.
        is_listed: Whether the folder holds a list of this program's files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    new: Digests
    old: Digests
    kept: Digests
    is_listed: bool


class OutputFolder:
    """Writes a folder whose files take their place together, when all of them are done.

    A failure before that leaves what was there.

    Args:
        folder: The output folder; made with its parents if it is not there.
        names: What is written for certain or in most cases, the file to move first before the
            others; a name of someone else's file is refused before the work.
        overwrite: Whether a folder that holds files may be used, earlier output in it replaced.
        reads: Files and folders that the command reads, which must not be replaced.
        adopts: Returns the names of files that are this program's, though they are not listed.
        completes: Whether earlier output stays, but for files of the same name.
        is_listed: Whether a list of the files is left there, by which a later command knows them.

    Raises:
        InputValueError: On entering, if the folder cannot be used, see `check_free`. On leaving,
            if the files cannot take their place; what was written is kept then.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        overwrite: bool,
        reads: Iterable[Path] = (),
        adopts: Callable[[Path], Iterable[str]] = lambda _: (),
        completes: bool = False,
        is_listed: bool = True,
    ) -> None:
        self.folder = folder
        self.names = names
        self.overwrite = overwrite
        self.reads = reads
        self.adopts = adopts
        self.completes = completes
        self.is_listed = is_listed

    def __enter__(self) -> Path:
        """Return the folder to write to."""
        _check_folder(self.folder)
        self._place = self.folder.resolve()
        new = [path for path in (self._place, *self._place.parents) if not path.exists()]
        with ExitStack() as undo:
            try:
                self._place.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputValueError(
                    f"`--out` folder {self.folder} cannot be made: {error.strerror}. Name another"
                    " path."
                ) from error
            undo.callback(_remove_empty, new)
            undo.enter_context(_only_writer(self._place, PATIENCE_S))
            recover_locked(self._place)
            remove_partial_files(self._place)
            if not (self.overwrite or self.completes):
                _check_empty(self.folder, self._place)
            self._old = self._earlier_output()
            if not self.completes:
                _check_spared(self._place, self._old, self.reads)
            self._staging = self._place / STAGING
            self._staging.mkdir()
            self._files = self._staging / _FILES
            self._files.mkdir()
            for folder in {path.parent for path in new}:
                sync_folder(folder)
            self._undo = undo.pop_all()
        return self._files

    def is_free(self, name: str) -> bool:
        """Whether a file of this name would replace nothing, or earlier output."""
        return name in self._old or not os.path.lexists(self._place / name)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Move what was written to its place; after an error, leave no trace instead."""
        with self._undo:
            if kind is None:
                self._commit()
            else:
                shutil.rmtree(self._staging, ignore_errors=True)

    def _earlier_output(self) -> Digests:
        """Return the files that may be replaced; refuse what is in the way or was changed."""
        listed = read_manifest(self._place)
        adopted = [name for name in self.adopts(self._place) if name not in listed]
        there = {name: digest for name, digest in listed.items() if self._is_there(name)}
        there |= {name: digest_of(self._place / name) for name in adopted if self._is_there(name)}
        for name in self.names if self.completes else (*self.names, *there):
            if self._is_there(name) and name not in there:
                raise _in_the_way(self.folder / name)
            if name in there and not is_unchanged(self._place, name, there[name]):
                raise InputValueError(
                    f"{self.folder / name} was changed since PatchScout wrote it. Move it, or name"
                    " another folder for `--out`."
                )
        return there

    def _is_there(self, name: str) -> bool:
        return os.path.lexists(self._place / name)

    def _commit(self) -> None:
        """Put all that was written in its place, or nothing of it."""
        try:
            new = _sync_tree(self._files, self.names)
            is_replaced = new if self.completes else self._old
            journal = Journal(
                new=new,
                old={name: self._old[name] for name in self._old if name in is_replaced},
                kept={name: self._old[name] for name in self._old if name not in is_replaced},
                is_listed=self.is_listed,
            )
            _check_places(self._place, journal)
            partial = self._staging / f"{_JOURNAL}.partial"
            write_new(partial, journal.model_dump_json().encode())
            sync_folder(self._place)
            partial.replace(self._staging / _JOURNAL)
        except (InputError, OSError) as error:
            kept = self._place / f"patchscout-kept-{secrets.token_hex(4)}"
            self._files.rename(kept)
            shutil.rmtree(self._staging, ignore_errors=True)
            raise InputValueError(
                f"{str(error).rstrip('.')}. What was written is kept in {kept}."
            ) from error
        except BaseException:
            shutil.rmtree(self._staging, ignore_errors=True)
            raise
        try:
            _finish(self._place, journal)
        except OSError as error:
            raise InputValueError(
                f"{error}. What was written is complete in {self._staging}; the next command that"
                f" opens {self.folder} puts it in its place."
            ) from error
        except KeyboardInterrupt:
            _finish(self._place, journal)
            raise


def replaced_files(folder: Path, names: Sequence[str]) -> OutputFolder:
    """Return what writes files into a folder of someone else's, in place of any of these names."""
    return OutputFolder(
        folder, names, overwrite=True, adopts=lambda _: names, completes=True, is_listed=False
    )


def check_free(folder: Path, overwrite: bool = False) -> None:
    """Refuse an output folder that cannot be used, before the work; nothing is touched.

    Args:
        folder: The output folder.
        overwrite: Whether a folder that holds files may be used.

    Raises:
        InputValueError: If the folder holds files and `overwrite` is False, or if it is a file.
    """
    _check_folder(folder)
    if folder.is_dir() and not overwrite:
        _check_empty(folder, folder)


def _check_folder(folder: Path) -> None:
    """Refuse a file in place of an output folder."""
    if folder.exists() and not folder.is_dir():
        raise InputValueError(f"`--out` must be a folder; {folder} is a file. Name another path.")


def recover(folder: Path) -> None:
    """Finish what a killed command began in a folder, unless another command is at work there."""
    if not os.path.lexists(folder / STAGING):
        return
    with suppress(InputError, OSError), _only_writer(folder, 0.0):
        recover_locked(folder)


def recover_locked(folder: Path) -> None:
    """Finish what a killed command began in a folder, or drop what it had not completed."""
    staging = folder / STAGING
    if not os.path.lexists(staging):
        return
    if staging.is_symlink() or not staging.is_dir():
        raise InputValueError(f"{staging} is not a folder of PatchScout. Move it.")
    try:
        journal = Journal.model_validate_json((staging / _JOURNAL).read_bytes())
    except FileNotFoundError:
        shutil.rmtree(staging, ignore_errors=True)
        return
    except ValidationError:
        journal = None
    if journal is None or not all(map(is_plain, (*journal.new, *journal.old, *journal.kept))):
        raise InputValueError(
            f"{staging / _JOURNAL} is damaged. Move the files that you need out of"
            f" {staging / _FILES}, and remove {staging}."
        )
    files = staging / _FILES
    for name, digest in journal.new.items():  # a link would lead to files of someone else
        is_there = os.path.lexists(files / name)
        if files.is_symlink() or (is_there and not is_unchanged(files, name, digest)):
            raise InputValueError(
                f"{files / name} is not what was written there. Move the files that you need out of"
                f" {files}, and remove {staging}."
            )
    _check_places(folder, journal)
    _finish(folder, journal)


def staged(folder: Path, name: str) -> Path:
    """Return where a file lies while it is on the way to its place in a folder."""
    return folder / STAGING / _FILES / name


@contextmanager
def _only_writer(folder: Path, patience_s: float) -> Iterator[None]:
    """Keep other commands from writing to a folder; the lock ends with the process."""
    lock = FileLock(folder / LOCK, timeout=patience_s)
    try:
        lock.acquire()
    except Timeout:
        raise InputValueError(
            f"Another command writes to {folder}. Wait until it has ended, or name another folder."
        ) from None
    except OSError as error:
        raise InputValueError(
            f"`--out` folder {folder} cannot be written to: {error.strerror}. Change its"
            " permissions, or name another path."
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # an open file stays on Windows, where it does no harm
            (folder / LOCK).unlink()
        lock.release()


def _check_empty(folder: Path, place: Path) -> None:
    held = sorted(item.name for item in place.iterdir() if item.name not in _OWN)
    if held:
        raise InputValueError(
            f"`--out` must be a new or empty folder; {folder} holds {held[0]}"
            f"{f' and {len(held) - 1} more' if len(held) > 1 else ''}. Name another folder, "
            "or give `--overwrite` to replace what PatchScout wrote there."
        )


def _check_spared(place: Path, old: Digests, reads: Iterable[Path]) -> None:
    """Refuse to remove files that the command reads."""
    removed = {place / name for name in old}
    around = {parent for path in removed for parent in path.parents}
    for path in reads:
        read = path.resolve()
        holds_removed = read in around and read.is_relative_to(place)
        if holds_removed or not removed.isdisjoint((read, *read.parents)):
            raise InputValueError(
                f"`--overwrite` would remove {path} or files in it, which this command reads. Name"
                " another folder for `--out`."
            )


def _in_the_way(path: Path) -> InputValueError:
    return InputValueError(
        f"{path} is there already and was not written by PatchScout. Move it, or name another"
        " folder for `--out`."
    )


def _sync_tree(files: Path, first: Sequence[str]) -> Digests:
    """Wait until all files of a tree are on the disk; return their digests, some names first."""

    def fail(error: OSError) -> None:
        raise error

    digests: Digests = {}
    for folder, _, names in os.walk(files, topdown=False, onerror=fail):
        for name in names:
            file = Path(folder, name)
            sync_file(file)
            digests[file.relative_to(files).as_posix()] = digest_of(file)
        sync_folder(Path(folder))
    order = {name: number for number, name in enumerate(first)}
    return dict(sorted(digests.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _check_places(folder: Path, journal: Journal) -> None:
    """Refuse to replace what is not this program's, or to write through a link."""
    for name, digest in journal.new.items():
        known = {digest, journal.old.get(name, digest)}
        is_ours = any(is_unchanged(folder, name, one) for one in known)
        is_free = not os.path.lexists(folder / name) and is_reached_without_links(folder, name)
        if not (is_ours or is_free):
            raise _in_the_way(folder / name)


def _finish(folder: Path, journal: Journal) -> None:
    """Do what a journal says; what was done before is not done again."""
    staging = folder / STAGING
    sync_folder(staging)  # and with it the journal
    for number, name in enumerate(journal.new):
        source, target = staging / _FILES / name, folder / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        if number == 0:
            sync_folder(folder)
    for parent in _folders_of(folder, journal.new):
        sync_folder(parent)
    if journal.is_listed:
        write_manifest(folder, journal.kept | journal.new)
    removed = [name for name in journal.old if name not in journal.new]
    for name in removed:
        if is_unchanged(folder, name, journal.old[name]):
            (folder / name).unlink()
    emptied = sorted(_folders_of(folder, removed) - {folder}, key=lambda path: -len(path.parts))
    _remove_empty(emptied)
    for parent in filter(Path.is_dir, emptied):
        sync_folder(parent)
    sync_folder(folder)
    (staging / _JOURNAL).unlink()
    shutil.rmtree(staging, ignore_errors=True)
    sync_folder(folder)


def _folders_of(folder: Path, names: Iterable[str]) -> set[Path]:
    """Return the folders that files lie in, and those on the way."""
    return {folder / parent for name in names for parent in PurePosixPath(name).parents}


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove those folders that are empty, the innermost given first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
