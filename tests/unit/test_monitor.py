"""Progress on the screen, figures in the run folder."""

import builtins
import errno
import json

import pytest

from patchscout.checks import InputValueError
from patchscout.monitor import Monitor


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_tracking_passes_every_item_on(capsys):
    monitor = Monitor(quiet=True)
    assert list(monitor.track(iter("abc"), "spelling")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_what_how_fast_and_how_long(capsys, monkeypatch):
    import time

    real, offset = time.time, 0.0
    monkeypatch.setattr("tqdm.std.time", lambda: real() + offset)
    for _ in Monitor(quiet=False).track(range(4), "measuring", 4, "image"):
        offset += 10.0
    shown = capsys.readouterr().err
    assert "measuring" in shown
    assert "| 2/4 [" in shown
    assert "image" in shown
    assert "<00:" in shown  # the time that remains


def test_quick_work_shows_no_bar(capsys):
    list(Monitor(quiet=False).track(range(3), "blinking", 3))
    assert capsys.readouterr().err == ""


def test_an_error_inside_the_loop_goes_through():
    def work():
        for item in Monitor().track(range(3), "working"):
            raise KeyboardInterrupt(item)

    with pytest.raises(KeyboardInterrupt):
        work()


def test_figures_are_one_json_line_a_step(tmp_path):
    monitor = Monitor(folder=tmp_path)
    monitor.log(0, {"autoencoder/loss": 1 / 3})
    monitor.log(7, {"autoencoder/loss": 12345678.0, "sampler/reward": 0.0})
    monitor.close()
    monitor.close()  # twice does no harm
    assert lines(tmp_path) == [
        {"step": 0, "autoencoder/loss": 0.333333},
        {"step": 7, "autoencoder/loss": 12345700.0, "sampler/reward": 0.0},
    ]


def test_without_a_folder_nothing_is_kept():
    monitor = Monitor()
    monitor.log(0, {"loss": 1.0})
    monitor.close()


def test_saying_is_for_those_who_listen(capsys):
    Monitor(quiet=True).say("one")
    Monitor(quiet=False).say("two")
    assert capsys.readouterr().out == "two\n"


def test_a_line_is_one_line_without_escape_sequences(capsys):
    Monitor(quiet=False).say("left out:\n\x1b[2J.png")
    assert capsys.readouterr().out == "left out:\\n\\x1b[2J.png\n"


def test_a_terminal_that_is_gone_ends_no_training(monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("patchscout.monitor.tqdm.write", fail)
    Monitor(quiet=False).say("stopped")


def test_tensorboard_keeps_the_same_figures(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monitor = Monitor(folder=tmp_path, tensorboard=True)
    monitor.log(3, {"sampler/reward": 0.5})
    monitor.close()
    accumulator = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (scalar,) = accumulator.Scalars("sampler/reward")
    assert (scalar.step, scalar.value) == (3, 0.5)
    assert lines(tmp_path) == [{"step": 3, "sampler/reward": 0.5}]


def test_tensorboard_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputValueError, match=r"pip install patchscout\[tensorboard\]"):
        Monitor(folder=tmp_path, tensorboard=True)
