"""Threads that wait sleep: set before PyTorch is loaded, unless a user has decided."""

import os
import subprocess
import sys

import pytest

from patchscout import waiting

SHOW = "import patchscout, torch"


def environment(**settings):
    """The environment without what is set in it on threads, but for these settings."""
    theirs = (*waiting.OF_THE_USER, "OMP_DISPLAY_ENV")
    return {name: value for name, value in os.environ.items() if name not in theirs} | settings


def settings_of_openmp(script, **settings):
    """Return the settings that GNU's OpenMP runtime says that it has taken."""
    shown = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(OMP_DISPLAY_ENV="VERBOSE", **settings),
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("this PyTorch has another runtime than GNU's")
    lines = [line.partition(" = ") for line in shown.splitlines() if " = " in line]
    return {name.split()[-1]: value.strip("'") for name, _, value in lines}


def test_threads_of_pytorch_do_not_spin():
    taken = settings_of_openmp(SHOW)
    assert (taken["OMP_WAIT_POLICY"], taken["GOMP_SPINCOUNT"]) == ("PASSIVE", "0")


def test_what_a_user_has_set_stays():
    assert settings_of_openmp(SHOW, OMP_WAIT_POLICY="ACTIVE")["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.parametrize("name", waiting.OF_THE_USER)
def test_any_setting_of_a_user_leaves_all_as_it_is(monkeypatch, name):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(os, "environ", {name: "1"})
    assert not waiting.wait_passively()
    assert os.environ == {name: "1"}


def test_both_runtimes_are_told(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(os, "environ", {})
    assert waiting.wait_passively()
    assert os.environ == {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


def test_once_pytorch_is_there_nothing_is_changed(monkeypatch):
    assert "torch" in sys.modules
    monkeypatch.setattr(os, "environ", {})
    assert not waiting.wait_passively()
    assert os.environ == {}
