"""The file of results, the table made of it, and the page that shows it."""

import json
import math
from pathlib import Path

import pytest

from patchscout.benchmark.document import fill, main
from patchscout.benchmark.results import Result, add_result, read_results
from patchscout.benchmark.table import budgets_table, caption, results_table
from patchscout.checks import InputNotFoundError, InputValueError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def row(
    category="bottle", variant="default", seed=1, f1_max: float | None = 0.5, **changes
) -> Result:
    fields = {
        "category": category,
        "variant": variant,
        "protocol": "seen",
        "seed": seed,
        "held_out_type": "",
        "f1_max": f1_max,
        "ap": 0.25,
        "seconds": 12,
        "threads": 1,
        "parallel_jobs": 2,
        "machine": "a machine, 2 cores",
        "commit": "abc",
        "date": "2026-01-01 10:00 UTC",
        "settings": '{"labeled_per_type":2}',
        "config": "123",
    }
    return Result.model_validate(fields | changes)


def test_rows_come_back_as_they_were_and_in_order(tmp_path):
    path = tmp_path / "results.csv"
    assert read_results(path) == {}
    added = [row(variant="unet", f1_max=None), row(seed=2, held_out_type="a, b"), row("a")]
    for result in added:
        add_result(path, result)
    found = read_results(path)
    assert [key[:3] for key in found] == [
        ("a", "default", 1),
        ("bottle", "default", 2),
        ("bottle", "unet", 1),
    ]
    assert found[added[1].key].model_dump(
        exclude={"auroc", "aupro", "image_auroc", "f1_at_threshold"}
    ) == (added[1].model_dump(exclude={"auroc", "aupro", "image_auroc", "f1_at_threshold"}))
    assert math.isnan(found[added[0].key].f1_max)
    add_result(path, row("a", f1_max=0.75))
    assert read_results(path)["a", "default", 1, ""].f1_max == 0.75, "replaced, not added"
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_other_files_and_damaged_lines_are_told(tmp_path):
    path = tmp_path / "results.csv"
    add_result(path, row())
    good = path.read_text()
    for text, message in (
        ("a,b\n1,2\n", "its first line differs"),
        (good.replace("bottle,default,seen,1", "bottle,default,seen,one"), "line 2: `seed`"),
        (good.replace("bottle,", ""), "line 2 has too many or too few cells"),
        (good + "x" * 10, "line 3 has too many or too few cells"),
        ("\0\n", "results.csv"),
    ):
        path.write_text(text)
        with pytest.raises(InputValueError, match=message):
            read_results(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputValueError, match="is no CSV file"):
        read_results(path)


def lines(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_table_has_mean_and_spread_over_seeds():
    table = lines(results_table([row(seed=1, f1_max=0.5), row(seed=2, f1_max=0.7, seconds=14)]))
    assert len({len(line) for line in table}) == 1
    assert table[0][3:5] == ["F1_max", "AP"]
    assert table[2] == [
        *("bottle", "`default`", "1, 2", "0.600 ± 0.141", "0.250 ± 0.000"),
        *("-", "-", "-", "13 ± 1"),
    ]


def test_types_left_out_are_averaged_for_each_seed():
    rows = [row(f1_max=0.5, held_out_type="hole"), row(f1_max=0.75, held_out_type="crack")]
    assert lines(results_table(rows))[2][2:4] == ["1", "0.625"]


def test_the_mean_is_of_seeds_and_variants_that_all_categories_have():
    rows = [
        *(row("a", seed=1, f1_max=0.25), row("a", seed=2, f1_max=0.9), row("a", "unet")),
        *(row("b", seed=1, f1_max=0.75), row("b", seed=3, f1_max=0.1)),
    ]
    means = [line for line in lines(results_table(rows)) if line[0] == "**mean**"]
    assert [line[1:4] for line in means] == [["`default`", "1", "0.500"]]


def test_budgets_are_averaged_over_trainings():
    found = [
        [{"budget": 0.05, "promised": 0.049, "rejected": share, "detected": 1.0}, *others]
        for share, others in (
            (0.02, []),
            (0.04, [{"budget": 0.01, "promised": 0.014, "rejected": 0.0, "detected": 0.5}]),
        )
    ]
    rows = [row(seed=seed, budgets=json.dumps(one)) for seed, one in enumerate(found)]
    assert lines(budgets_table([*rows, row(seed=9)]))[2:] == [
        ["bottle", "`default`", "5 %", "4.9 ± 0.0", "3.0 ± 1.4", "100.0 ± 0.0"],
        ["bottle", "`default`", "1 %", "1.4", "0.0", "50.0"],
    ]


def test_names_are_text_in_the_table():
    text = results_table([row("<b>|x")])
    assert "<b>" not in text
    assert "`default`" in text


def test_the_caption_says_what_the_figures_were_made_with():
    text = caption([row(), row(seed=2, commit="", threads=2)])
    for part in ("`seen`", "a machine, 2 cores", "threads 1, 2", "abc, unknown", "2026-01-01."):
        assert part in text


def test_a_block_is_made_anew_and_the_rest_is_left(tmp_path):
    add_result(tmp_path / "mine.csv", row())
    page = "before\n<!-- results: mine -->\nold\n<!-- end -->\nafter\n"
    filled = fill(page, tmp_path)
    assert filled.startswith("before\n<!-- results: mine -->\n\n| category")
    assert filled.endswith("\n\n<!-- end -->\nafter\n")
    assert "old" not in filled
    assert fill(filled, tmp_path) == filled
    with pytest.raises(InputValueError, match="does not end"):
        fill("<!-- results: mine -->\n", tmp_path)
    with pytest.raises(InputNotFoundError, match="holds no results"):
        fill(page.replace("mine", "none"), tmp_path)


def test_a_page_is_filled_by_a_command(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- results: mine -->\n<!-- end -->\n")
    assert main([str(page), str(tmp_path)]) == 2
    assert "holds no results" in capsys.readouterr().err
    add_result(tmp_path / "mine.csv", row())
    assert main([str(page), str(tmp_path)]) == 0
    assert "| bottle" in page.read_text()


def test_the_tables_of_the_documentation_are_those_of_the_results():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert fill(page, RESULTS) == page, "run `make benchmark-docs`"
    unused = [
        path.stem for path in RESULTS.glob("*.csv") if f"results: {path.stem} -->" not in page
    ]
    assert unused == [], "docs/results.md shows every file of results"
