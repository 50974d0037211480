"""What a person types: train, evaluate, predict, export, benchmark, demo, upgrade, info."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

from patchscout.checks import InputError, nearest

COMMANDS = {
    "train": "learn to outline defects from a folder of images",
    "evaluate": "measure a trained model on its test images",
    "predict": "write anomaly maps, masks and overlays of images",
    "export": "write a trained model as one file for other runtimes",
    "benchmark": "train and test variants with several seeds, and compare them",
    "demo": "all of it on a sample that comes with the program",
    "upgrade": "write a run of the version before anew, with digests",
    "info": "describe a run folder or a folder of images",
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code.

    It is 0, 1 if jobs of a benchmark failed, 2 for bad input, and 130 for Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"patchscout {version('patchscout')}")
        return 0
    try:
        return _command(arguments[0])(arguments[1:])
    except InputError as error:
        print(f"patchscout: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"patchscout: {error.filename or 'a file'} cannot be read or written:"
            f" {error.strerror or error}. Check the disk and the permissions.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("patchscout: stopped", file=sys.stderr)
        return 130


def _command(name: str) -> Callable[[list[str]], int]:
    """Return the function of a command; only then are the libraries that it needs imported."""
    from patchscout.checks import InputValueError

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
