"""What is told of a run: its card, a picture of results, the table of figures in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from patchscout.checkpoint import CARD_FILE, CARD_START, PICTURE_FILE, TrainingRecord
from patchscout.config import Config
from patchscout.data.images import read_image
from patchscout.data.loader import resized_mask
from patchscout.detector import PatchScout
from patchscout.files.atomic import atomic_path, write_text_atomic
from patchscout.text import markdown_name, markdown_text, printable
from patchscout.training.calibration import num_held_out
from patchscout.types import Sample
from patchscout.visualize import SheetRow, contact_sheet, overlay

FIGURES = {
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1_max",
    "pixel_aupro": "pixel AUPRO",
    "pixel_f1_at_threshold": "pixel F1@t",
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1_max",
}
"""Figures and what they are called in tables."""


def write_picture(scout: PatchScout, samples: Sequence[Sample], path: Path) -> None:
    """Draw image, ground truth, anomaly map and result of some samples into a PNG."""
    rows = []
    for sample in samples:
        image = read_image(sample.image_path)
        found = scout.predict(image)
        rows.append(
            SheetRow(
                image=image,
                gt_mask=resized_mask(sample, image.shape[:2]) if sample.has_mask else None,
                anomaly_map=found.anomaly_map,
                overlay=overlay(image, found.anomaly_map, found.pred_mask, found.threshold),
                threshold=found.threshold,
                caption=f"{sample.defect_type}/{sample.image_path.name}   "
                f"score {found.pred_score:.2f}",
            )
        )
    with atomic_path(path) as partial:
        contact_sheet(rows).save(partial)


def one_of_each_type(samples: Sequence[Sample]) -> list[Sample]:
    """Return the first sample of each defect type, the normal one last."""
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(sample.defect_type, sample)
    return sorted(first.values(), key=lambda s: (not s.is_anomalous, s.defect_type))


def write_card(
    folder: Path, config: Config, record: TrainingRecord, metrics: dict[str, Any] | None = None
) -> None:
    """Write README.md, the card of a run, with test metrics if there are any.

    Args:
        folder: Where it is written; a picture that is there already is shown in it.
        config: Every setting of the run.
        record: How its model came about.
        metrics: What `PatchScout.evaluate` returns.
    """
    types = ", ".join(map(markdown_text, record.defect_types)) or "none"
    held_out = (
        "normal training images that nothing else was trained on"
        if num_held_out(record.num_normal)
        else "the normal training images, too few to hold some out"
    )
    labeled = "the labeled training images" if record.num_labeled else "simulated defects"
    scored = "" if record.is_complete else ", as far as they were scored before the stop"
    lines = [
        f"{CARD_START} for {markdown_name(record.category)}",
        "",
        f"Trained on {record.num_normal} normal images and {record.num_labeled} labeled ones"
        f" (defect types: {types}), {config.labeled_per_type} a type, seed {config.seed},"
        f" preset {markdown_name(config.preset)}, in {record.seconds:.0f} s.",
    ]
    if not record.num_labeled:
        lines += ["", "Without labels it has learned from simulated defects alone."]
    if not record.is_complete:
        lines += ["", f"**Training was stopped early**, after {record.num_steps} sampler steps."]
    lines += [
        "",
        "## Threshold",
        "",
        f"A pixel is anomalous from **{record.threshold:.3f}** on; an image is defective if any"
        " pixel is. The threshold is the lowest one with a nearly best pixel F1"
        f" ({record.threshold_f1:.3f}) over {labeled} and {held_out}{scored}. No"
        f" test image took part. Of the {record.num_normal_scored} normal images among them it"
        f" calls {record.num_false_alarms} defective. A higher one finds less and raises fewer"
        " false alarms.",
        "",
        "## Test results",
        "",
    ]
    if metrics is None:
        lines.append("Not evaluated yet: `patchscout evaluate RUN DATA` fills this in.")
    else:
        lines += _results(metrics)
    if (folder / PICTURE_FILE).is_file():
        shown = "training images" if metrics is None else "test images"
        lines += ["", f"![results on {shown}]({PICTURE_FILE})", "", f"Shown are {shown}."]
    lines += [
        "",
        "## Use",
        "",
        "`patchscout predict RUN IMAGE_OR_FOLDER --out DIR`, or in Python"
        " `PatchScout.load(RUN).predict(image)`. Every setting is in `config.json`; the images"
        " trained and tested on are in `split.json`.",
        "",
    ]
    write_text_atomic(folder / CARD_FILE, "\n".join(lines))


def _results(metrics: dict[str, Any]) -> list[str]:
    size = metrics["evaluation_size"]
    at = "each image's own size" if size == "native" else f"{size[0]} x {size[1]} px"
    types = metrics["per_defect_type"].items()
    rows = [*((markdown_text(name), row) for name, row in types), ("**all**", metrics)]
    return [
        f"{metrics['num_images']} test images, {metrics['num_anomalous']} of them defective, none"
        f" of which was trained on; pixels pooled over all of them at {at}. A defect type's row is"
        " its images with all normal ones. F1@t is F1 at the threshold; AUPRO is taken up to a"
        " false positive rate of 0.3.",
        "",
        "| defect type | " + " | ".join(FIGURES.values()) + " |",
        "|---|" + "---|" * len(FIGURES),
        *(f"| {name} | {' | '.join(_cells(row))} |" for name, row in rows),
        "",
        f"At the threshold {decisions(metrics)}.{without_masks(metrics)}",
    ]


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """Return the figures of all images and of each defect type, one row each.

    Args:
        metrics: What `MetricAccumulator.compute` returns, or the same read back from JSON.

    Returns:
        A table of three decimals, with `-` for a figure that is not defined. The second column
        counts the defective images of a row.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        caption=f"F1@t: at the stored threshold {metrics['threshold']:.3f}:\n{decisions(metrics)}"
        f".{without_masks(metrics)}",
        caption_justify="left",
    )
    table.add_column("\ndefect type")
    for name in ["defect images", *FIGURES.values()]:
        title = name.replace(" ", "\n")
        widest = max(len(line) for line in title.split("\n"))  # only the first column shrinks
        table.add_column(title, justify="right", no_wrap=True, min_width=widest)
    per_defect_type = metrics["per_defect_type"]
    for defect_type, figures in per_defect_type.items():
        name = Text(printable(defect_type), overflow="ellipsis", no_wrap=True)
        table.add_row(name, str(figures["num_anomalous"]), *_cells(figures))
    if per_defect_type:
        table.add_section()
    table.add_row("all", str(metrics["num_anomalous"]), *_cells(metrics), style="bold")
    return table


def decisions(metrics: Mapping[str, Any]) -> str:
    """Return how many images are called defective at the threshold."""
    num_anomalous = metrics["num_anomalous"]
    return (
        f"{metrics['num_false_alarms']} of {metrics['num_images'] - num_anomalous} normal images"
        f" and {num_anomalous - metrics['num_missed']} of {num_anomalous} defective ones are called"
        " defective"
    )


def without_masks(metrics: Mapping[str, Any]) -> str:
    """Return a sentence on the defective images without masks, if there are any."""
    count = metrics.get("num_without_mask", 0)
    if not count:
        return ""
    if count == metrics["num_anomalous"]:
        return " No defective image has a mask: there are figures of images only."
    return f" Pixel figures leave out {count} defective images without a mask."


def _cells(figures: Mapping[str, Any]) -> list[str]:
    """Return the figures of a row as text."""
    return ["-" if figures[name] is None else f"{figures[name]:.3f}" for name in FIGURES]
