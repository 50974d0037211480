"""The documentation says what the code does: the reference, commands, settings, and links."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from patchscout import preset_config
from patchscout.arguments import parse, parse_train
from patchscout.cli import COMMANDS
from patchscout.presets import setting_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
GUIDES = [ROOT / "README.md", ROOT / "docs" / "index.md", ROOT / "docs" / "howto.md"]
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
UNPUBLISHED = re.compile(r"<!--.*?-->|^```.*?^```", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def heading_ids(page: Path) -> set[str]:
    """Return the anchors that a page's headings make."""
    text = UNPUBLISHED.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def fenced(language: str) -> list[str]:
    """Return the blocks of a language in the pages that show how things are done."""
    texts = (page.read_text(encoding="utf-8") for page in GUIDES)
    return [code for text in texts for kind, code in FENCED.findall(text) if kind == language]


def commands_shown() -> list[str]:
    lines = (line.partition("#")[0].strip() for text in fenced("") for line in text.splitlines())
    return sorted({line for line in lines if line.startswith("patchscout ")})


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(generator):
    assert generator.page() == CLI, "run `python docs/generate.py`"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_section(name):
    assert f"\n## {name}\n" in CLI


@pytest.mark.parametrize("name", setting_names())
def test_each_setting_has_a_row(name):
    row = re.search(rf"^\| `{re.escape(name)}` \| `.+` \| \S.+ \|$", CLI, re.MULTILINE)
    assert row is not None


@pytest.mark.parametrize("page", [*GUIDES, ROOT / "docs" / "method.md"], ids=lambda page: page.stem)
def test_the_settings_that_pages_name_exist(page):
    groups = "|".join({name.partition(".")[0] for name in setting_names() if "." in name})
    named = re.findall(rf"`(?:--)?((?:{groups})\.[a-z_]+)[ `]", page.read_text(encoding="utf-8"))
    assert set(named) <= set(setting_names())


@pytest.mark.parametrize("line", commands_shown())
def test_the_commands_of_the_guides_can_be_typed(line, generator):
    _, name, *arguments = shlex.split(line)
    if name == "train":
        parse_train(arguments)
    else:
        parse(generator.arguments_of(name), arguments, f"patchscout {name}")


def test_the_settings_of_the_python_examples_exist():
    sources = [*fenced("python"), *(p.read_text("utf-8") for p in ROOT.glob("examples/*.py"))]
    calls = [
        node
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "preset_config"
    ]
    assert calls
    for call in calls:
        preset_config(
            *map(ast.literal_eval, call.args),
            **{one.arg: ast.literal_eval(one.value) for one in call.keywords if one.arg},
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page):
    text = UNPUBLISHED.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue  # elsewhere
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor and linked.suffix == ".md":
            assert anchor in heading_ids(linked), f"{page.name} links to {target}"


def test_the_figures_of_the_readme_are_those_of_the_results():
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/results.md")]
    tables = [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
        for page in pages
    ]
    shown = {row[0].split()[0]: row[1:] for row in tables[0] if len(row) == 5 and "±" in row[1]}
    measured = [
        row for row in tables[1] if len(row) == 9 and row[1:3] == ["`default`", "42, 43, 44"]
    ]
    first = {
        row[0]: [*row[3:6], row[7]] for row in reversed(measured)
    }  # later ones are of the past
    assert shown == {name: first[name] for name in shown}
    assert len(shown) == 5
