"""The threshold: from images that nothing else was trained on, at the best F1 by hand."""

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from patchscout.checks import InputValueError
from patchscout.config import ViewSettings
from patchscout.data.annotations import MaskFile
from patchscout.data.loader import ImageLoader
from patchscout.monitor import Monitor
from patchscout.training.calibration import ScoredPixels, choose_threshold, keep_back
from patchscout.training.views import NUM_FOLDS, ViewSource
from patchscout.types import Sample


class Brightness(torch.nn.Module):
    """Takes a pixel's red for its probability of being anomalous.

    Args:
        interrupted_at: Ctrl-C is pressed once, after so many images.
        offset: Added to all brightness.
    """

    def __init__(self, interrupted_at=None, offset=0.0):
        super().__init__()
        self.num_left = interrupted_at
        self.offset = offset

    def forward(self, images, lighting=None):
        if self.num_left is not None:
            self.num_left -= 1
            if self.num_left == -1:
                raise KeyboardInterrupt
        return (images[:, 0] + self.offset).clamp(1e-4, 1 - 1e-4)


@pytest.fixture
def two_images(tmp_path):
    """A normal image and a labeled one."""
    # 64 x 64 pixels: anomalous are 100 at 204 and 100 at 102; normal are 50 at 153, the rest at 51.
    # At 204: hits 100 of 200, nothing false: F1 = 200 / 300.
    # At 102: hits 200, 50 false: F1 = 400 / 450. At 51: 400 / (2 * 4096 + 200).
    labeled, mask = np.full((64, 64), 51, np.uint8), np.zeros((64, 64), np.uint8)
    labeled[:10, :10], labeled[20:30, :10] = 204, 102
    mask[:10, :10] = mask[20:30, :10] = 255
    normal = np.full((64, 64), 51, np.uint8)
    normal[:5, :10] = 153
    for name, pixels in {"labeled": labeled, "mask": mask, "normal": normal}.items():
        PillowImage.fromarray(pixels).save(tmp_path / f"{name}.png")
    labeled = Sample(tmp_path / "labeled.png", "dent", MaskFile(tmp_path / "mask.png"))
    return Sample(tmp_path / "normal.png"), labeled


def test_the_threshold_has_a_nearly_best_f1_over_all_images(two_images):
    normal, labeled = two_images
    choice = choose([normal], [labeled])
    assert choice.threshold == pytest.approx(102 / 255, abs=1e-3)
    assert choice.is_complete


def lowest_good_threshold(images):
    scored = ScoredPixels()
    for anomaly_map, mask in images:
        scored.add(anomaly_map, mask)
    return scored.lowest_good_threshold()


def test_of_nearly_equal_thresholds_the_lowest_is_taken():
    # Of 100 anomalous pixels 98 are at 0.9 and the rest lower; the normal one at 0.3 is false.
    scores = np.array([0.9] * 98 + [0.5, 0.3] + [0.3] * 2 + [0.1] * 7)
    mask = np.arange(len(scores)) < 100
    # At 0.9: 196 / 198. At 0.5: 198 / 199, the best. At 0.3: 200 / 202, nearly as good.
    assert lowest_good_threshold([(scores[None], mask[None])]) == pytest.approx(0.3)
    many_false = np.concatenate([scores, np.full(10, 0.3)])  # 200 / 212 is not
    mask = np.arange(len(many_false)) < 100
    assert lowest_good_threshold([(many_false[None], mask[None])]) == 0.5


def chosen(defective, *normal):
    """The threshold, and how many normal images it calls defective."""
    nothing = np.zeros(normal[0].shape, bool)
    threshold = lowest_good_threshold([*defective, *((one, nothing) for one in normal)])
    return round(threshold, 6), sum(np.float32(one.max()) >= threshold for one in normal)


def test_a_lower_threshold_calls_no_more_normal_images_defective():
    defective = np.array([0.9] * 98 + [0.5, 0.3] + [0.1] * 20)
    images = [(defective[None], (np.arange(120) < 100)[None])]
    calm, speckled = np.full((1, 120), 0.1), np.full((1, 120), 0.1)
    speckled[0, :3] = 0.3  # false at 0.3: 200 / 203, nearly as good as 198 / 199 at 0.5
    assert chosen(images, calm) == (0.3, 0)
    assert chosen(images, calm, speckled) == (0.5, 0)
    # One in twenty may be.
    assert chosen(images, *[calm] * 19, speckled) == (0.3, 1)
    # At the best threshold, 0.5, one of two is called defective anyway, and no more at 0.3.
    speckled[0, 0] = 0.6
    assert chosen(images, calm, speckled) == (0.3, 1)


@pytest.mark.parametrize(
    ("num_scored", "num_normal", "said"),
    [(0, 0, "1 of 5"), (1, 1, "2 of 5"), (2, 2, "3 of 5"), (4, 2, "4 of 5")],
)
def test_ctrl_c_leaves_a_threshold_of_the_images_scored_by_then(
    two_images, capsys, num_scored, num_normal, said
):
    normal, labeled = two_images
    choice = choose([normal, normal], [labeled] * 3, interrupted_at=num_scored)
    assert choice.threshold == pytest.approx(102 / 255, abs=1e-3)
    assert len(choice.scores.normal) == num_normal
    assert not choice.is_complete
    assert f"Stopped while the threshold was chosen: it is chosen on {said} images." in (
        capsys.readouterr().out
    )


def choose(normal, labeled, interrupted_at=None, offset=0.0):
    """Choose a threshold for a model that takes brightness for anomaly.

    Args:
        normal: Normal samples.
        labeled: Samples with masks.
        interrupted_at: After so many images Ctrl-C is pressed.
        offset: Added to all brightness.
    """
    segmenter = Brightness(interrupted_at, offset).eval()
    monitor = Monitor(quiet=interrupted_at is None)
    return choose_threshold([segmenter] * NUM_FOLDS, source(normal, labeled), monitor)


def source(normal, labeled):
    numbers, loader = range(len(normal)), ImageLoader((64, 64), 1)
    return ViewSource(normal, numbers, labeled, loader, ViewSettings(), seed=0)


def test_images_are_scored_by_what_has_not_seen_their_fold(two_images):
    normal, labeled = two_images
    scorers = [Brightness(), Brightness(offset=-0.3)]
    choice = choose_threshold(scorers, source([normal] * 2, [labeled]), Monitor(quiet=True))
    # Of the two spots at 153 that of fold 1 is below 102 to the model of this fold.
    assert choice.threshold == pytest.approx(102 / 255, abs=1e-3)
    assert [len(part) for part in (choice.scores.normal, choice.scores.defective)] == [2, 1]


def test_scores_of_images_that_were_trained_on_are_not_told(two_images):
    normal, labeled = two_images
    scorers = [Brightness()] * NUM_FOLDS
    views = source([normal], [labeled])
    choice = choose_threshold(scorers, views, Monitor(quiet=True), are_new=False)
    assert choice.scores.normal == ()
    assert len(choice.scores.defective) == 1


@pytest.mark.parametrize(
    ("num_normal", "budget", "count"),
    [
        (4, 0.05, 0),
        (5, 0.05, 2),
        (100, 0.05, 30),
        (209, 0.05, 63),
        (762, 0.05, 177),
        (762, 0.01, 229),
        (5000, 0.05, 500),
    ],
)
def test_as_many_images_are_kept_back_as_a_promise_needs(num_normal, budget, count):
    learned, kept_back = keep_back(num_normal, budget, seed=1)
    assert len(kept_back) == count
    assert sorted([*learned, *kept_back]) == list(range(num_normal))
    assert kept_back == sorted(kept_back)
    assert keep_back(num_normal, budget, seed=1) == (learned, kept_back)
    assert not count or keep_back(num_normal, budget, seed=2)[1] != kept_back


def test_pixels_of_some_normal_images_are_kept_and_the_scores_of_all():
    scored = ScoredPixels(every=3)
    for number in range(7):
        scored.add(np.full((2, 2), number / 10, np.float32), np.zeros((2, 2), bool))
    assert scored.pixels.sorted_normal().tolist() == pytest.approx([0] * 4 + [0.3] * 4 + [0.6] * 4)
    assert scored.normal == pytest.approx([number / 10 for number in range(7)])


@pytest.mark.parametrize("count", [1, 8])
def test_without_labels_it_is_chosen_on_simulated_defects(tmp_path, count):
    # A single normal image gives a single defect, which must not be one that cannot be seen.
    normal = []
    for number in range(count):
        path = tmp_path / f"{number}.png"
        PillowImage.fromarray(np.full((64, 64), 60 + number, np.uint8)).save(path)
        normal.append(Sample(path))
    for _ in range(3):
        choice = choose(normal, [])
        assert 0 < choice.threshold < 1
        assert choice == choose(normal, [])


def test_a_training_that_diverged_is_told(two_images):
    normal, labeled = two_images
    with pytest.raises(InputValueError, match=r"not finite .* its training diverged"):
        choose([normal], [labeled], offset=float("nan"))
