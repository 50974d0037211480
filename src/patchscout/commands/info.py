"""`patchscout info RUN_OR_DATA`."""

from __future__ import annotations

from pathlib import Path

from patchscout.arguments import InfoArguments, parse
from patchscout.checkpoint import CONFIG_FILE, describe_run
from patchscout.commands.shell import console
from patchscout.data.layout import read_dataset
from patchscout.decision import promises
from patchscout.files.atomic import json_text
from patchscout.text import printable


def run(arguments: list[str]) -> int:
    """Say what is in a folder."""
    path = parse(InfoArguments, arguments, "patchscout info").path
    if (path / CONFIG_FILE).is_file():
        _describe_run(path)
    else:
        dataset = read_dataset(path, needs_labels=False)
        console.print(f"Images of {dataset.name}", style="bold")
        console.print(f"  normal, to train on   {len(dataset.train_normal)}")
        console.print(f"  normal, to test on    {len(dataset.test_normal)}")
        for defect_type in dataset.defect_types:
            count = sum(sample.defect_type == defect_type for sample in dataset.anomalous)
            console.print(f"  {printable(defect_type):22}{count}")
    return 0


def _describe_run(folder: Path) -> None:
    described = describe_run(folder)
    if described.trained is None:
        console.print("Training was stopped before there was a model.")
    else:
        decision = described.trained.decision
        facts = vars(described.trained.record) | {
            "score_threshold": f"{decision.threshold_probability:.6g}",
            "pixel_threshold": f"{decision.pixel_threshold:.6g}",
        }
        width = max(map(len, facts)) + 2
        for name, value in facts.items():
            shown = ", ".join(value) if isinstance(value, tuple) else value
            console.print(f"  {name:{width}}{shown}")
        console.print("Decisions", style="bold")
        for line in promises(decision, described.trained.scores.kind):
            console.print(f"  {line}")
    console.print("Settings", style="bold")
    for line in json_text(described.config.model_dump()).split("\n"):
        console.print(line)
