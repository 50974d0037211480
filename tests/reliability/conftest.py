"""What the reliability tests share: the modules beside them, and two models that differ."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """Two small trained models; read only."""
    from models import make_pair

    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def old_run(pair, tmp_path_factory) -> Path:
    """A run folder of the old model; read only."""
    folder = tmp_path_factory.mktemp("old") / "run"
    pair.old.save(folder)
    return folder


@pytest.fixture
def place(old_run, tmp_path) -> Path:
    """A folder that holds a copy of the old run, `run`, and nothing else."""
    folder = tmp_path / "place"
    folder.mkdir()
    shutil.copytree(old_run, folder / "run")
    return folder
