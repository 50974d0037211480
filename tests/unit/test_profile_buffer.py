"""The profiles that the predictor learns from: replaced in turn, cut along with their masks."""

import pytest
import torch
from patchscout.data.views import ViewSource

from patchscout.config import Config, parse_config
from patchscout.data.loader import ImageLoader
from patchscout.networks.loss_profile import ProfileExtractor
from patchscout.networks.segmenter import FeatureExtractor
from patchscout.training.profile_buffer import ProfileBuffer
from patchscout.types import Sample

HEIGHT, WIDTH = 64, 96


class NumberedViews(ViewSource):
    """Views whose channels are their mask, their number, and each pixel's place."""

    def __init__(self, tmp_path):
        normal = [Sample(tmp_path / "never_read.png")]
        super().__init__(
            normal,
            normal,
            ImageLoader((HEIGHT, WIDTH), 0),
            normal_fraction=1.0,
            paste_fraction=0.0,
            seed=0,
        )
        self.count = 0
        self._random = torch.Generator().manual_seed(0)

    def draw(self):
        mask = torch.rand(HEIGHT, WIDTH, generator=self._random) < 0.3
        place = torch.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 2048 / 2048  # exact in half
        number = torch.full((HEIGHT, WIDTH), self.count / 64)
        self.count += 1
        return torch.stack([mask.float(), number, place]), mask


@pytest.fixture
def extractor():
    """Gives back the image that it sees."""
    profiles = ProfileExtractor([], None, "linear")
    return FeatureExtractor(profiles, "image", torch.zeros(3), torch.ones(3))


def config(capacity=8, fresh=2, batch_size=3, crop_px=32) -> Config:
    return parse_config(
        {
            "data": {"image_size": [HEIGHT, WIDTH]},
            "buffer": {"capacity": capacity, "fresh_per_update": fresh},
            "predictor": {"batch_size": batch_size, "crop_px": crop_px},
            "sampler": {"patch_px": 32, "window_px": 32},
        }
    )


def make(tmp_path, **settings):
    views = NumberedViews(tmp_path)
    return ProfileBuffer(config(**settings), views, torch.device("cpu")), views


def numbers(buffer, num_batches=60):
    """The numbers of the views that batches are made of."""
    batches = [buffer.batch()[0] for _ in range(num_batches)]
    return {int(value) for batch in batches for value in (batch[:, 1] * 64).unique()}


def test_features_and_masks_are_cut_flipped_and_turned_alike(tmp_path, extractor):
    buffer, _ = make(tmp_path)
    buffer.refresh(extractor)
    corners, directions = set(), set()
    for _ in range(60):
        features, target = buffer.batch()
        assert features.shape == (3, 3, 32, 32)
        assert torch.equal(features[:, 0], target)
        assert features.dtype == target.dtype == torch.float32
        for place in (features[:, 2] * 2048).round().int():
            corners.add(int(place.min()))
            steps = (int(place[0, 1] - place[0, 0]), int(place[1, 0] - place[0, 0]))
            directions.add(tuple((abs(step) > 1, step > 0) for step in steps))
    assert len(directions) == 8  # four quarter turns, each flipped or not
    assert len(corners) > 20


def test_a_crop_is_at_most_the_image(tmp_path, extractor):
    buffer, _ = make(tmp_path, crop_px=192)
    buffer.refresh(extractor)
    features, target = buffer.batch()
    assert features.shape == (3, 3, HEIGHT, HEIGHT)
    assert target.shape == (3, HEIGHT, HEIGHT)


def test_it_starts_with_a_batch_and_grows_until_it_is_full(tmp_path, extractor):
    buffer, views = make(tmp_path, capacity=8, fresh=1, batch_size=3)
    drawn = []
    for _ in range(5):
        buffer.refresh(extractor)
        drawn.append(views.count)
    assert drawn == [3, 5, 7, 9, 10]  # a batch, twice as many as later, then one by one
    assert numbers(buffer) == set(range(2, 10))


def test_the_oldest_are_replaced_first(tmp_path, extractor):
    buffer, _ = make(tmp_path, capacity=4, fresh=2, batch_size=4)
    for expected in ({0, 1, 2, 3}, {2, 3, 4, 5}, {4, 5, 6, 7}, {6, 7, 8, 9}):
        buffer.refresh(extractor)
        assert numbers(buffer) == expected


def test_a_batch_has_no_view_twice_and_no_more_than_there_are(tmp_path, extractor):
    buffer, _ = make(tmp_path, capacity=2, batch_size=5)
    buffer.refresh(extractor)
    features, _ = buffer.batch()
    assert len(features) == 2
    assert len(features[:, 1].unique()) == 2
