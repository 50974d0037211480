"""The card of a run folder and its picture."""

import csv
import io
from dataclasses import replace
from typing import Any

from markdown_it import MarkdownIt
from PIL import Image as PillowImage
from rich.console import Console

from patchscout.checkpoint import describe_run
from patchscout.decision import Decision
from patchscout.detector import PatchScout
from patchscout.report import (
    FIGURES,
    metrics_table,
    one_of_each_type,
    signed,
    write_card,
    write_evaluation,
    write_picture,
)

FIGURES_OF_A_ROW = (0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, None)
SHOWN = ["0.820", "0.730", "0.640", "0.550", "0.460", "0.370", "-"]
ROW = dict(zip(FIGURES, FIGURES_OF_A_ROW, strict=True)) | {
    "num_images": 5,
    "num_anomalous": 3,
    "num_without_mask": 0,
}
GOOD = {"num_images": 190, "num_wrong": 36, "share": 36 / 190, "interval": [0.1364, 0.2526]}
DEFECTIVE = {"num_images": 3, "num_wrong": 1, "share": 1 / 3, "interval": [0.0084, 0.9057]}
METRICS: dict[str, Any] = ROW | {
    "pixel_threshold": 0.5,
    "evaluation_size": [64, 64],
    "per_defect_type": {"stain": ROW | {"num_anomalous": 1, "pixel_auroc": 0.12}},
    "decisions": {
        "good": GOOD | {"asked": 0.05, "promised": 0.0486},
        "defective": DEFECTIVE | {"asked": None, "promised": None},
        "missed_per_type": {"stain": [0, 2], "*dent*": [1, 1]},
    },
    "budgets": [{"budget": 0.01, "promised": 0.0142, "rejected": 0.0526, "detected": None}],
    "reliability": [
        {"from": 0.1, "to": 0.2, "num_good": 7, "num_defective": 1}
        | {"probability": 0.123, "observed": 0.456}
    ],
    "roc": [
        {"score_threshold": 0.9, "num_rejected": 0, "num_detected": 2}
        | {"rejected": 0.0, "detected": 1.0}
    ],
    "images": [
        {"outcome": outcome, "path": f"/data/{name}", "defect_type": kind}
        | {"pred_score": 0.25, "image_score": 0.5}
        for outcome, name, kind in (
            ("missed", "a|b.png", "*dent*"),
            *(("rejected", f"=good{number}.png", "good") for number in range(36)),
            ("detected", "c.png", "stain"),
        )
    ],
}
SIGNED = [
    "Of 190 good parts 36 are called defective (18.9 %, 95 % interval 13.6 % to 25.3 %). At most"
    " 4.9 % were promised, which does not hold here.",
    "Of 3 defective parts 1 are missed (33.3 %, 95 % interval 0.8 % to 90.6 %).",
    "Missed are 1 of 1 *dent*.",
]
DECISION = Decision(
    image_threshold=0.321,
    pixel_threshold=0.123,
    num_good=60,
    num_defective=8,
    num_missed=2,
)


def card(run, metrics=None, **changes):
    described = describe_run(run)
    assert described.trained is not None
    record = replace(described.trained.record, **changes)
    trained = replace(described.trained, record=record, decision=DECISION)
    write_card(run, described.config, trained, metrics)
    return (run / "README.md").read_text()


def test_the_card_says_what_decides_and_what_it_promises(run):
    text = card(run)
    assert "An image is defective from a score of **0.321** on." in text
    assert "probability is at least **0.123**. No test image took part" in text
    assert (
        "- With 95 % confidence at most 4.9 % of good parts are called defective: of 60 good"
        in text
    )
    assert "- 6 of 8 labeled images that the model was trained on are detected" in text
    assert "6 normal images and 8 labeled ones" in text
    assert "(defect types: chip, misprint, scratch, stain), 2 a type, seed 42" in text
    assert "Not evaluated yet" in text
    assert "stopped early" not in text


def test_the_card_has_a_row_of_figures_for_each_type_and_for_all(run):
    rows = [line for line in card(run, METRICS).splitlines() if line.startswith("|")][:4]
    assert rows[0] == "| defect type | " + " | ".join(FIGURES.values()) + " |"
    shown = " | ".join(SHOWN)
    assert rows[2:] == [f"| stain | 0.120 | {shown} |", f"| **all** | 0.910 | {shown} |"]


def test_the_card_names_the_evaluation_size_and_the_number_of_images(run):
    text = card(run, METRICS)
    assert "5 test images, 3 of them defective" in text
    assert "at 64 x 64 px" in text
    assert "at each image's own size" in card(run, METRICS | {"evaluation_size": "native"})


def test_the_card_has_what_a_person_signs(run):
    assert signed(METRICS["decisions"]) == SIGNED
    text = card(run, METRICS)
    assert all(f"- {line}" in text for line in SIGNED[:2])
    assert "- Missed are 1 of 1 &#42;dent&#42;." in text
    assert "The worst of 37 wrong decisions:" in text
    assert "| missed | a&#124;b.png | &#42;dent&#42; | 0.250 |" in text
    assert text.count("| rejected | &#61;good") == 10
    assert "| 1 % | 1.5 % | 5.3 % | - |" in text
    assert "| 0.1 to 0.2 | 7 | 1 | 0.12 | 0.46 |" in text
    assert "(roc.png)" in text


def test_without_good_or_defective_test_images_there_is_nothing_to_sign():
    nothing = {"num_images": 0, "num_wrong": 0, "share": None, "interval": None}
    decisions = METRICS["decisions"] | {"good": nothing | {"promised": 0.05}}
    assert signed(decisions)[0] == "There are no good parts to test on."


def test_decisions_and_curve_are_written(tmp_path):
    write_evaluation(tmp_path, METRICS)
    with (tmp_path / "decisions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), rows[0]["outcome"], rows[0]["pred_score"]) == (38, "missed", "0.25")
    assert (tmp_path / "roc.csv").read_text().splitlines()[1] == "0.9,0,2,0.0,1.0"
    with PillowImage.open(tmp_path / "roc.png") as picture:
        colors = picture.convert("RGB").getcolors(10_000)
    assert (220, 60, 0) in [color for _, color in colors or []]  # the mark of the decision


def test_the_card_says_whose_picture_it_shows(run):
    assert "Shown are training images." in card(run)
    assert "Shown are test images." in card(run, METRICS)
    (run / "examples.png").unlink()
    assert "examples.png" not in card(run)


def test_an_interrupted_run_says_so(run):
    text = card(run, is_complete=False, num_steps=17)
    assert "**Training was stopped early**, after 17 sampler steps" in text


def test_names_from_a_users_folder_are_only_text(run):
    odd = "<script>x</script>|y\n# Title [a](http://b) `c`\x1b[2J\udcff"
    metrics = METRICS | {"per_defect_type": {odd: ROW}}
    text = card(run, metrics, category=odd, defect_types=(odd, "stain"))
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script" not in page
    assert "<a " not in page
    assert page.count("<h1>") == 1
    shown = r"&lt;script&gt;x&lt;/script&gt;|y\n# Title [a](http://b) `c`\x1b[2J\udcff"
    assert f"<h1>PatchScout model for {shown}</h1>" in page
    assert f"(defect types: {shown}, stain)" in page.replace("\n", " ")
    assert f"<td>{shown}</td>" in page


def test_one_of_each_type_the_normal_one_last(trained_run, sample_data):
    test = PatchScout.load(trained_run).split_of(sample_data).test
    chosen = one_of_each_type(test)
    assert [s.defect_type for s in chosen] == ["chip", "misprint", "scratch", "stain", "good"]
    assert one_of_each_type([]) == []


def test_the_picture_shows_every_sample(trained_run, sample_data, tmp_path):
    scout = PatchScout.load(trained_run)
    chosen = one_of_each_type(scout.split_of(sample_data).test)
    sizes = []
    for count in (1, 2):
        path = tmp_path / f"{count}.png"
        write_picture(scout, chosen[:count], path)
        with PillowImage.open(path) as picture:
            sizes.append(picture.size)
    assert sizes[1][0] == sizes[0][0]
    assert sizes[1][1] > 1.8 * sizes[0][1] - 60
    assert not list(tmp_path.glob(".*"))


def printed(metrics):
    """The lines of the table in a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    console.print(metrics_table(metrics))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_has_a_row_of_figures_for_each_type_and_for_all():
    lines = printed(METRICS)
    names = lines[1].split()[-8:]
    assert names == ["AUROC", "AP", "F1_max", "AUPRO", "F1@t", "AUROC", "AP", "F1_max"]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["stain"] == ["1", "0.120", *SHOWN]
    assert rows["all"] == ["3", "0.910", *SHOWN]
    assert "at the stored pixel threshold 0.500" in " ".join(lines)


def test_in_the_table_a_name_is_only_text_and_a_long_one_is_cut():
    names = ("[red]odd[/]", "a\x1b[2J\r\u202eb", "a_defect_type_of_far_too_long_a_name" * 2)
    lines = printed(METRICS | {"per_defect_type": dict.fromkeys(names, ROW)})
    assert max(map(len, lines)) <= 80
    for start in ("[red]odd[/]", r"a\x1b[2J\r\u202eb ", "a_defect"):
        (line,) = (line for line in lines if line.startswith(start))
        assert line.split()[-8:] == ["0.910", *SHOWN]
