"""What all tests share: shapes checked as types, and where real data is."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# Before anything imports patchscout: from here on every annotated shape is checked when called.
install_import_hook("patchscout", "beartype.beartype")

# The tensors of the tests are small: more threads would mostly wait for each other.
torch.set_num_threads(1)

# A machine may be busy with something else; and a change is not to be refused by the draw of a day.
settings.register_profile("patient", deadline=None, derandomize=True)
settings.load_profile("patient")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: `PATCHSCOUT_DATA`, else `../shared/data`; skips without it."""
    named = os.environ.get("PATCHSCOUT_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set PATCHSCOUT_DATA to a folder that has some")
    return folder


class ImagePool:
    """Images for walkers, handed out in turn."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images
        self.num_drawn = 0

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = torch.arange(self.num_drawn, self.num_drawn + count) % len(self)
        self.num_drawn += count
        return numbers, self.images[numbers]


@pytest.fixture(scope="session")
def image_pool() -> type[ImagePool]:
    """Makes a pool that hands images out in turn and counts them."""
    return ImagePool


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample in MVTec AD layout, two of its images of another size and kind; read only."""
    from PIL import Image

    from patchscout.data.synthetic import write_sample

    root = write_sample(
        tmp_path_factory.mktemp("sample"),
        num_train=6,
        num_test_normal=2,
        num_per_type=3,
        size_px=96,
    )
    for name, mode, size in (("000", "L", (160, 72)), ("001", "RGBA", (64, 64))):
        path = root / "train" / "good" / f"{name}.png"
        Image.open(path).resize(size).convert(mode).save(path)
    return root


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Settings that train in seconds, on the command line."""
    settings = (
        "--labeled-per-type 2 --data.image-size 64 64 --profile.snapshots 3 6"
        " --profile.num-cycles 2 --predictor.updates 8 --predictor.batch-size 2"
        " --predictor.base-channels 4"
        " --predictor.crop-px 64 --device cpu"
    )
    return [*settings.split()]


@pytest.fixture(scope="session")
def trained_run(
    sample_data: Path, tiny: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run folder of a model trained on `sample_data` for a moment; read only."""
    from patchscout.cli import main

    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", str(sample_data), "--out", str(run), "--quiet", *tiny]) == 0
    return run


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, to write to."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


@pytest.fixture
def limits() -> Iterator[Callable[..., None]]:
    """Sets limits on what is read, for one test."""
    from patchscout.limits import Limits, set_limits

    yield lambda **values: set_limits(Limits(**values))
    set_limits(Limits())


@pytest.fixture
def file_size_limit() -> Callable[[], AbstractContextManager[None]]:
    """Makes a block in which no file grows beyond 50 kB, as on a full disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limit() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
