"""The documentation says what the code does: every setting, and links that lead somewhere."""

import re
from pathlib import Path

import pytest

from patchscout.config import Config, preset_config, setting_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
ROW = re.compile(r"^\| `([a-z_.]+)` \| `([^`]*)` \| `([^`]*)` \| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
UNPUBLISHED = re.compile(r"<!--.*?-->|^```.*?^```", re.DOTALL | re.MULTILINE)


def default(config: Config, name: str) -> str:
    """Return a default as the documentation writes it."""
    value = config
    for part in name.split("."):
        value = getattr(value, part)
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def heading_ids(page: Path) -> set[str]:
    """Return the anchors that a page's headings make."""
    text = UNPUBLISHED.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[str, str]]:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    found = ROW.findall(text[text.index("\n## Settings\n") :])
    assert len(found) == len({name for name, *_ in found}), "a setting is listed twice"
    return {name: (fast, paper) for name, fast, paper, _ in found}


@pytest.mark.parametrize("name", setting_names())
def test_each_setting_is_documented_with_its_defaults(name, rows):
    expected = (default(preset_config("fast"), name), default(preset_config("paper"), name))
    line = f"| `{name}` | `{expected[0]}` | `{expected[1]}` | ... |"
    assert rows.get(name) == expected, f"docs/cli.md, Settings, should have: {line}"


def test_no_setting_is_documented_that_is_not_there(rows):
    assert rows.keys() <= set(setting_names())


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
