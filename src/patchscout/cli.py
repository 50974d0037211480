"""What a person types: train, evaluate, predict, threshold, export, benchmark, demo, info."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

from patchscout.checks import InputError, InputValueError, nearest, one_line
from patchscout.interrupts import heeded
from patchscout.text import shortened

COMMANDS = {
    "train": "learn to outline defects from a folder of images",
    "evaluate": "measure a trained model on its test images",
    "predict": "write anomaly maps, masks and overlays of images",
    "threshold": "decide anew when an image is defective, without training",
    "export": "write a trained model as one file for other runtimes",
    "benchmark": "train and test variants with several seeds, and compare them",
    "demo": "all of it on a sample that comes with the program",
    "info": "describe a run folder or a folder of images",
}

STOPPED = 130

_CHECK = "Check the disk and the permissions."
_REMEDIES = {
    errno.ENOSPC: "Free some space, or name a folder on another disk.",
    errno.EDQUOT: "Free some space, or name a folder on another disk.",
    errno.EACCES: "Check its permissions.",
    errno.EPERM: "Check its permissions.",
    errno.EROFS: "Name a folder on another disk.",
    errno.ENAMETOOLONG: "Use a shorter name.",
    errno.EMFILE: "Let a process have more files open (`ulimit -n`).",
    errno.ENFILE: "Close other programs.",
    errno.ENOMEM: "Close other programs.",
}
"""What to do about an error of the operating system."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code.

    It is 0, 1 if jobs of a benchmark failed, 2 for bad input, 3 for a fault of the program itself,
    of which it writes a report, 141 if what reads the output has gone, and 128 and the number of
    the signal if one ended the command: 130 for Ctrl-C, 143 for SIGTERM.
    """
    _show_any_text()
    with heeded() as raised:
        status = _outcome(sys.argv[1:] if arguments is None else arguments)
    return 128 + raised[-1] if status == STOPPED and raised else status


def _outcome(arguments: list[str]) -> int:
    """Run a command; whatever happens, say it in one line and return the exit code."""
    try:
        try:
            status = _run(arguments)
        except SystemExit:  # after `--help`
            status = 0
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where an error can still be told
        return status
    except InputError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:
        _discard_output()
        return 128 + 13  # as if SIGPIPE had ended it
    except OSError as error:
        where = "a file or the output" if error.filename is None else error.filename
        return _fail(
            f"{os.fsdecode(where) if isinstance(where, bytes) else where} cannot be read or"
            f" written: {error.strerror or error}. {_REMEDIES.get(error.errno or 0, _CHECK)}",
            2,
        )
    except KeyboardInterrupt:
        return _fail("stopped", STOPPED)
    except BaseException as error:  # noqa: BLE001 some libraries' faults are no Exception
        if _is_lack_of_memory(error):
            return _fail(
                f"there is not enough memory: {error or 'no more can be had'}. Close other"
                " programs, take smaller images, or lower `data.image_size` when training.",
                2,
            )
        return _fail(_fault(error, arguments), 3)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"patchscout {version('patchscout')}")
        return 0
    return _command(arguments[0])(arguments[1:])


def _fail(line: str, status: int) -> int:
    """Print a line about what failed and return the exit code."""
    with suppress(OSError):  # there may be no terminal any more
        print(f"patchscout: {one_line(line)}", file=sys.stderr)
    if status != STOPPED:
        _discard_output()
    return status


def _fault(error: BaseException, arguments: list[str]) -> str:
    """Write a report of a fault of the program and return the line about it."""
    from patchscout.faults import write_report

    what = one_line(traceback.format_exception_only(error)[-1])
    path = write_report(error, arguments)
    if path is None:
        traceback.print_exception(error)
    where = f"The report is in {path}" if path else "The report is above"
    return (
        f"this is a fault of PatchScout, not of your files: {shortened(what, 500)}. {where}; please"
        " send it."
    )


def _is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, PyTorch or OpenCV says that memory is used up."""
    said = ("can't allocate memory", "Insufficient memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, Exception) and any(words in str(error) for words in said))
    )


def _show_any_text() -> None:
    """Let output be printed whose characters the terminal's encoding lacks, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Keep what is left to print from failing once more at the end of the process."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _command(name: str) -> Callable[[list[str]], int]:
    """Return the function of a command; only then are the libraries that it needs imported."""
    if name not in COMMANDS:
        raise InputValueError(
            f"unknown command '{name}'{nearest(name, COMMANDS)} Choose one of"
            f" {', '.join(COMMANDS)}."
        )
    return import_module(f"patchscout.commands.{name}").run


def _usage() -> str:
    lines = [f"  {name:11}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: patchscout COMMAND ...",
            "",
            "Finds and outlines defects in images, from many normal images and a few labeled ones.",
            "",
            *lines,
            "",
            "`patchscout COMMAND --help` lists what a command takes.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
