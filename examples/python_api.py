"""Train, evaluate, save, load and predict from Python, on the embedded sample.

Run it with `python examples/python_api.py`. Images, networks and schedule are far smaller than the
defaults, so that it takes seconds; its figures say nothing about the method.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from patchscout import PatchScout, preset_config
from patchscout.data.synthetic import write_sample

TINY = preset_config(
    "fast",
    seed=1,
    labeled_per_type=2,
    data={"image_size": (64, 64)},
    profile={"snapshots": (5, 20)},
    predictor={"base_channels": 8, "crop_px": 64, "updates": 60},
)


def main(folder: Path) -> None:
    """Show every step; whatever is written goes to `folder`."""
    # Your own images: the folder of a category in MVTec AD layout, or any folder together with
    # `data={"normal": ..., "defective": ..., "masks": ...}` in the settings.
    data = write_sample(folder, num_train=20, num_test_normal=4, num_per_type=4, size_px=64)

    scout = PatchScout(TINY).fit(data)
    most = scout.decision.most_false_alarms
    print(f"with 95 % confidence at most {most:.1%} of good parts are called defective")

    metrics = scout.evaluate(data)  # on images that were not trained on
    print(f"pixel AUROC {metrics['pixel_auroc']:.3f}, pixel AP {metrics['pixel_ap']:.3f}")

    scout.save(folder / "run")
    loaded = PatchScout.load(folder / "run")

    path = next(iter(sorted((data / "test" / "stain").glob("*.png"))))
    found = loaded.predict(path)  # a path, a numpy array or a Pillow image
    print(f"{path.name}: score {found.pred_score:.3f}, defective: {found.is_anomalous}")
    print(f"  map {found.anomaly_map.shape}, {found.pred_mask.sum()} px in the mask")

    several = loaded.predict([path, Image.open(path).rotate(90)])  # sizes may differ
    print(f"{len(several)} predictions")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
