"""Exported models on every test image of the real data sets, against PyTorch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from patchscout import PatchScout, preset_config
from patchscout.data.images import read_image
from patchscout.export import TOLERANCE, compare
from patchscout.exported import SUFFIXES, ExportedModel

pytestmark = pytest.mark.slow

BRIEF = {"steps_per_cycle": 60, "predictor_updates": 200}


@pytest.fixture(
    scope="module", params=["mvtec_ad/bottle", "kolektorsdd/commutator", "magnetic_tile/tile"]
)
def scout(request: pytest.FixtureRequest, real_data: Path) -> PatchScout:
    """A model of a real category, briefly trained."""
    category = real_data / request.param
    if not category.is_dir():
        pytest.skip(f"no {category}")
    torch.set_num_threads(1)
    return PatchScout(preset_config("fast", device="cpu", training=BRIEF)).fit(category)


@pytest.mark.parametrize("file_format", ["onnx", "openvino"])
def test_anomaly_maps_of_all_test_images_agree(scout, file_format, tmp_path):
    run, path = tmp_path / "run", tmp_path / f"model{SUFFIXES[file_format]}"
    scout.save(run)
    # In a process of its own: no exporter traces functions whose types are checked.
    script = "import sys\nfrom patchscout.cli import main\nsys.exit(main(sys.argv[1:]))"
    line = [sys.executable, "-c", script, "export", run, "--format", file_format, "--out", path]
    subprocess.run(line, check=True)
    test = [read_image(sample.image_path) for sample in scout.split.test]
    parity = compare(scout.segmenter, ExportedModel.load(path), test)
    print(f"{scout.record.category}, {file_format}: {parity}")
    assert parity.num_images == len(test)
    assert parity.largest_difference <= TOLERANCE
