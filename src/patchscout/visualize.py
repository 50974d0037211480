"""Draws what was found: heat and outlines over an image, and a sheet of results for a card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8
from PIL import ImageDraw, ImageFont

from patchscout.text import printable, shortened
from patchscout.types import AnomalyMap, Mask

RGB = UInt8[np.ndarray, "height width 3"]
Drawable = Float[np.ndarray, "height width 3"] | UInt8[np.ndarray, "height width 3"]
"""An RGB image, in [0, 1] as `types.Image` is, or in [0, 255]."""

_OUTLINE = (0, 255, 255)  # cyan: far from the heat's yellow and red, and from most surfaces
_OUTLINE_EDGE = (0, 0, 0)  # and a dark rim, so that it shows on bright ground too
_FRAME = (200, 200, 200)
_HEAT_OPACITY = 0.42

_TITLES = ("image", "ground truth", "anomaly map", "result")

ROW_HEIGHT_PX = 200
"""Height of a thumbnail; one more than three times as wide as that is made lower instead."""


@dataclass(frozen=True)
class SheetRow:
    """One image of a contact sheet.

    Attributes:
        image: (height, width, 3) RGB, float in [0, 1] or uint8.
        gt_mask: (height, width) bool; None where it is not known.
        anomaly_map: (height, width) in [0, 1].
        overlay: (height, width, 3) uint8, as `overlay` returns it; None, as the map, if unknown.
        threshold: The decision threshold, where the colors of the anomaly map turn.
        caption: A line above the row, such as the file name and the score.
    """

    image: Drawable
    gt_mask: Mask | None
    anomaly_map: AnomalyMap | None = None
    overlay: RGB | None = None
    threshold: float = 0.5
    caption: str = ""


def heat_colors(anomaly_map: AnomalyMap, threshold: float) -> RGB:
    """Return the anomaly map in colors: black, violet, orange at the threshold, light yellow.

    The threshold is always the middle of the scale, so that what the model takes for a defect
    looks alike whatever its threshold is.
    """
    return _HEAT[_levels(anomaly_map, threshold)]


def overlay(image: Drawable, anomaly_map: AnomalyMap, pred_mask: Mask, threshold: float) -> RGB:
    """Return the image with heat where it is suspicious and outlines around what was found.

    Normal ground stays as it is; heat sets in at half the threshold. Outlines run just outside
    of the regions, so that a thin crack is not painted over.

    Args:
        image: (height, width, 3) RGB, float in [0, 1] or uint8; not modified.
        anomaly_map: (height, width) in [0, 1].
        pred_mask: (height, width) bool, True on anomalous pixels.
        threshold: The decision threshold of the mask.

    Returns:
        (height, width, 3) uint8.
    """
    levels = _levels(anomaly_map, threshold)
    opacity = _OPACITY[levels][..., None]
    heat = _WARM[levels].astype(np.uint16) * opacity
    drawn = ((_uint8(image).astype(np.uint16) * (255 - opacity) + heat + 127) // 255).astype(
        np.uint8
    )
    if pred_mask.any():
        width = outline_px(pred_mask.shape)
        distance = cv2.distanceTransform((~pred_mask).astype(np.uint8), cv2.DIST_L2, 3)
        drawn[(distance > width) & (distance <= width + max(1, width // 2))] = _OUTLINE_EDGE
        drawn[(distance > 0) & (distance <= width)] = _OUTLINE
    return drawn


def outline_px(image_size: Sequence[int]) -> int:
    """Return how thick outlines are on an image of a size (height, width): 1 px per 200."""
    return max(1, round(max(image_size) / 200))


def contact_sheet(rows: Sequence[SheetRow]) -> PIL.Image.Image:
    """Return one picture of image, ground truth, anomaly map and overlay of each row.

    Args:
        rows: What to show, from top to bottom; at least one. A column that no row has is left
            out.

    Returns:
        An RGB picture on white.
    """
    drawn = [_cells(row) for row in rows]
    titles = [title for title in _TITLES if any(title in row for row in drawn)]
    cells = [[row.get(title, np.full_like(row["image"], 230)) for title in titles] for row in drawn]
    font_px = max(12, ROW_HEIGHT_PX // 13)
    gap = max(4, ROW_HEIGHT_PX // 25)
    line_px = font_px + gap
    font = ImageFont.load_default(size=font_px)
    widths = [
        max(math.ceil(font.getlength(title)), *(cell.shape[1] for cell in column))
        for title, column in zip(titles, zip(*cells, strict=True), strict=True)
    ]
    sheet_width = sum(widths) + gap * (len(widths) + 1)
    heights = [max(cell.shape[0] for cell in line) for line in cells]
    captions = [line_px if row.caption else 0 for row in rows]
    sheet = PIL.Image.new(
        "RGB",
        (sheet_width, line_px + sum(heights) + sum(captions) + gap * (len(rows) + 1)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    lefts = [gap * (index + 1) + sum(widths[:index]) for index in range(len(widths))]
    for left, width, title in zip(lefts, widths, titles, strict=True):
        draw.text((left + width / 2, gap), title, "black", font, anchor="ma")
    top = line_px + gap
    for row, line, height, caption_px in zip(rows, cells, heights, captions, strict=True):
        if row.caption:
            caption = _fitted(row.caption, font, sheet_width - 2 * gap)
            draw.text((gap, top), caption, "black", font)
        top += caption_px
        for left, width, cell in zip(lefts, widths, line, strict=True):
            offset = ((width - cell.shape[1]) // 2, (height - cell.shape[0]) // 2)
            x, y = left + offset[0], top + offset[1]
            sheet.paste(PIL.Image.fromarray(cell), (x, y))
            # A white surface on the white sheet needs a frame.
            draw.rectangle((x - 1, y - 1, x + cell.shape[1], y + cell.shape[0]), outline=_FRAME)
        top += height + gap
    return sheet


def roc_picture(
    points: Sequence[tuple[float, float]], here: tuple[float, float] | None, side_px: int = 360
) -> PIL.Image.Image:
    """Return a picture of an ROC curve.

    Args:
        points: Shares of good parts that are rejected and of defective ones that are found.
        here: The point of the stored decision, which gets a mark.
        side_px: Width and height of the picture.
    """
    picture = PIL.Image.new("RGB", (side_px, side_px), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=side_px // 26)
    margin = side_px // 8
    length = side_px - 2 * margin

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return margin + length * point[0], side_px - margin - length * point[1]

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        draw.line([place((share, 0.0)), place((share, 1.0))], _FRAME)
        draw.line([place((0.0, share)), place((1.0, share))], _FRAME)
        x, y = place((share, 0.0))
        draw.text((x, y + 4), f"{100 * share:g} %", "black", font, anchor="ma")
        x, y = place((0.0, share))
        draw.text((x - 4, y), f"{100 * share:g}", "black", font, anchor="rm")
    draw.line([place(point) for point in [(0.0, 0.0), *points]], (0, 90, 160), width=2)
    if here is not None:
        x, y = place(here)
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=(220, 60, 0))
    draw.text((margin, margin // 3), "% of defective parts found", "black", font)
    draw.text(
        (side_px // 2, side_px - 6), "of good parts called defective", "black", font, anchor="md"
    )
    return picture


def _cells(row: SheetRow) -> dict[str, RGB]:
    """Return the thumbnails of a row by their titles."""
    cells = {"image": _thumbnail(_uint8(row.image))}
    if row.gt_mask is not None:
        # Doubled, so that a crack thinner than a thumbnail's pixel does not fade away.
        share = _thumbnail(row.gt_mask.astype(np.float32))
        level = np.round(np.clip(2 * share, 0, 1) * 255).astype(np.uint8)
        cells["ground truth"] = np.repeat(level[..., None], 3, axis=2)
    if row.anomaly_map is not None:
        anomaly_map = _thumbnail(row.anomaly_map.astype(np.float32))
        cells["anomaly map"] = heat_colors(anomaly_map, row.threshold)
    if row.overlay is not None:
        cells["result"] = _thumbnail(row.overlay)
    return cells


def _thumbnail(array: np.ndarray) -> np.ndarray:
    """Return an image or map at the height of a row."""
    height, width = array.shape[:2]
    scale = min(ROW_HEIGHT_PX / height, 3 * ROW_HEIGHT_PX / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    """Return the text in one line, cut off with an ellipsis where it is wider than a width."""
    text = shortened(printable(text))
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "...") > width_px:
        text = text[:-1]
    return text + "..."


def _levels(anomaly_map: AnomalyMap, threshold: float) -> UInt8[np.ndarray, "height width"]:
    """Return the map in 0 to 255 with the threshold at 128, linear on either side of it."""
    threshold = min(max(threshold, 1e-6), 1 - 1e-6)
    scores = np.clip(anomaly_map, 0, 1).astype(np.float32)
    below, above = scores * (128 / threshold), 128 + (scores - threshold) * (127 / (1 - threshold))
    return np.where(scores < threshold, below, above).astype(np.uint8)


def _uint8(image: Drawable) -> RGB:
    """Return the image as uint8."""
    if image.dtype == np.uint8:
        return image
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _ramp(stops: dict[int, tuple[int, ...]]) -> np.ndarray:
    """Return 256 colors that run linearly through those at some levels."""
    levels = list(stops)
    channels = zip(*stops.values(), strict=True)
    return np.stack(
        [np.interp(np.arange(256), levels, channel) for channel in channels], axis=1
    ).astype(np.uint8)


_HEAT = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
_WARM = _ramp({0: (255, 220, 0), 64: (255, 220, 0), 128: (255, 120, 0), 255: (255, 0, 0)})
_OPACITY = _ramp({64: (0,), 140: (int(255 * _HEAT_OPACITY),)})[:, 0].astype(np.uint16)
