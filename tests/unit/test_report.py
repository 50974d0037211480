"""The card of a run folder and its picture."""

import io
from dataclasses import replace

from markdown_it import MarkdownIt
from PIL import Image as PillowImage
from rich.console import Console

from patchscout.checkpoint import load_config
from patchscout.detector import PatchScout
from patchscout.report import (
    FIGURES,
    metrics_table,
    one_of_each_type,
    write_card,
    write_picture,
)

FIGURES_OF_A_ROW = (0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, None)
SHOWN = ["0.820", "0.730", "0.640", "0.550", "0.460", "0.370", "-"]
ROW = dict(zip(FIGURES, FIGURES_OF_A_ROW, strict=True)) | {
    "num_images": 5,
    "num_anomalous": 3,
    "num_false_alarms": 1,
    "num_missed": 2,
}
METRICS = ROW | {
    "threshold": 0.5,
    "evaluation_size": [64, 64],
    "per_defect_type": {"stain": ROW | {"num_anomalous": 1, "pixel_auroc": 0.12}},
}
DECIDED = "1 of 2 normal images and 1 of 3 defective ones are called defective"


def card(run, metrics=None, **changes):
    config, record = load_config(run)
    assert record is not None
    write_card(run, config, replace(record, **changes), metrics)
    return (run / "README.md").read_text()


def test_the_card_says_what_the_threshold_is_and_what_it_was_chosen_for(run):
    _, record = load_config(run)
    assert record is not None
    text = card(run)
    assert f"**{record.threshold:.3f}** on" in text
    assert f"best pixel F1 ({record.threshold_f1:.3f})" in text
    assert "No test image took part" in text
    assert "6 normal images and 8 labeled ones" in text
    assert "(defect types: chip, misprint, scratch, stain), 2 a type, seed 42" in text
    assert "Not evaluated yet" in text
    assert "stopped early" not in text


def test_the_card_has_a_row_of_figures_for_each_type_and_for_all(run):
    rows = [line for line in card(run, METRICS).splitlines() if line.startswith("|")]
    assert rows[0] == "| defect type | " + " | ".join(FIGURES.values()) + " |"
    shown = " | ".join(SHOWN)
    assert rows[2:] == [f"| stain | 0.120 | {shown} |", f"| **all** | 0.910 | {shown} |"]


def test_the_card_names_the_evaluation_size_and_the_number_of_images(run):
    text = card(run, METRICS)
    assert "5 test images, 3 of them defective" in text
    assert "at 64 x 64 px" in text
    assert "at each image's own size" in card(run, METRICS | {"evaluation_size": "native"})


def test_the_card_says_how_many_test_images_are_called_defective(run):
    assert f"At the threshold {DECIDED}." in card(run, METRICS)


def test_the_card_says_whose_picture_it_shows(run):
    assert "Shown are training images." in card(run)
    assert "Shown are test images." in card(run, METRICS)
    (run / "examples.png").unlink()
    assert "examples.png" not in card(run)


def test_the_card_says_how_many_normal_images_the_threshold_calls_defective(run):
    assert "Of the 9 normal images among them it calls 2 defective." in card(
        run, num_normal_scored=9, num_false_alarms=2
    )


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
    assert page.count("<td>") == 2 * (1 + len(FIGURES))


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
    assert f"at the stored threshold 0.500: {DECIDED}" in " ".join(lines)


def test_in_the_table_a_name_is_only_text_and_a_long_one_is_cut():
    names = ("[red]odd[/]", "a\x1b[2J\r\u202eb", "a_defect_type_of_far_too_long_a_name" * 2)
    lines = printed(METRICS | {"per_defect_type": dict.fromkeys(names, ROW)})
    assert max(map(len, lines)) <= 80
    for start in ("[red]odd[/]", r"a\x1b[2J\r\u202eb ", "a_defect"):
        (line,) = (line for line in lines if line.startswith(start))
        assert line.split()[-8:] == ["0.910", *SHOWN]
