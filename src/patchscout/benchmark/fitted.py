"""What every method gives when it is trained, and the rule that chooses its threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from patchscout.config import Config
from patchscout.data.images import read_image
from patchscout.data.loader import ImageLoader, resized_mask
from patchscout.evaluation import Score
from patchscout.training.calibration import ScoredPixels, hold_out
from patchscout.training.views import ViewSource
from patchscout.types import Image, Mask, Split


@dataclass(frozen=True)
class Fitted:
    """A trained method.

    Attributes:
        score: Returns the anomaly map of an image at the working size, in [0, 1].
        threshold: The decision threshold, chosen from training images.
        seconds: Duration of training, the choice of the threshold included.
    """

    score: Score
    threshold: float
    seconds: float


def calibrate(score: Score, split: Split, config: Config) -> float:
    """Return the threshold by the rule of this program's own method, see `ScoredPixels`.

    It is chosen on the labeled training images (without any, on simulated defects) and on the
    normal ones that `training.calibration.hold_out` sets aside, which a method therefore does not
    train on.

    Args:
        score: Of the trained method.
        split: Its images; the test part is not looked at.
        config: For the working size and the seed.
    """
    scored = ScoredPixels()
    for image, mask in _calibration_images(split, config):
        scored.add(score(image), mask)
    return scored.lowest_good_threshold().threshold


def _calibration_images(split: Split, config: Config) -> Iterator[tuple[Image, Mask]]:
    """Yield each image that the threshold is chosen on, with its mask at the working size."""
    _, normal = hold_out(split.train_normal, config.seed)
    for sample in (*split.labeled, *normal):
        yield read_image(sample.image_path), resized_mask(sample, config.data.working_size)
    if not split.labeled:
        loader = ImageLoader(config.data.working_size, config.data.cache_mib)
        views = ViewSource(normal, (), loader, config.views, seed=config.seed)
        for view in views.defects(views.num_defects):
            yield view.image.permute(1, 2, 0).contiguous().numpy(), view.mask.numpy()
