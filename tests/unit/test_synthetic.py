"""The embedded sample: repeatable, well formed, and too hard for a threshold on brightness."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from patchscout.checks import InputValueError
from patchscout.data.annotations import read_mask
from patchscout.data.check import check_dataset
from patchscout.data.images import read_image
from patchscout.data.layout import read_dataset
from patchscout.data.synthetic import DEFECTS, brick_wall, draw_sample, write_sample


def contents(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def f1_max(scores, masks):
    precision, recall, _ = precision_recall_curve(masks.ravel(), scores.ravel())
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-9)))


def test_layout_and_masks(tmp_path):
    root = write_sample(tmp_path, num_train=2, num_test_normal=1, num_per_type=6, size_px=128)
    assert root == tmp_path / "brick_wall"
    dataset = read_dataset(root)
    check_dataset(dataset)
    assert (len(dataset.train_normal), len(dataset.test_normal)) == (2, 1)
    assert dataset.defect_types == tuple(sorted(DEFECTS))
    for sample in dataset.anomalous:
        mask = read_mask(sample)
        assert 10 < mask.sum() < 0.12 * mask.size, sample.image_path
        assert read_image(sample.image_path).shape == (128, 128, 3)


def write(folder, count, seed=0):
    return contents(
        write_sample(
            folder,
            num_train=count,
            num_test_normal=count,
            num_per_type=count,
            size_px=64,
            seed=seed,
        )
    )


def test_same_arguments_same_files(tmp_path):
    first = write(tmp_path / "a", 2)
    assert first == write(tmp_path / "b", 2)
    assert len(set(first.values())) == len(first) == 2 * (2 + 2 * len(DEFECTS))
    other = write(tmp_path / "c", 2, seed=1)
    assert all(first[name] != other[name] for name in first)


def test_an_image_does_not_depend_on_how_many_there_are(tmp_path):
    assert write(tmp_path / "few", 1).items() < write(tmp_path / "more", 2).items()


@pytest.mark.parametrize("defect_type", DEFECTS)
def test_defects_change_what_their_masks_mark_and_little_else(defect_type):
    for seed in range(4):
        changed, mask = draw_sample(defect_type, 128, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        surface = brick_wall(128, rng)
        image, _ = DEFECTS[defect_type](surface, rng)
        change = np.abs(image - surface).mean(axis=2)
        assert change[mask].mean() > 0.02
        assert change[~mask].mean() < 0.05 * change[mask].mean()
        assert changed.dtype == np.float32
        assert 0 <= changed.min() < changed.max() <= 1


def test_brightness_does_not_find_the_defects():
    def draw(defect_type, seed):
        return draw_sample(defect_type, 128, np.random.default_rng(seed))

    normal = np.mean([draw("good", seed)[0] for seed in range(20)], axis=0)
    drawn = [draw(kind, 100 + seed) for kind in (*DEFECTS, "good") for seed in range(8)]
    images, masks = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
    scores = {
        "difference from the mean normal image": np.abs(images - normal).mean(axis=3),
        "darkness": -images.mean(axis=3),
        "brightness": images.mean(axis=3),
    }
    for name, score in scores.items():
        assert f1_max(score, masks) < 0.35, name


def test_arguments_that_do_not_fit(tmp_path):
    with pytest.raises(InputValueError, match=r"`size_px` must be 64 or more; got 32"):
        write_sample(tmp_path, size_px=32)
    assert not any(tmp_path.iterdir())
