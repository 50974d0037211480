"""The observations that the predictor learns from: replaced in turn, every level cut alike."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from patchscout.backbones import Backbone
from patchscout.config import ViewSettings
from patchscout.data.loader import ImageLoader
from patchscout.networks.autoencoder import FeatureAutoencoder
from patchscout.networks.loss_profile import LossProfile
from patchscout.networks.segmenter import Observer, measure_lighting
from patchscout.training import profile_buffer as module
from patchscout.training.profile_buffer import CELL_PX, MARGIN_PX, ProfileBuffer
from patchscout.training.views import View, ViewSource
from patchscout.types import Sample

STRIDES = (4, 16)


class Echo(Backbone):
    """Gives the upper left pixel of each cell, and keeps the images that it was shown."""

    def __init__(self):
        super().__init__(channels=(3, 3), strides=STRIDES, receptive_px=0)
        self.seen = []

    def levels(self, images):
        self.seen.append(images)
        return [images[..., ::stride, ::stride] for stride in self.strides]


class Places(ViewSource):
    """Views that show each pixel's row, column and the number of the view, with one defect."""

    def __init__(self, size, defect=None):
        normal = [Sample(Path("never_read.png"))]
        super().__init__(normal, [0], normal, ImageLoader(size, 0), ViewSettings(), seed=0)
        rows, columns = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
        self.places = torch.stack([rows, columns]).float() / 1024
        self.mask = torch.zeros(size, dtype=torch.bool)
        if defect is not None:
            self.mask[defect[0] : defect[0] + 4, defect[1] : defect[1] + 4] = True
        self.count = 0

    def draw(self):
        number = torch.full_like(self.places[:1], self.count / 1024)
        self.count += 1
        return View(torch.cat([self.places, number]), self.mask, self.count % 2)


class Plain(Observer):
    """Shows images as they are, and nothing but features beside them."""

    def __init__(self):
        super().__init__(Echo(), ("features",), torch.zeros(3), torch.ones(3))
        self.lightings = []

    def features(self, images, lighting=None):
        self.lightings.append(lighting)
        return self.backbone(images)


PROFILES = [LossProfile([FeatureAutoencoder((3, 3))], (3, 3)) for _ in range(2)]
PROFILES[1].get_buffer("mean_0").fill_(0.25)  # so that it shows which one was taken


def make(size=(96, 128), defect=None, crop_px=32, batch_size=3):
    views = Places(size, defect)
    buffer = ProfileBuffer(views, Plain(), crop_px=crop_px, batch_size=batch_size, seed=0)
    return buffer, views


def integers(maps):
    return (maps.float() * 1024).round().int()


def test_crops_of_image_mask_and_every_level_belong_together():
    buffer, views = make(defect=(40, 60))
    buffer.refresh(PROFILES)
    corners = set()
    for _ in range(20):
        seen, target = buffer.batch()
        assert seen.image.shape == (3, 6, 32, 32)
        assert seen.image.dtype == target.dtype == torch.float32
        assert [tuple(one.shape) for one in seen.sides] == [(3, 3, 8, 8), (3, 3, 2, 2)]
        for index, (rows, columns) in enumerate(integers(seen.image[:, :2])):
            top, left = int(rows[0, 0]), int(columns[0, 0])
            corners.add((top, left))
            assert top % CELL_PX == left % CELL_PX == 0
            window = slice(top, top + 32), slice(left, left + 32)
            assert torch.equal(target[index], views.mask[window].float())
            number = int(integers(seen.image[index, 2, 0, 0]))
            fine, coarse = (level[index] for level in seen.sides)
            fine = fine + 0.25 * ((number + 1) % 2)  # the fold of the view, see `PROFILES`
            for level, stride in ((fine, 4), (coarse, 16)):
                assert torch.equal(integers(level[0]), rows[::stride, ::stride])
                assert torch.equal(integers(level[1]), columns[::stride, ::stride])
                assert (integers(level[2]) == number).all()
    assert len(corners) > 15


def test_a_crop_is_at_most_the_image():
    buffer, _ = make((64, 96), crop_px=192)
    buffer.refresh(PROFILES)
    seen, target = buffer.batch()
    assert seen.image.shape[-2:] == target.shape[-2:] == (64, 64)


def numbers(buffer):
    return {int(integers(entry.image[2, 0, 0])) for entry in buffer._entries}


def test_it_starts_with_a_batch_and_grows_until_it_is_full_and_then_replaces(monkeypatch):
    monkeypatch.setattr(module, "CAPACITY", 9)
    buffer, views = make(batch_size=3)
    drawn = []
    for _ in range(6):
        buffer.refresh(PROFILES)
        drawn.append(views.count)
    assert drawn == [3, 5, 7, 9, 10, 11]
    assert numbers(buffer) == set(range(2, 11))  # the oldest have gone


def test_the_first_batch_has_no_view_twice():
    buffer, _ = make(batch_size=12)
    buffer.refresh(PROFILES)
    seen, _ = buffer.batch()
    assert len(integers(seen.image[:, 2, 0, 0]).unique()) == 12


def test_what_is_kept_does_not_hold_on_to_whole_views():
    buffer, _ = make((512, 704))
    buffer.refresh(PROFILES)
    for entry in buffer._entries:
        for kept in (entry.image, *entry.sides, entry.mask):
            assert kept.untyped_storage().nbytes() == kept.nbytes


def regions(size, defect=None, count=40):
    """Return (rows, columns, mask) of entries: their places in the view, and what is in them."""
    buffer, views = make(size, defect)
    for _ in range(count):
        buffer.refresh(PROFILES)
    found = []
    for entry in buffer._entries:
        rows, columns = integers(entry.image[:2])
        inside = (
            slice(int(rows[0, 0]), int(rows[-1, -1]) + 1),
            slice(int(columns[0, 0]), int(columns[-1, -1]) + 1),
        )
        assert torch.equal(entry.mask, views.mask[inside])
        assert entry.image.shape[-2:] == entry.mask.shape
        found.append((*inside, entry.mask))
    return buffer, found


@pytest.mark.parametrize("size", [(64, 64), (64, 288), (288, 288)])
@pytest.mark.parametrize("defect", [None, (2, 3), (40, 60)])
def test_of_a_view_that_is_small_all_is_used(size, defect):
    _, found = regions(size, defect, count=8)
    for rows, columns, _ in found:
        assert (rows, columns) == (slice(0, size[0]), slice(0, size[1]))


@pytest.mark.parametrize("size", [(512, 512), (64, 800), (304, 288)])
def test_of_a_large_view_a_region_is_used_without_its_margins_at_cuts(size):
    buffer, found = regions(size, count=80)
    observed = {tuple(images.shape[-2:]) for images in buffer.observer.backbone.seen}  # pyright: ignore
    assert observed == {tuple(min(side, module.REGION_PX) for side in size)}
    starts = set()
    for spans in (part[:2] for part in found):
        for span, side in zip(spans, size, strict=True):
            at_edges = (span.start == 0) + (span.stop == side)
            length = min(side, module.REGION_PX) - MARGIN_PX * (2 - at_edges)
            assert span.stop - span.start == length
            assert span.start == 0 or span.start > MARGIN_PX
            assert span.stop == side or span.stop < side - MARGIN_PX
        starts.add((spans[0].start, spans[1].start))
    assert len(starts) > 5


def test_the_border_of_a_large_view_is_seen_often():
    """It is seen only in regions that begin or end there, since cuts lose a margin."""
    _, found = regions((512, 800), count=300)
    for axis, side in enumerate((512, 800)):
        shares = [
            sum(part[axis].start <= place < part[axis].stop for part in found) / len(found)
            for place in (0, MARGIN_PX - 1, side // 2, side - MARGIN_PX, side - 1)
        ]
        assert min(shares) > 0.12  # 0.18 where the side is 800 px
        assert max(shares) < 4 * min(shares)


@pytest.mark.parametrize("crop_px", [192, 256])
def test_every_region_has_room_for_a_crop(crop_px):
    buffer, _ = make((272, 704), crop_px=crop_px)
    for _ in range(5):
        buffer.refresh(PROFILES)
        seen, target = buffer.batch()
        assert seen.image.shape[-2:] == target.shape[-2:] == (crop_px, crop_px)


@pytest.mark.parametrize("corner", [(0, 0), (1000, 1100), (0, 360), (300, 5), (500, 400)])
def test_half_the_regions_have_a_defect_clear_of_the_cuts(corner):
    buffer, views = make((1024, 1104), corner)
    shown = []
    for _ in range(200):
        region, inside = buffer._region(views.draw())
        shown.append(bool(region.mask[inside].any()))
    # Half of them look for it; few of the others meet with so small a one by chance.
    assert 0.4 < sum(shown) / len(shown) < 0.75


def test_a_region_is_drawn_about_every_part_of_a_defect():
    buffer, views = make((512, 1008))
    views.mask[100:102, 50:950] = True
    middles = []
    for _ in range(200):
        region, inside = buffer._region(views.draw())
        if region.mask[inside].any():
            middles.append(float(integers(region.image[1]).float().mean()))
    counts = torch.histogram(torch.tensor(middles), bins=3, range=(0.0, 1008.0)).hist
    assert len(middles) > 80
    assert (counts > 0.15 * len(middles)).all()


def test_lighting_is_that_of_the_whole_view():
    buffer, _ = make((512, 704))
    buffer.refresh(PROFILES)
    expected = [measure_lighting(Places((512, 704)).draw().image[None])[:, :2]] * 3
    for lighting, other in zip(buffer.observer.lightings, expected, strict=True):  # pyright: ignore
        torch.testing.assert_close(lighting[:, :2], other)


def test_sides_follow_their_image_where_cells_are_filled_in_part(world):
    """A view whose sides are odd multiples of 16, with the features of a real backbone."""
    made = world((80, 112), inputs=("features",))
    buffer = ProfileBuffer(made.views(), made.observer, crop_px=64, batch_size=8, seed=0)
    buffer.refresh([LossProfile([FeatureAutoencoder((6, 3))], (6, 3))] * 2)
    seen, _ = buffer.batch()
    mean, std = 0.3, 0.1
    for image, fine in zip(seen.image, seen.sides[0], strict=True):
        relit = image[3:]
        torch.testing.assert_close(fine[:3], F.avg_pool2d(relit, 4), atol=5e-3, rtol=5e-3)
        assert ((image[:3] * std + mean) >= -1e-2).all()
