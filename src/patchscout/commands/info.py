"""`patchscout info PATH`: what is in a run, an exported model, or a folder of images and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patchscout.arguments import InfoArguments, before_dashes, parse
from patchscout.checkpoint import CONFIG_FILE, describe_run
from patchscout.checks import InputError, InputValueError
from patchscout.commands.shell import console
from patchscout.data.check import inspect, summary
from patchscout.data.layout import read_dataset
from patchscout.data.split import draw_split
from patchscout.decision import Decision, DefectKind, promises
from patchscout.exported import SUFFIXES, ExportedModel
from patchscout.files.atomic import json_text
from patchscout.monitor import Monitor

EXPORT_FACTS = {"category", "image_size", "pixel_type"}
"""What is shown of an exported model, beside its decision."""


def run(arguments: list[str]) -> int:
    """Say what is in a folder or model file."""
    options = parse(InfoArguments, _short_names(arguments), "patchscout info")
    if (options.path / CONFIG_FILE).is_file():
        _describe_run(options.path)
        return 0
    if options.path.is_file() and options.path.suffix.lower() in SUFFIXES.values():
        _describe_export(options.path)
        return 0
    dataset = read_dataset(
        options.path, options.normal, options.defective, options.masks, needs_labels=False
    )
    findings = inspect(dataset, Monitor(quiet=False))
    split = None
    try:
        split = draw_split(dataset)
    except InputError as error:  # other settings may do
        findings.warnings.append(str(error))
    for line in summary(dataset, findings, split):
        console.print(line)
    for problem in findings.problems:
        console.print(f"Problem: {problem}")
    if findings.problems:
        raise InputValueError(
            f"{len(findings.problems)} files of {options.path} do not fit. Mend them as said above,"
            " or leave them out."
        )
    return 0


def _short_names(arguments: list[str]) -> list[str]:
    """Return arguments with options as `train` has them, such as `--data.masks`, without `data.`.

    Example:
        >>> _short_names(["--data.masks=a", "b--data.c", "--", "--data.d"])
        ['--masks=a', 'b--data.c', '--', '--data.d']
    """
    before = before_dashes(arguments)
    short = [f"--{a.removeprefix('--data.')}" if a.startswith("--data.") else a for a in before]
    return short + arguments[len(before) :]


def _describe_run(folder: Path) -> None:
    described = describe_run(folder)
    if described.trained is None:
        console.print("Training was stopped before there was a model.")
    else:
        trained = described.trained
        facts = {
            name: value for name, value in vars(trained.record).items() if name != "normal_range"
        }
        _describe(facts, trained.decision, trained.scores.kind)
    console.print("Settings", style="bold")
    for line in json_text(described.config.model_dump()).split("\n"):
        console.print(line)


def _describe_export(path: Path) -> None:
    facts = ExportedModel.load(path).facts
    _describe(facts.model_dump(include=EXPORT_FACTS), facts.decision, None)


def _describe(facts: dict[str, Any], decision: Decision, kind: DefectKind | None) -> None:
    """Print what is known of a model, and when it calls an image defective."""
    facts = facts | {
        "score_threshold": f"{decision.threshold_probability:.6g}",
        "pixel_threshold": f"{decision.pixel_threshold:.6g}",
    }
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        console.print(f"  {name:{width}}{shown}")
    console.print("Decisions", style="bold")
    for line in promises(decision, kind):
        console.print(f"  {line}")
