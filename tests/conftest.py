"""What all tests share: shapes checked as types, and where real data is."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Before anything imports patchscout: from here on every annotated shape is checked when called.
install_import_hook("patchscout", "beartype.beartype")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: `PATCHSCOUT_DATA`, else `../shared/data`; skips without it."""
    named = os.environ.get("PATCHSCOUT_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set PATCHSCOUT_DATA to a folder that has some")
    return folder
