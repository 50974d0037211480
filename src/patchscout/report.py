"""What is told of a run: its card, a picture of results, the table of figures in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from patchscout.checkpoint import (
    CARD_FILE,
    CARD_START,
    DECISIONS_FILE,
    PICTURE_FILE,
    ROC_FILE,
    ROC_PICTURE_FILE,
    Trained,
)
from patchscout.config import Config
from patchscout.data.images import read_image
from patchscout.data.loader import resized_mask
from patchscout.decision import percent, promises
from patchscout.detector import PatchScout
from patchscout.files.atomic import atomic_path, write_text_atomic
from patchscout.outputs import write_csv
from patchscout.text import markdown_name, markdown_text, printable
from patchscout.types import Sample
from patchscout.visualize import SheetRow, contact_sheet, overlay, roc_picture

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

MOST_LISTED = 10
"""Wrong decisions of each kind that the card names."""


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
                overlay=overlay(
                    image, found.anomaly_map, found.pred_mask, found.decision.pixel_threshold
                ),
                threshold=found.decision.pixel_threshold,
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
    folder: Path, config: Config, trained: Trained, metrics: dict[str, Any] | None = None
) -> None:
    """Write README.md, the card of a run, with test metrics if there are any.

    Args:
        folder: Where it is written; a picture that is there already is shown in it.
        config: Every setting of the run.
        trained: What is known of its model.
        metrics: What `PatchScout.evaluate` returns.
    """
    record, decision = trained.record, trained.decision
    types = ", ".join(map(markdown_text, record.defect_types)) or "none"
    took_part = "Test images" if trained.scores.of_test_images else "No test image"
    lines = [
        f"{CARD_START} for {markdown_name(record.category)}",
        "",
        f"Trained on {record.num_normal} normal images and {record.num_labeled} labeled ones"
        f" (defect types: {types}), {config.labeled_per_type} a type, seed {config.seed},"
        f" preset {markdown_name(config.preset)}, in {record.seconds:.0f} s.",
    ]
    if config.data.has_region:
        lines += ["", "Only the region that `data.roi` and `data.ignore` leave is looked at."]
    if not record.num_labeled:
        lines += ["", "Without labels it has learned from simulated defects alone."]
    if not record.is_complete:
        lines += ["", f"**Training was stopped early**, after {record.num_steps} sampler steps."]
    lines += [
        "",
        "## Decisions",
        "",
        f"An image is defective from a score of **{decision.threshold_probability:.3f}** on. Its"
        " outline holds the pixels whose probability is at least"
        f" **{decision.pixel_threshold:.3f}**. {took_part} took part in the choice of either.",
        "",
        *(f"- {line}" for line in promises(decision, trained.scores.kind)),
        "",
        "`patchscout threshold RUN` decides anew without training, such as with"
        " `--max-false-alarms 1%`.",
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
        " its images with all normal ones. F1@t is F1 at the pixel threshold; AUPRO is taken up to"
        " a false positive rate of 0.3.",
        "",
        "| defect type | " + " | ".join(FIGURES.values()) + " |",
        "|---|" + "---|" * len(FIGURES),
        *(f"| {name} | {' | '.join(_cells(row))} |" for name, row in rows),
        "",
        *([without_masks(metrics), ""] if metrics["num_without_mask"] else []),
        "### Decisions",
        "",
        *(f"- {markdown_text(line)}" for line in signed(metrics["decisions"])),
        *_wrong_images(metrics["images"]),
        "",
        "By scores alone, of other budgets for good parts that are called defective:",
        "",
        "| budget | promised at most | called defective | defective parts found |",
        "|---|---|---|---|",
        *(
            f"| {percent(row['budget'])} | {percent(row['promised'], up=True)} |"
            f" {_share(row['rejected'])} | {_share(row['detected'])} |"
            for row in metrics["budgets"]
        ),
        "",
        "How often images of each score are defective, were half of all images so:",
        "",
        "| score | good images | defective images | mean score | share defective |",
        "|---|---|---|---|---|",
        *(
            f"| {row['from']:.1f} to {row['to']:.1f} | {row['num_good']} | {row['num_defective']} |"
            f" {row['probability']:.2f} | {row['observed']:.2f} |"
            for row in metrics["reliability"]
        ),
        "",
        f"![share of defective parts found by share of good parts rejected]({ROC_PICTURE_FILE})",
        "",
        f"The curve is in `{ROC_FILE}`, and each decision in `{DECISIONS_FILE}`, the worst first.",
    ]


def signed(decisions: Mapping[str, Any]) -> list[str]:
    """Return what a person signs: wrong decisions, their intervals, and what was promised.

    Args:
        decisions: What `evaluation.decisions` returns.
    """
    lines = []
    for kind, wrong in (("good", "called defective"), ("defective", "missed")):
        found = decisions[kind]
        if not found["num_images"]:
            lines.append(f"There are no {kind} parts to test on.")
            continue
        low, high = found["interval"]
        line = (
            f"Of {found['num_images']} {kind} parts {found['num_wrong']} are {wrong}"
            f" ({_share(found['share'])}, 95 % interval {_share(low)} to {_share(high)})."
        )
        if found["promised"] is not None:
            line += f" At most {percent(found['promised'], up=True)} were promised"
            line += ", which does not hold here." if low > found["promised"] else "."
        lines.append(line)
    per_type = decisions["missed_per_type"]
    if len(per_type) > 1 and any(missed for missed, _ in per_type.values()):
        listed = (
            f"{missed} of {count} {name}" for name, (missed, count) in per_type.items() if missed
        )
        lines.append(f"Missed are {', '.join(listed)}.")
    return lines


def _wrong_images(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of the images that were decided wrongly, if there are any."""
    wrong = [row for row in images if row["outcome"] in ("missed", "rejected")]
    rows = []
    for outcome in ("missed", "rejected"):
        of_kind = [row for row in wrong if row["outcome"] == outcome]
        rows += [
            f"| {outcome} | {markdown_text(Path(row['path']).name)} |"
            f" {markdown_text(row['defect_type'])} | {row['pred_score']:.3f} |"
            for row in of_kind[:MOST_LISTED]
        ]
    head = ["| decision | image | type | score |", "|---|---|---|---|"]
    return ["", f"The worst of {len(wrong)} wrong decisions:", "", *head, *rows] if rows else []


def write_evaluation(folder: Path, metrics: dict[str, Any]) -> None:
    """Write the curve of image decisions, as a table and as a picture, and each decision."""
    curve = metrics["roc"]
    write_csv(folder / ROC_FILE, list(curve[0]), curve)
    images = metrics["images"]
    write_csv(folder / DECISIONS_FILE, list(images[0]), images)
    good, defective = (metrics["decisions"][kind] for kind in ("good", "defective"))
    here = None
    if good["num_images"] and defective["num_images"]:
        here = (good["share"], 1 - defective["share"])
    points = [(row["rejected"], row["detected"]) for row in curve]
    with atomic_path(folder / ROC_PICTURE_FILE) as partial:
        roc_picture(points, here).save(partial)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


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
        caption=f"F1@t: at the stored pixel threshold {metrics['pixel_threshold']:.3f}."
        f" {without_masks(metrics)}".rstrip(),
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


def without_masks(metrics: Mapping[str, Any]) -> str:
    """Return a sentence on the defective images without masks, if there are any."""
    count = metrics.get("num_without_mask", 0)
    if not count:
        return ""
    if count == metrics["num_anomalous"]:
        return "No defective image has a mask: there are figures of images only."
    return f"Pixel figures leave out {count} defective images without a mask."


def _cells(figures: Mapping[str, Any]) -> list[str]:
    """Return the figures of a row as text."""
    return ["-" if figures[name] is None else f"{figures[name]:.3f}" for name in FIGURES]
