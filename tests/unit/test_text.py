"""Names from outside are text wherever they are shown: a terminal, Markdown, CSV, a file's name."""

import csv
import io
import shlex
import subprocess

import markdown_it
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from patchscout.text import (
    csv_cell,
    markdown_name,
    markdown_text,
    printable,
    shell_word,
    short_name,
    shortened,
    shown,
)

PIECES = [
    "<script>",
    "`",
    "``",
    "|",
    "*",
    "_",
    "#",
    "\n",
    "\r",
    "[a](b)",
    "&lt;",
    "http://x.y",
    " ",
]
PIECES += [
    "1. ",
    "- ",
    "www.a.de",
    "\\",
    "~~",
    "![",
    "\x1b[2J",
    "\u202e",
    "\udcff",
    "ä",
    "=1",
    "$x$",
]
NAMES = st.lists(st.sampled_from(PIECES) | st.characters(), max_size=8).map("".join)


def rendered(text):
    """The HTML of GitHub's Markdown."""
    return markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


def html(text):
    return text.translate(str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}))


def test_what_is_not_seen_is_an_escape_and_all_else_stays():
    assert printable("a\x1b[31m\x07\x7f\x9b") == r"a\x1b[31m\x07\x7f\x9b"
    assert printable("\u202e\u2066\u2029\udcff\n\r\t") == r"\u202e\u2066\u2029\udcff\n\r\t"
    for harmless in ("日本 é\\n|<b>", "שלום", "👍🏽", " "):
        assert printable(harmless) == harmless


@given(NAMES)
def test_what_is_printable_can_be_encoded_and_is_one_line(name):
    seen = printable(name)
    seen.encode("utf-8")
    assert len(seen.splitlines()) <= 1
    assert printable(seen) == seen


@example("- x")
@example("1. x")
@example("    x")
@example("---")
@example("a\n\n# b")
@example("\xa0")
@example("\u2003a\u3000")
@example("<img src=x onerror=alert(1)>")
@example("&#60;b&#62;")
@given(NAMES)
def test_a_name_in_markdown_reads_as_the_name_and_makes_nothing_else(name):
    seen = printable(name)
    for text in (markdown_text(name), markdown_name(name)):
        tag = "code" if text.startswith("`") else ""
        cell = html(seen.strip(" ")) if not text.strip(" ") else html(seen)
        inner = f"<{tag}>{cell}</{tag}>" if tag else cell
        if cell:
            assert rendered(f"a {text} b") == f"<p>a {inner} b</p>\n"
            assert rendered(f"# a {text} b") == f"<h1>a {inner} b</h1>\n"
            assert rendered(text) == f"<p>{inner}</p>\n"
        row = rendered(f"| x | y |\n| --- | --- |\n| a {text} b | 1 |")
        assert row.count("<td>") == 2
        assert f"<td>a {inner} b</td>" in row


def test_ordinary_names_stay_readable_as_they_are():
    assert markdown_name("brick_wall") == "`brick_wall`"
    for name in ("broken_large", "001.png", "16-bit images, 2.4.0+cpu: fine. (really)"):
        assert markdown_text(name) == name


def test_no_address_is_left_for_a_renderer_to_link():
    for address in ("https://evil.example/x", "www.evil.example"):
        assert address not in markdown_text(f"see {address}")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\u3000-", "\uff1d", "\uff20"])
def test_a_text_that_would_be_calculated_gets_an_apostrophe(start):
    assert csv_cell(f"{start}HYPERLINK(1)") == f"'{start}HYPERLINK(1)"
    assert csv_cell(f"a;{start}1") == f"a;'{start}1"


def test_numbers_and_ordinary_names_are_cells_as_they_are():
    assert [csv_cell(value) for value in (-0.5, 3, "a-b=c.png", "-")] == [
        "-0.5",
        "3",
        "a-b=c.png",
        "'-",
    ]


@given(NAMES)
def test_a_cell_is_one_line_of_utf_8_that_no_spreadsheet_calculates(name):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["x", csv_cell(name)])
    line = text.getvalue()
    line.encode("utf-8")
    assert len(line.splitlines()) == 1
    (row,) = csv.reader([line])
    assert not row[1].lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.text(st.characters() | st.sampled_from(["\udcff", "ä", "👍"]), max_size=300))
def test_a_short_name_fits_and_differs_where_the_names_do(name):
    short = short_name(name, longest_bytes=40)
    num_bytes = len(short.encode("utf-8", "surrogatepass"))
    if len(name.encode("utf-8", "surrogatepass")) <= 40:
        assert short == name
    else:
        assert 36 <= num_bytes <= 40
        assert name.startswith(short[:-9])
        assert short_name(name + "x", longest_bytes=40) != short


def test_a_name_of_240_bytes_leaves_room_for_suffixes(tmp_path):
    for name in ("a" * 240, "ä" * 120, "日" * 80):
        (tmp_path / f".{short_name(name)}-12345.4194304.partial.tiff").touch()


def test_a_value_is_shown_short_and_plain():
    assert shown("scratch/007.png") == "scratch/007.png"
    assert shown("a\x1b[31m\n \udcff") == r"a\x1b[31m \udcff"
    assert shown("a" + " " * 100 + "b", 10) == "a..."
    for value in ("x" * 9999, [[list(range(99))] * 99] * 99, {"a": "b" * 999}, 10**5000):
        assert len(shown(value)) <= 123


def test_a_long_text_lacks_its_middle():
    assert shortened("a" * 20, longest=20) == "a" * 20
    assert len(shortened("a" * 10**6)) == 1000
    assert shortened("begin" + "x" * 10**6 + "end").endswith("end")


@pytest.mark.parametrize("word", ["run", "my run", "a'b", "a\nb\x1b", "\udcff\\é", "$HOME`id`"])
def test_a_word_can_be_typed_again(word):
    typed = shell_word(word)
    assert printable(typed) == typed
    said = subprocess.run(["bash", "-c", f"printf %s {typed}"], capture_output=True, check=True)
    assert said.stdout == word.encode("utf-8", "surrogateescape")
    if printable(word) == word:
        assert shlex.split(typed) == [word]
