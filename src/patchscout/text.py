"""Makes names and texts that come from outside harmless where they are shown or written.

Names of files, folders and defect types can hold anything: escape sequences of terminals, line
ends, Markdown, formulas, bytes that are no UTF-8. Each place that shows them has a function here;
`predictions.json`, `split.json` and `config.json` hold the exact text.
"""

from __future__ import annotations

import hashlib
import os
import re
import reprlib
import shlex

_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls of C0 and C1, line and paragraph separators, overrides of direction, lone surrogates."""

_ALNUM = "[^\\W_]"
_MARKDOWN = re.compile(
    r"[\\`*\[\]{}<>&|#!~$^@]"  # begin or end something wherever they are
    r"|:(?! )"  # of an address or an emoji
    r"|(?<=www)\.|(?<=WWW)\."
    rf"|(?<!{_ALNUM})_|_(?!{_ALNUM})"  # emphasis; not in a word
    rf"|^[-+=:]|(?<=\d)[.)](?!{_ALNUM})"  # lists, rules and underlines
    r"|^\s|\s$"  # renderers strip every kind of space
)
_PLAIN = re.compile(rf"{_ALNUM}[\w ./+=,()-]*")
"""What a code span shows as it is, in a table too."""

_FORMULA = re.compile(r"(^|;)(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])")  # the last four: full width


def printable(text: str) -> str:
    r"""Return a text in which what is not to be seen, or moves the cursor, is written as an escape.

    Example:
        >>> print(printable("a\x1b[31m\udcff.png"))
        a\x1b[31m\udcff.png
    """
    return _HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def shortened(text: str, longest: int = 1000) -> str:
    """Return a text of at most so many characters; a longer one lacks its middle.

    Example:
        >>> shortened("a" * 50 + "b" * 50, longest=15)
        'aaaaaaa ... bbb'
    """
    if len(text) <= longest:
        return text
    end = (longest - len(" ... ")) // 3
    return f"{text[: longest - len(' ... ') - end]} ... {text[len(text) - end :]}"


class _ShortRepr(reprlib.Repr):
    """Writes the start of a value, without building the text of all of it first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 3
        self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        """Write a whole number; one of thousands of digits has no `repr`."""
        return repr(x) if x.bit_length() < 128 else f"a number of {x.bit_length()} bits"


short_repr = _ShortRepr().repr


def shown(value: object, longest: int = 120) -> str:
    r"""Return the start of a text, or of another value as Python writes it, in one line.

    Example:
        >>> shown("a\n  b"), shown([1, 2, 3, 4]), shown("a" * 99, 4)
        ('a b', '[1, 2, 3, ...]', 'aaaa...')
    """
    text = value if isinstance(value, str) else short_repr(value)
    line = printable(" ".join(text[: 2 * longest].split()))
    is_whole = len(line) <= longest and len(text) <= 2 * longest
    return line if is_whole else f"{line[:longest]}..."


def markdown_text(text: str) -> str:
    """Return a text for a paragraph, heading or table cell of Markdown, in which it is only text.

    Whatever could be markup is a numeric character reference, which every renderer shows as the
    character and none takes for markup.

    Example:
        >>> markdown_text("<b>|my_part")
        '&#60;b&#62;&#124;my_part'
    """
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", printable(text))


def markdown_name(name: str) -> str:
    """Return a name as a code span of Markdown, or as text where it could end the span.

    Example:
        >>> markdown_name("brick_wall"), markdown_name("a`b")
        ('`brick_wall`', 'a&#96;b')
    """
    shown = printable(name)
    is_plain = _PLAIN.fullmatch(shown) and not shown.endswith(" ")
    return f"`{shown}`" if is_plain else markdown_text(name)


def csv_cell(value: object) -> str:
    """Return what a cell of a CSV table holds: a number as it is, a text that is no formula.

    A text that a spreadsheet would calculate is given an apostrophe, as OWASP recommends ("CSV
    Injection"); so is what follows a semicolon, which separates cells in some countries.

    Example:
        >>> csv_cell("=1+1"), csv_cell(-0.5)
        ("'=1+1", '-0.5')
    """
    if not isinstance(value, str):
        return str(value)
    return _FORMULA.sub(r"\1'", printable(value))


def short_name(name: str, longest_bytes: int = 200) -> str:
    """Return a file's name; the end of one with more bytes in UTF-8 gives way to a digest.

    The 55 bytes between that and what file systems allow are for suffixes and the like.

    Args:
        name: A name without folders.
        longest_bytes: Bytes of the result, at least 10.

    Example:
        >>> short_name("part-7"), short_name("ä" * 200, longest_bytes=20)
        ('part-7', 'äääää-2e9f2db4')
    """
    encoded = name.encode("utf-8", errors="surrogatepass")
    if len(encoded) <= longest_bytes:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    kept = encoded[: longest_bytes - len(digest) - 1]
    while kept and encoded[len(kept)] & 0xC0 == 0x80:  # in the middle of a character
        kept = kept[:-1]
    return f"{kept.decode('utf-8', errors='surrogatepass')}-{digest}"


def shell_word(word: str) -> str:
    r"""Return a word as it is typed in a shell, in ASCII if it cannot be shown as it is.

    Example:
        >>> shell_word("my run"), shell_word("a\nb")
        ("'my run'", "$'a\\x0ab'")
    """
    if printable(word) == word:
        return shlex.quote(word)
    escaped = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\\'" else f"\\x{byte:02x}"
        for byte in os.fsencode(word)
    )
    return f"$'{escaped}'"
