"""Pictures: what is marked, what is left alone, and that nothing given is changed."""

from __future__ import annotations

import numpy as np
import pytest

from patchscout.visualize import SheetRow, contact_sheet, heat_colors, outline_px, overlay

THRESHOLD = 0.4
CYAN = [0, 255, 255]


def _scene(ground: float, size: tuple[int, int] = (60, 80)) -> tuple[np.ndarray, ...]:
    """Return an even image, a map that is 0.9 on a square and 0.05 elsewhere, and its mask."""
    image = np.full((*size, 3), ground, dtype=np.float32)
    anomaly_map = np.full(size, 0.05, dtype=np.float32)
    anomaly_map[20:40, 30:50] = 0.9
    return image, anomaly_map, anomaly_map >= THRESHOLD


@pytest.mark.parametrize("ground", [0.0, 0.3, 1.0])
def test_overlay_marks_what_is_anomalous_and_leaves_the_rest(ground: float) -> None:
    image, anomaly_map, mask = _scene(ground)
    drawn = overlay(image, anomaly_map, mask, THRESHOLD)
    assert drawn.shape == (60, 80, 3)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn[:15], round(ground * 255))
    inside = drawn[30, 40].astype(int)
    assert inside[0] > inside[1] + 60  # warm: much more red than green and blue
    assert inside[0] > inside[2] + 60
    np.testing.assert_array_equal(drawn[19, 30:50], [CYAN] * 20)  # the outline, just outside
    np.testing.assert_array_equal(drawn[18, 30:50], 0)  # its dark rim
    assert not (drawn[mask] == CYAN).all(axis=1).any()


def test_heat_without_a_mask_has_no_outline() -> None:
    image, anomaly_map, _ = _scene(0.5)
    drawn = overlay(image, anomaly_map * 0.4, np.zeros((60, 80), dtype=bool), THRESHOLD)
    assert not (drawn == CYAN).all(axis=2).any()
    assert drawn[30, 40, 0] > drawn[30, 40, 2]


def test_inputs_are_not_modified_and_both_number_ranges_look_alike() -> None:
    image, anomaly_map, mask = _scene(0.2)
    as_bytes = np.round(image * 255).astype(np.uint8)
    given = (image, as_bytes, anomaly_map, mask)
    before = [array.copy() for array in given]
    from_floats = overlay(image, anomaly_map, mask, THRESHOLD)
    from_bytes = overlay(as_bytes, anomaly_map, mask, THRESHOLD)
    contact_sheet([SheetRow(image, mask, anomaly_map, from_floats)])
    np.testing.assert_array_equal(from_floats, from_bytes)
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_mask_over_all_of_a_tiny_image_can_be_drawn() -> None:
    ones = np.ones((1, 2), dtype=np.float32)
    drawn = overlay(np.zeros((1, 2, 3), dtype=np.float32), ones, ones > 0, THRESHOLD)
    assert (drawn[..., 0] > 60).all()


def test_outlines_grow_with_the_image() -> None:
    assert outline_px((60, 80)) == 1
    assert outline_px((500, 1000)) == 5
    image, anomaly_map, mask = _scene(0.5, (500, 1000))
    drawn = overlay(image, anomaly_map, mask, THRESHOLD)
    assert (drawn[:, 40] == CYAN).all(axis=1).sum() == 10  # 5 px above and 5 px below


@pytest.mark.parametrize("threshold", [0.02, 0.5, 0.9])
def test_the_heat_scale_turns_at_the_threshold_whatever_it_is(threshold: float) -> None:
    scores = np.array([[0.0, threshold, 1.0]], dtype=np.float32)
    colors = heat_colors(scores, threshold)[0]
    np.testing.assert_array_equal(colors, heat_colors(np.array([[0, 0.5, 1]], np.float32), 0.5)[0])
    assert np.diff(colors.astype(int).sum(axis=1)).min() > 100  # darker to brighter


@pytest.mark.parametrize("threshold", [0.0, 1.0, 1.5])
def test_extreme_thresholds_can_be_drawn(threshold: float) -> None:
    image, anomaly_map, mask = _scene(0.5)
    assert overlay(image, anomaly_map, mask, threshold).shape == (60, 80, 3)


def _row(size: tuple[int, int], with_truth: bool = True, caption: str = "") -> SheetRow:
    image, anomaly_map, mask = _scene(0.5, size)
    drawn = overlay(image, anomaly_map, mask, THRESHOLD)
    return SheetRow(image, mask if with_truth else None, anomaly_map, drawn, THRESHOLD, caption)


def test_a_sheet_has_a_column_for_each_picture_and_grows_by_its_rows() -> None:
    one = contact_sheet([_row((60, 80))])
    two = contact_sheet([_row((60, 80)), _row((80, 60))])
    assert one.mode == "RGB"
    assert one.width >= 4 * 260
    assert two.height - one.height >= 200
    captioned = contact_sheet([_row((60, 80), caption="crack/7.png")])
    assert captioned.height > one.height


def test_the_column_of_the_ground_truth_goes_where_there_is_none() -> None:
    without = contact_sheet([_row((60, 80), with_truth=False)])
    mixed = contact_sheet([_row((60, 80), with_truth=False), _row((60, 80))])
    assert mixed.width - without.width >= 260


def test_all_four_pictures_are_on_the_sheet_from_left_to_right() -> None:
    row = _row((200, 80))
    assert row.gt_mask is not None
    assert row.anomaly_map is not None
    sheet = np.asarray(contact_sheet([row]))  # at its own size, unscaled
    expected = [
        np.full((200, 80, 3), 128),
        np.repeat(row.gt_mask[..., None] * 255, 3, axis=2),
        heat_colors(row.anomaly_map, row.threshold),
        row.overlay,
    ]
    places = [
        [
            left
            for left in range(sheet.shape[1] - 80)
            if np.array_equal(sheet[-208:-8, left : left + 80], picture)
        ]
        for picture in expected
    ]
    assert all(len(lefts) == 1 for lefts in places)
    assert places == sorted(places)


def test_a_thin_crack_stays_visible_in_a_thumbnail() -> None:
    mask = np.zeros((1000, 500), dtype=bool)
    mask[:, 250:252] = True
    anomaly_map = mask.astype(np.float32)
    image = np.full((1000, 500, 3), 0.5, dtype=np.float32)
    row = SheetRow(image, mask, anomaly_map, (image * 255).astype(np.uint8))
    without = SheetRow(image, mask & False, anomaly_map, row.overlay)
    sheets = [np.asarray(contact_sheet([each])).astype(int) for each in (row, without)]
    assert np.abs(sheets[0] - sheets[1]).max() >= 150


def test_a_very_wide_image_does_not_make_a_very_wide_sheet() -> None:
    assert contact_sheet([_row((60, 2000))]).width < 4 * 600 + 100


def test_a_long_caption_is_cut_to_the_sheet() -> None:
    short, long = (contact_sheet([_row((60, 80), caption="x" * count)]) for count in (1, 500))
    assert short.size == long.size
    right_edge = np.asarray(long)[:, -2:]
    assert (right_edge > 150).all()  # no letter runs off the sheet


def test_a_caption_of_any_characters_is_one_line() -> None:
    odd, short = (
        contact_sheet([_row((60, 80), caption=text)])
        for text in ("a\nb\x1b\ud800\udcff\u202e" * 1000, "ab")
    )
    assert odd.size == short.size
