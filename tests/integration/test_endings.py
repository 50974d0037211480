"""How a command can end: each way has its exit code and one line, and cleans up."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from datetime import datetime
from typing import Any

import pytest

from patchscout import cli
from patchscout.cli import main
from patchscout.commands.shell import console


@pytest.fixture
def ends(monkeypatch, capsys, tmp_path):
    """Run a command whose work is given; returns the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)

    def run(work, *arguments):
        monkeypatch.setattr(cli, "_command", lambda _: work)
        status = main(["train", *arguments])
        return status, capsys.readouterr()

    return run


def raises(error):
    def work(_):
        raise error

    return work


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EACCES, "Check its permissions"),
        (errno.EROFS, "Name a folder on another disk"),
        (errno.ENAMETOOLONG, "Use a shorter name"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "Check the disk and the permissions"),
    ],
)
def test_an_error_of_the_operating_system_is_one_line(ends, number, remedy):
    reason = os.strerror(number)
    status, shown = ends(raises(OSError(number, reason, "/a\x1b\nb")))
    assert status == 2
    assert shown.err.startswith(f"patchscout: /a\\x1b b cannot be read or written: {reason}. ")
    assert remedy in shown.err
    assert shown.err.count("\n") == 1
    status, shown = ends(raises(OSError(number, reason)))
    assert shown.err.startswith("patchscout: a file or the output cannot be read or written: ")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_lack_of_memory_is_one_line(ends, error, tmp_path):
    status, shown = ends(raises(error))
    assert status == 2
    assert shown.err.startswith("patchscout: there is not enough memory: ")
    assert "take smaller images" in shown.err
    assert shown.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


class Panic(BaseException):
    """As the libraries written in Rust raise one."""


def recurse(arguments):
    return recurse(arguments)


def decode(_):
    return b"\xff".decode()


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (raises(KeyError("pixels\x1b[2J")), r"KeyError: 'pixels\x1b[2J'"),
        (recurse, "RecursionError: maximum"),
        (decode, "UnicodeDecodeError: 'utf-8' codec"),
        (raises(Panic("index out of bounds")), "Panic: index out of bounds"),
    ],
    ids=["KeyError", "RecursionError", "UnicodeError", "panic"],
)
def test_a_fault_of_the_program_writes_a_report(ends, tmp_path, work, kind):
    status, shown = ends(work, "my data", "\udcff")
    assert status == 3
    assert shown.err.count("\n") == 1
    assert "this is a fault of PatchScout, not of your files: " in shown.err
    assert kind in shown.err
    (report,) = tmp_path.iterdir()
    assert f"The report is in {report.name}; please send it." in shown.err
    assert report.name.startswith(f"patchscout-error-{datetime.now():%Y%m%d}-")
    assert report.stat().st_mode & 0o077 == 0
    text = report.read_text()
    assert r"command: patchscout train 'my data' $'\xff'" in text
    assert "Traceback" in text
    assert kind.partition(":")[0] in text
    assert "torch 2." in text
    assert "Python 3." in text


def test_a_report_overwrites_nothing_and_goes_elsewhere_where_it_must(ends, tmp_path, monkeypatch):
    class Noon(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 12)

    monkeypatch.setattr("patchscout.faults.datetime", Noon)
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(other))
    name = f"patchscout-error-20260102-120000-{os.getpid()}.txt"
    (tmp_path / "mine").write_text("mine")
    (tmp_path / name).symlink_to("mine")
    status, shown = ends(raises(KeyError("a")))
    assert (status, (tmp_path / "mine").read_text()) == (3, "mine")
    assert f"The report is in {other / name};" in shown.err
    status, shown = ends(raises(KeyError("a")))  # neither place is free
    assert status == 3
    assert "Traceback" in shown.err
    assert "The report is above; please send it." in shown.err


def child(code, *, tmp_path, **settings):
    """Start a process that runs `main` on a command whose work is given as code."""
    lines = [
        "import os, signal, sys, time",
        "from pathlib import Path",
        "from patchscout import cli",
    ]
    work = textwrap.indent(textwrap.dedent(code), "    ")
    lines += ["def work(arguments):", work, "cli._command = lambda name: work"]
    lines += ["sys.exit(cli.main(['train']))"]
    defaults: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    defaults["env"] = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    start = [sys.executable, "-c", "\n".join(lines)]
    given: dict[str, Any] = defaults | settings
    return subprocess.Popen(start, cwd=tmp_path, text=True, **given)


WORK = """
    Path("debris").touch()
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep({cleanup})
        Path("debris").unlink()
"""


def listens(number):
    """Let a child heed a signal that the shell, or whatever runs the tests, may ignore."""
    return lambda: signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_and_lets_it_clean_up(tmp_path, number):
    process = child(WORK.format(cleanup=0), tmp_path=tmp_path, preexec_fn=listens(number))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (128 + number, "patchscout: stopped\n")
    assert not list(tmp_path.iterdir())


def test_more_signals_do_not_cut_the_clean_up_short(tmp_path):
    code = WORK.format(cleanup=1).replace(
        "finally:", "finally:\n        print('cleans', flush=True)"
    )
    process = child(code, tmp_path=tmp_path, preexec_fn=listens(signal.SIGTERM))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleans\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert said == "patchscout: stopping already\npatchscout: stopped\n"
    assert not list(tmp_path.iterdir())


def test_a_command_that_goes_on_after_a_signal_is_ended_by_a_second(tmp_path):
    code = """
        from patchscout.interrupts import heed_again
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                os.kill(os.getpid(), number)
                time.sleep(60)
            except KeyboardInterrupt:
                heed_again()
        return 130
    """
    process = child(code, tmp_path=tmp_path, preexec_fn=listens(signal.SIGINT))
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "")


def test_a_command_that_says_itself_that_it_stopped_has_the_signals_code(tmp_path):
    code = """
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt:
            return 130
    """
    assert child(code, tmp_path=tmp_path).wait(30) == 143


def test_what_is_ignored_stays_ignored_as_under_nohup(tmp_path):
    code = "os.kill(os.getpid(), signal.SIGHUP)\nreturn 0"
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    assert child(code, tmp_path=tmp_path, preexec_fn=ignore).wait(30) == 0


def test_handlers_are_put_back(ends):
    seen = []
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    ends(lambda _: seen.append(signal.getsignal(signal.SIGTERM)) or 0)
    assert seen != [before[1]]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_output_that_nobody_reads_any_more_ends_quietly(tmp_path):
    code = "sys.stdin.readline()\nprint('x' * 100_000)\nreturn 0"
    process = child(code, tmp_path=tmp_path, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.close()
    process.stdin.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(30)) == ("", 141)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_output_that_cannot_be_written_is_told(tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = child("print('figures')\nreturn 0", tmp_path=tmp_path, stdout=full)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said == (
        "patchscout: a file or the output cannot be read or written: No space left on device."
        " Free some space, or name a folder on another disk.\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_the_terminal_cannot_show_is_an_escape(tmp_path, encoding):
    code = """
        from patchscout.commands.shell import console
        from patchscout.checks import InputValueError
        console.print("日 \\udcff \\x1b")
        print("日")
        raise InputValueError("日 \\udcff is not there")
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": encoding}
    process = child(code, tmp_path=tmp_path, env=env | {"PYTHONUTF8": "0"})
    out, said = process.communicate(timeout=30)
    sun = "日" if encoding == "utf-8" else r"\u65e5"
    assert process.returncode == 2
    assert out == f"{sun} \\udcff \\x1b\n{sun}\n"
    assert said == f"patchscout: {sun} \\udcff is not there\n"


def test_the_console_prints_names_without_moving_the_cursor(capsys):
    console.print("a\x1b[2J\r\u202e :smile: [b] \udcff")
    assert capsys.readouterr().out == "a\\x1b[2J\\r\\u202e :smile: [b] \\udcff\n"
