"""Tables, plots and the documentation are made of results, and agree with them."""

import builtins
import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from patchscout.benchmark.comparison import Difference
from patchscout.benchmark.document import fill, main
from patchscout.benchmark.markdown import differences_table, figures_table, summary_csv, table
from patchscout.benchmark.page import check_folder, open_folder, write_page
from patchscout.benchmark.published import Published, are_of_mvtec, read_published
from patchscout.benchmark.results import failures, read_runs
from patchscout.benchmark.screen import results_table
from patchscout.benchmark.summary import MEAN, Row, summarize_runs
from patchscout.benchmark.worker import MEASURED_SIZE, Fitted, score_table
from patchscout.checks import InputError, InputNotFoundError, InputValueError
from patchscout.data.layout import read_dataset
from patchscout.data.split import draw_split
from patchscout.evaluation import compared, figures, score_all
from patchscout.monitor import Monitor

ROOT = Path(__file__).resolve().parents[2]
SIZE = (64, 64)


@pytest.fixture(scope="module")
def maps_of(sample_data):
    """Return anomaly maps of the sample's test images by a detector that is good by `gain`."""
    from patchscout.benchmark.histograms import write_table
    from patchscout.data.loader import resized_mask

    dataset = read_dataset(sample_data)

    def write(path, seed, gain):
        split = draw_split(dataset, labeled_per_type=1, seed=seed)
        rng = np.random.default_rng(seed)
        maps = []
        for sample in split.test:
            noise = rng.normal(-2 + gain * resized_mask(sample, SIZE), 1)
            maps.append((1 / (1 + np.exp(-noise))).astype(np.float32))
        fitted = Fitted(lambda image: maps[0], 0.5, 12.0)

        def images():
            return compared(maps, split.test, MEASURED_SIZE)

        write_table(path.with_suffix(".npz"), score_table(images, dataset, split, fitted))
        return figures(images(), 0.5, MEASURED_SIZE)

    return write


@pytest.fixture
def results(maps_of, tmp_path):
    """A folder of results: two categories, two variants, two seeds."""
    out = tmp_path / "results"
    open_folder(out, "patchscout benchmark data --out results")
    for category in ("bottle", "brick_wall"):
        for variant, gain in (("default", 2.0), ("ahead", 3.0)):
            for seed in (1, 2):
                path = out / category / variant / f"{seed}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                metrics = maps_of(path, seed, gain)
                job = {"category": category, "variant": variant, "on": "test"}
                job |= {"config": {"seed": seed}, "held_out_type": None}
                content = {"format_version": 1, "job": job, "metrics": metrics}
                content |= {"seconds": {"train": 100.0 + seed, "train_cpu": 150, "evaluate": 2}}
                content |= {"peak_memory_mib": 900.0, "threads": 1, "parallel_jobs": 2}
                content |= {"machine": "abacus", "commit": "c0ffee", "date": "2026-01-02 03:04 UTC"}
                path.write_text(json.dumps(content | {"versions": {"torch": "2.0"}}))
    return out


def test_names_from_outside_are_only_text_on_the_page(results):
    odd = "=<script>x</script>|$\\frac{$\x1b[2J\n# Title \udcff"
    for path in (results / "bottle").glob("*/*.json"):
        data = json.loads(path.read_text())
        data["job"]["category"] = odd
        path.write_text(json.dumps(data | {"machine": "<script>"}))
    failed = results / "bottle" / "default" / "3.error.txt"
    failed.write_text("<script>`\x1b[2J | [a](http://b)\n")
    open_folder(results, "patchscout '```\n<script>'")
    runs, rows, _ = write_page(results)
    source = (results / "table.md").read_text(encoding="utf-8")
    page = MarkdownIt("commonmark").enable("table").render(source)
    shown = r"=&lt;script&gt;x&lt;/script&gt;|$\frac{$\x1b[2J\n# Title \udcff"
    assert f"<td>{shown}</td>" in page
    assert r"&lt;script&gt;`\x1b[2J | [a](http://b)</li>" in page
    assert r"patchscout '```\n&lt;script&gt;'" in page
    for raw in ("<script", "<a ", "<h1>Title", "\x1b"):
        assert raw not in page
    table = list(csv.reader((results / "summary.csv").open(encoding="utf-8")))
    assert r"'=<script>x</script>|$\frac{$\x1b[2J\n# Title \udcff" in {line[0] for line in table}
    shown = io.StringIO()
    Console(file=shown, width=500).print(results_table(runs, rows, []))
    assert "\x1b[2J" not in shown.getvalue()


def test_the_page_has_every_table(results):
    (results / "bottle" / "broken").mkdir()
    (results / "bottle" / "broken" / "1.error.txt").write_text("ValueError: no\n\nTraceback")
    runs, rows, lines = write_page(results)
    text = (results / "table.md").read_text()
    for part in (
        "patchscout benchmark data --out results",
        "abacus",
        "c0ffee",
        "256 x 256",
        "| **mean** | `ahead` | 1, 2 |",
        "- `bottle/broken/1`: ValueError: no",
        "## Published figures",
        "2511.20270",
    ):
        assert part in text, part
    assert [row.category for row in rows] == ["bottle"] * 2 + ["brick_wall"] * 2 + [MEAN] * 2
    assert [row.variant for row in rows] == ["default", "ahead"] * 3
    assert str(results / "table.md") in lines[0]
    console = Console(width=100, file=io.StringIO())
    console.print(results_table(runs, rows, read_published()))
    shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert re.search(r"mean +ahead +0\.\d{3} +0\.\d{3} +0\.\d{3} +0\.\d{3} +102", shown)
    assert re.search(r"bottle +PatchCore +0\.771 +0\.790", shown)
    assert re.search(r"mean of 15 +Khadivi Noghredeh et al., 2025 +0\.561 +- +0\.949", shown)
    assert failures(results) == {"bottle/broken/1": "ValueError: no"}


def test_the_mean_is_over_categories_and_what_is_ahead_is_found_ahead(results):
    rows = {(row.category, row.variant): row for row in summarize_runs(read_runs(results))}
    ours = [rows[name, "ahead"].summary("pixel_ap").mean for name in ("bottle", "brick_wall")]
    assert rows[MEAN, "ahead"].summary("pixel_ap").mean == pytest.approx(np.mean(ours))
    for category in ("bottle", MEAN):
        assert rows[category, "ahead"].differences["pixel_ap"].low > 0
        assert rows[category, "default"].differences == {}
        swapped = summarize_runs(read_runs(results), "ahead")
        other = next(r for r in swapped if (r.category, r.variant) == (category, "default"))
        assert other.differences["pixel_ap"].high < 0


def test_a_variant_without_all_categories_has_no_mean(results):
    for path in (results / "bottle" / "ahead").iterdir():
        path.unlink()
    rows = summarize_runs(read_runs(results))
    assert [row.variant for row in rows if row.category == MEAN] == ["default"]


def test_tables_show_mean_spread_and_interval():
    values = {
        name: {1: 0.25, 2: 0.75}
        for name in (
            "pixel_f1_max",
            "pixel_ap",
            "pixel_auroc",
            "pixel_aupro",
            "pixel_f1_at_threshold",
            "image_auroc",
            "seconds",
        )
    }
    clear, unclear = Difference(-0.02, -0.03, -0.01), Difference(0.1, -0.1, 0.3)
    differences = dict.fromkeys(values, unclear) | {"pixel_ap": clear}
    row = Row("bottle", "unet", values, differences)
    assert "| bottle | `unet` | 1, 2 | 0.500 ± 0.354 |" in figures_table([row])
    shown = differences_table([row])
    assert "| +0.100 [−0.100, +0.300] |" in shown
    assert "| **−0.020 [−0.030, −0.010]** |" in shown
    (line,) = csv.DictReader(io.StringIO(summary_csv([row])))
    assert line["pixel_ap_mean"] == "0.5"
    assert line["pixel_ap_difference_low"] == "-0.03"
    assert table(["a"], [["b"]]) == "| a |\n| --- |\n| b |"


def test_without_matplotlib_one_line_says_so(results, monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    *_, lines = write_page(results)
    assert "pip install patchscout[benchmark]" in lines[1]
    assert (results / "table.md").is_file()
    assert not (results / "plots").exists()


def test_test_and_validation_are_not_mixed(results):
    path = results / "bottle" / "ahead" / "1.json"
    content = json.loads(path.read_text())
    content["job"]["on"] = "validation"
    path.write_text(json.dumps(content))
    with pytest.raises(InputValueError, match="no table can mix"):
        read_runs(results)


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.md").write_text("mine")
    with pytest.raises(InputValueError, match="holds other files"):
        check_folder(tmp_path)


def test_commands_are_noted_once(tmp_path):
    for command in ("a", "b", "a"):
        open_folder(tmp_path / "out", command)
    record = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert [entry["command"] for entry in record["commands"]] == ["a", "b"]


def test_published_figures_are_figures():
    published = read_published()
    assert {one.metric for one in published} <= {"f1_max", "ap", "auroc", "aupro"}
    for one in published:
        assert one.categories.keys() <= set(Published.CATEGORIES)
        assert all(0 < value <= 1 for value in one.categories.values())
        assert one.mean is None or 0 < one.mean <= 1
    means = {one.metric: one.mean for one in published if "2511.20270" in one.source}
    assert math.isclose(means["auroc"] or 0, 0.949)
    assert math.isclose(means["f1_max"] or 0, 0.561)


def test_a_stated_mean_is_that_of_the_categories():
    for one in read_published():
        if one.mean is not None and len(one.categories) == len(Published.CATEGORIES):
            found = sum(one.categories.values()) / len(one.categories)
            assert found == pytest.approx(one.mean, abs=6e-3), (one.method, one.metric)


def test_tiles_of_another_data_set_are_not_those_of_mvtec():
    assert are_of_mvtec({"bottle": ["broken_large"], "tile": ["crack", "fray"]}) == ["bottle"]
    assert are_of_mvtec({"tile": ["crack", "glue_strip"], "commutator": []}) == ["tile"]


PAGE = "before\n\n<!-- results: mine{} -->\nwhat was there\n<!-- end -->\n\nafter\n"


def test_blocks_are_filled_and_filling_twice_changes_nothing(results):
    page = PAGE.replace("mine", "results")
    once = fill(page.format(""), results.parent)
    assert "what was there" not in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "| bottle | `ahead` | 1, 2 |" in once
    assert fill(once, results.parent) == once
    more = fill(page.format(" types costs"), results.parent)
    assert "| bottle | `ahead` | scratch |" in more
    assert "| bottle | `ahead` | 2 | 102 | 150 | 2 | 900 | 1 | 2 |" in more


def test_a_block_shows_the_variants_that_it_names(results):
    page = PAGE.replace("mine", "results")
    shown = fill(page.format(" figures of ahead"), results.parent)
    assert "`ahead`" in shown
    assert "`default`" not in shown
    both = fill(page.format(" figures of ahead default"), results.parent)
    assert "`ahead`" in both
    assert "`default`" in both


def test_bad_blocks_are_told(results, tmp_path, capsys):
    with pytest.raises(InputNotFoundError, match="holds no results"):
        fill(PAGE.format(""), tmp_path)
    with pytest.raises(InputValueError, match="unknown table `figurs` of results; did you mean"):
        fill(PAGE.format(" figurs").replace("mine", "results"), tmp_path)
    with pytest.raises(InputNotFoundError, match="no results of behind, which a page shows"):
        fill(PAGE.format(" of behind").replace("mine", "results"), results.parent)
    with pytest.raises(InputValueError, match="does not end"):
        fill("<!-- results: mine -->\n", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(""))
    assert main([str(page), str(tmp_path)]) == 2
    assert "holds no results" in capsys.readouterr().err


@pytest.mark.parametrize("page", [ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "trials.md"])
def test_the_documentation_agrees_with_the_committed_results(page):
    text = page.read_text(encoding="utf-8")
    try:
        made = fill(text, ROOT / "benchmarks" / "results")
    except InputError as error:
        pytest.fail(str(error))
    assert made == text, f"{page} is not made of the results: run `make benchmark-docs`"


def test_score_all_gives_maps_in_order(sample_data):
    samples = draw_split(read_dataset(sample_data), labeled_per_type=1).test
    found = list(score_all(lambda image: image[..., 0], samples, Monitor()))
    assert [one.shape for one in found] == [(96, 96)] * len(samples)
