"""The profiles that the predictor learns from: replaced in turn, cut along with their masks."""

import pytest
import torch

from patchscout.config import Config, ViewSettings, parse_config
from patchscout.data.loader import ImageLoader
from patchscout.networks.segmenter import FeatureExtractor, measure_lighting
from patchscout.training.profile_buffer import MARGIN_PX, ProfileBuffer
from patchscout.training.views import View, ViewSource
from patchscout.types import Sample

HEIGHT, WIDTH = 64, 96


class NumberedViews(ViewSource):
    """Views whose channels are their mask, their number, and each pixel's place."""

    def __init__(self, tmp_path):
        normal = [Sample(tmp_path / "never_read.png")]
        super().__init__(normal, normal, ImageLoader((HEIGHT, WIDTH), 0), ViewSettings(), seed=0)
        self.count = 0
        self._random = torch.Generator().manual_seed(0)

    def draw(self):
        mask = torch.rand(HEIGHT, WIDTH, generator=self._random) < 0.3
        place = torch.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 2048 / 2048  # exact in half
        number = torch.full((HEIGHT, WIDTH), self.count / 64)
        self.count += 1
        return View(torch.stack([mask.float(), number, place]), mask, number[None])


class Echo(FeatureExtractor):
    """Gives back the image that it sees, and notes its size and the lighting it is told."""

    def __init__(self):
        super().__init__(None, "image", torch.zeros(3), torch.ones(3))
        self.sizes = []
        self.contexts = []
        self.images = []

    def forward(self, images, context=None):
        self.sizes.append(tuple(images.shape[-2:]))
        self.contexts.append(context)
        self.images.append(images)
        return images


@pytest.fixture
def extractor():
    return Echo()


def config(capacity=8, fresh=2, batch_size=3, crop_px=32, **views) -> Config:
    return parse_config(
        {
            "data": {"image_size": [HEIGHT, WIDTH]},
            "buffer": {"capacity": capacity, "fresh_per_update": fresh},
            "predictor": {"batch_size": batch_size, "crop_px": crop_px},
            "sampler": {"patch_px": 32, "window_px": 32},
            "views": views,
        }
    )


def make(tmp_path, **settings):
    views = NumberedViews(tmp_path)
    return ProfileBuffer(config(**settings), views), views


def numbers(buffer, num_batches=60):
    """The numbers of the views that batches are made of."""
    batches = [buffer.batch()[0] for _ in range(num_batches)]
    return {int(value) for batch in batches for value in (batch[:, 1] * 64).unique()}


@pytest.mark.parametrize(("keeps_direction", "num_directions"), [(False, 8), (True, 4)])
def test_features_and_masks_are_cut_flipped_and_turned_alike(
    tmp_path, extractor, keeps_direction, num_directions
):
    buffer, _ = make(tmp_path, keeps_direction=keeps_direction)
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
    # Four quarter turns, or two half turns, each flipped or not.
    assert len(directions) == num_directions
    is_turned = {across for (across, _), _ in directions}  # rows have become columns
    assert is_turned == ({False} if keeps_direction else {False, True})
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
    for _ in range(9):
        buffer.refresh(extractor)
        drawn.append(views.count)
    # A batch; twice as many as later, four at a time, until there are eight; then one an update.
    assert drawn == [3, 3, 7, 7, 11, 11, 11, 11, 15]
    assert numbers(buffer) == set(range(7, 15))


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


class LargeViews(NumberedViews):
    """Views of any size that show each pixel's place, with one small defect."""

    def __init__(self, tmp_path, size, defect=None):
        super().__init__(tmp_path)
        rows, columns = (torch.arange(side).float() / 1024 for side in size)
        self.places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        self.mask = torch.zeros(size, dtype=torch.bool)
        if defect is not None:
            row, column = defect
            self.mask[row : row + 4, column : column + 4] = True

    def draw(self):
        self.count += 1
        return View(torch.cat([self.places, self.mask[None].float()]), self.mask, self.places)


def regions(tmp_path, size, extractor, defect=None, count=80):
    """Return (rows, columns, mask) of profiles: their places in the view, and what is in them."""
    views = LargeViews(tmp_path, size, defect)
    settings = parse_config(
        {
            "data": {"image_size": size},
            "buffer": {"capacity": count, "fresh_per_update": count, "region_px": 160},
            "predictor": {"batch_size": 1, "crop_px": 64},
            "sampler": {"patch_px": 16, "window_px": 32},
        }
    )
    buffer = ProfileBuffer(settings, views)
    while views.count < count:
        buffer.refresh(extractor)
    found = []
    for features, mask in buffer._entries:
        rows, columns = ((features[axis].float() * 1024).round().int() for axis in (0, 1))
        inside = (slice(int(rows[0, 0]), int(rows[-1, 0]) + 1), slice(*edges(columns)))
        assert features.shape[-2:] == mask.shape == views.mask[inside].shape
        assert torch.equal(mask, views.mask[inside])
        found.append((inside[0], inside[1], mask))
    return found


def edges(columns):
    return int(columns[0, 0]), int(columns[0, -1]) + 1


@pytest.mark.parametrize("size", [(64, 64), (64, 160), (160, 160), (144, 80)])
@pytest.mark.parametrize("defect", [None, (2, 3), (40, 60)])
def test_of_a_view_that_is_small_all_is_used(tmp_path, extractor, size, defect):
    found = regions(tmp_path, size, extractor, defect, count=12)
    assert set(extractor.sizes) == {size}
    for rows, columns, _ in found:
        assert (rows, columns) == (slice(0, size[0]), slice(0, size[1]))


@pytest.mark.parametrize("size", [(512, 512), (64, 800), (176, 160)])
def test_of_a_large_view_a_region_is_used_without_its_margins_at_cuts(tmp_path, extractor, size):
    found = regions(tmp_path, size, extractor)
    assert set(extractor.sizes) == {tuple(min(side, 160) for side in size)}
    starts = set()
    for spans in (part[:2] for part in found):
        for span, side in zip(spans, size, strict=True):
            cut = min(side, 160)
            length = span.stop - span.start
            at_edges = (span.start == 0) + (span.stop == side)
            assert length == cut - MARGIN_PX * (2 - at_edges)
            assert span.start == 0 or span.start > MARGIN_PX
            assert span.stop == side or span.stop < side - MARGIN_PX
        starts.add((spans[0].start, spans[1].start))
    assert len(starts) > 10


@pytest.mark.parametrize("corner", [(0, 0), (508, 700), (250, 0), (0, 360), (300, 5), (200, 400)])
def test_half_the_regions_have_a_defect_clear_of_the_cuts(tmp_path, extractor, corner):
    found = regions(tmp_path, (512, 704), extractor, corner, count=160)
    shown = [bool(mask.any()) for _, _, mask in found]
    # Half of them look for it; few of the others meet with so small a one by chance.
    assert 0.35 < sum(shown) / len(shown) < 0.75


def test_a_region_is_drawn_about_every_part_of_a_defect(tmp_path, extractor):
    views = LargeViews(tmp_path, (512, 704))
    views.mask[100:102, 50:650] = True
    buffer = ProfileBuffer(config(crop_px=32), views)
    buffer.region_px = 160
    middles = []
    for _ in range(200):
        region, inside = buffer._region(views.draw())
        assert region.image.shape[-2:] == region.mask.shape == (160, 160)
        if region.mask[inside].any():
            middles.append(float(region.image[1].mean()) * 1024)
    counts = torch.histogram(torch.tensor(middles), bins=3, range=(0.0, 704.0)).hist
    assert len(middles) > 80
    assert (counts > 0.15 * len(middles)).all()


def test_lighting_is_that_of_the_whole_view_and_deviations_are_those_of_the_region(
    tmp_path, extractor
):
    regions(tmp_path, (512, 704), extractor, (7, 9), count=5)
    view = LargeViews(tmp_path, (512, 704), (7, 9)).draw()
    expected = measure_lighting(view.image[None])
    for images, (lighting, deviations) in zip(extractor.images, extractor.contexts, strict=True):
        torch.testing.assert_close(lighting, expected.expand_as(lighting))
        assert torch.equal(deviations, images[:, :2])  # both show each pixel's place
