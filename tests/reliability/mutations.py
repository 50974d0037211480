"""Changes of well-formed input, drawn by a seed: bytes, JSON, YAML, TIFF, PNG, command lines."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

INTERESTING = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31)
INTERESTING_64 = (*INTERESTING, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)

RAW_JSON = (
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "-0",
    "1E400",
    "9" * 400,
    "9" * 5000,
    "[" * 500 + "]" * 500,
    "[" * 50_000,
    '{"a":' * 300 + "1" + "}" * 300,
    '"\\ud800"',
    '"\\u0000"',
    '"\\u001b[31m"',
    "0x10",
    "tru",
    "",
    '{"a": 1, "a": 2}',
)
"""What only text can say."""

ODD_TEXTS = (
    "",
    " ",
    "..",
    "../../x",
    "/",
    "/etc/passwd",
    "a\nb",
    "a\rb",
    "\x1b[31mred",
    "<script>alert(1)</script>",
    "=1+1",
    "| a | b |",
    "# a",
    "x" * 300,
    "x" * 70_000,
    "caf\u00e9",
    "\u202egnp",
    "\U0001f600",
    "nan",
    "inf",
    "1e999",
    "true",
    "null",
    "~",
    "\\\\host\\share",
    "0",
    "-1",
)

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    0.5,
    -0.5,
    255,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    10**400,
    1e308,
    -1e308,
    5e-324,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [[[]]],
    [None],
    [1],
    [1, 2],
    [1, 2, 3],
    [1, 2, 3, 4],
    [[1, 2], [3, 4], [5, 6]],
    [0] * 1000,
    {"a": 1},
    {"": None},
    *ODD_TEXTS,
)

ODD_NAMES = (
    "a.png",
    "A.PNG",
    ".hidden.png",
    "..png",
    "a.b.c.png",
    "a\nb.png",
    "a\rb.png",
    "\x1b[31mred.png",
    "\x9b31mred.png",
    "\x7f.png",
    "caf\udce9.png",
    "caf\u00e9.png",
    "\u202egnp.png",
    "\U0001f600.png",
    "\ufeff.png",
    "=1+1.png",
    "+1.png",
    "@a.png",
    "-rf.png",
    "--.png",
    "<script>alert(1)</script>.png".replace("/", "_"),
    "| a | b |.png",
    "# a.png",
    "`a`.png",
    "[a](b).png",
    "[red]a[_red].png",
    "{0}.png",
    "%s%n.png",
    '"quoted", name.png',
    "' OR 1.png",
    "a b.png",
    " .png",
    "x" * 200 + ".png",
    "x" * 240 + ".png",
    "x" * 251 + ".png",
    "\u00e9" * 120 + ".png",
    "con.png",
    "predictions.png",
    "~.png",
    "$HOME.png",
    "*.png",
    "\\.png",
)
"""Names of files, each of which Linux allows."""


def mutate_bytes(content: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return the content after one to six changes of its bytes."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(_BYTE_CHANGES)(changed, rng, others)
    return bytes(changed)


def _flip(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    for _number in range(rng.choice((1, 1, 2, 8))):
        if content:
            content[_place(content, rng)] ^= 1 << rng.randrange(8)


def _overwrite(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    size = rng.choice((1, 2, 4, 8))
    number = rng.choice(INTERESTING_64) % 256**size
    start = _place(content, rng)
    content[start : start + size] = number.to_bytes(size, rng.choice(("little", "big")))


def _cut_off(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    del content[_place(content, rng) :]


def _cut_out(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start = _place(content, rng)
    del content[start : start + rng.choice((1, 2, 4, 16, 100))]


def _insert(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start = _place(content, rng)
    content[start:start] = rng.randbytes(rng.choice((1, 2, 4, 16, 100)))


def _repeat(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start = _place(content, rng)
    part = content[start : start + rng.choice((1, 4, 16, 64))]
    content[start:start] = part * rng.choice((1, 2, 10, 100))


def _splice(content: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    if others:
        other = rng.choice(others)
        content[_place(content, rng) :] = other[rng.randrange(len(other) + 1) :]


_BYTE_CHANGES = (
    _flip,
    _flip,
    _overwrite,
    _overwrite,
    _cut_off,
    _cut_out,
    _insert,
    _repeat,
    _splice,
)


def _place(content: bytes | bytearray, rng: random.Random) -> int:
    """Return where to change something; half of the time in the header."""
    end = len(content) if rng.random() < 0.5 else min(len(content), 100)
    return rng.randrange(max(end, 1))


def mutate_json(content: Any, rng: random.Random) -> str:
    """Return JSON text of the content after one to four changes of its tree."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = _changed_tree(content, rng)
    text = json.dumps(content, ensure_ascii=rng.random() < 0.8)
    while '"\ue000"' in text or '"\\ue000"' in text:
        raw = rng.choice(RAW_JSON)
        text = text.replace('"\ue000"', raw, 1).replace('"\\ue000"', raw, 1)
    return text


def _changed_tree(tree: Any, rng: random.Random) -> Any:
    """Return a tree of dicts and lists that differs in one place from another."""
    is_inner = isinstance(tree, dict | list) and len(tree) > 0
    if not is_inner or rng.random() < 0.15:
        return _changed_node(tree, rng)
    if isinstance(tree, dict):
        key = rng.choice(list(tree))
        kind = rng.random()
        if kind < 0.08:
            return {k: v for k, v in tree.items() if k != key}
        if kind < 0.12:
            return {(_odd_key(rng) if k == key else k): v for k, v in tree.items()}
        if kind < 0.16:
            return tree | {_odd_key(rng): rng.choice(ODD_VALUES)}
        return tree | {key: _changed_tree(tree[key], rng)}
    number = rng.randrange(len(tree))
    kind = rng.random()
    if kind < 0.06:
        return tree[:number] + tree[number + 1 :]
    if kind < 0.12:
        return tree[:number] + [tree[number]] * rng.choice((2, 3, 100, 1000)) + tree[number:]
    return [*tree[:number], _changed_tree(tree[number], rng), *tree[number + 1 :]]


def _changed_node(node: Any, rng: random.Random) -> Any:
    """Return another value for one place of a tree."""
    kind = rng.random()
    if kind < 0.1:
        return [node]
    if kind < 0.15:
        return "\ue000"  # raw text, put in later
    if kind < 0.2:
        return str(node)
    if isinstance(node, str) and node and kind < 0.5:
        return _changed_text(node, rng)
    if isinstance(node, int | float) and not isinstance(node, bool) and kind < 0.5:
        return rng.choice((node + 1, node - 1, -node, node * 2, node // 2, node * 1000))
    return rng.choice(ODD_VALUES)


def _changed_text(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text))
    character = chr(rng.choice((rng.randrange(32, 127), rng.randrange(256), rng.randrange(0xD7FF))))
    return rng.choice(
        (
            text[:place] + character + text[place + 1 :],
            text[:place] + character * rng.choice((1, 2, 30)) + text[place:],
            text[:place],
            text * rng.choice((2, 20)),
            text + rng.choice(ODD_TEXTS),
        )
    )


def _odd_key(rng: random.Random) -> str:
    return rng.choice(("a", "id", "points", "counts", "__class__", *ODD_TEXTS))


YAML_VALUES = (
    "2024-01-01",
    "2024-01-01 10:00:00",
    "!!binary aGk=",
    "!!binary x",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!python/object:os.system {}",
    "!!python/tuple [1, 2]",
    "!!int x",
    "!!float x",
    "!!timestamp x",
    "!!str 1",
    "!unknown 1",
    "&a [*a]",
    "&a {a: *a}",
    "*missing",
    "{? [1, 2] : 3}",
    "{1: 2}",
    "{null: 2}",
    "{true: 2}",
    "{<<: 3}",
    "{<<: [1]}",
    "{<<: {a: 1}}",
    ".inf",
    "-.inf",
    ".nan",
    "0o7",
    "0x1F",
    "0b1",
    "1_000",
    "1:30:00",
    "1e3",
    "1e999",
    "9" * 400,
    "9" * 5000,
    "yes",
    "off",
    "~",
    "[]",
    "{}",
    "[1, [2, [3]]]",
    "[" * 200 + "]" * 200,
    "[" * 3000,
    "|\n  text",
    ">-\n  text",
    "'",
    '"\\x00"',
    '"\\ud800"',
    "\t1",
    "- 1",
    "a: b: c",
    "%",
    "@",
    "`",
)


def mutate_yaml(lines: Sequence[str], rng: random.Random) -> bytes:
    """Return YAML of which some lines have other values."""
    changed = list(lines)
    for _ in range(rng.choice((1, 1, 2, 4))):
        number = rng.randrange(len(changed))
        key = changed[number].partition(":")[0]
        kind = rng.random()
        if kind < 0.7:
            changed[number] = f"{key}: {rng.choice((*YAML_VALUES, *map(repr, ODD_VALUES[:23])))}"
        elif kind < 0.8:
            changed.insert(number, rng.choice(changed))
        elif kind < 0.85:
            changed.insert(number, rng.choice(("---", "...", "%YAML 1.1", "? ", "<<: *a", "#", "")))
        elif kind < 0.9:
            changed.extend(_many_aliases(rng.choice((2, 3, 5)), rng.choice((2, 5, 9))))
        else:
            changed[number] = rng.choice(("", " ", "  ")) + changed[number].lstrip()
    text = "\n".join(changed)
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"))
    return text.encode(encoding, errors="replace")


def _many_aliases(num_levels: int, width: int) -> list[str]:
    """Return lines of which each names the one before several times."""
    lines = ["l0: &l0 [1, 2, 3]"]
    for level in range(1, num_levels + 1):
        lines.append(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * width)}]")
    return lines


def mutate_tiff(content: bytes, rng: random.Random) -> bytes:
    """Return a TIFF file with other tags."""
    changed = bytearray(content)
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    if start + 2 > len(content):
        return mutate_bytes(content, rng)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    for _ in range(rng.choice((1, 1, 2, 3))):
        entry = start + 2 + 12 * rng.randrange(max(count, 1))
        if entry + 12 > len(content):
            break
        offset, kind, largest = rng.choice(
            ((0, "H", 65536), (2, "H", 20), (4, "I", 2**32), (8, "I", 2**32))
        )
        if offset == 0:
            number = rng.choice((254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317))
        elif offset == 2:
            number = rng.randrange(largest)
        else:
            (old,) = struct.unpack_from(f"{order}I", changed, entry + offset)
            near = (old + 1, old - 1, old * 2, old // 2, rng.randrange(16))
            number = rng.choice((*INTERESTING_64, *near)) % largest
        struct.pack_into(f"{order}{kind}", changed, entry + offset, number)
    return bytes(changed)


def mutate_png(content: bytes, rng: random.Random) -> bytes:
    """Return a PNG file with other chunks, their checksums right."""
    chunks = _png_chunks(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        number = rng.randrange(len(chunks))
        kind, data = chunks[number]
        choice = rng.random()
        if choice < 0.35:
            chunks[0] = (b"IHDR", _changed_header(chunks[0][1], rng))
        elif choice < 0.55:
            chunks[number] = (kind, mutate_bytes(data, rng))
        elif choice < 0.65:
            chunks.pop(number)
        elif choice < 0.75:
            chunks.insert(number, rng.choice(chunks))
        elif choice < 0.98:
            chunks.insert(rng.randrange(1, len(chunks) + 1), _odd_chunk(rng))
        else:
            chunks[number] = (b"IDAT", zlib.compress(bytes(rng.choice((10_000, 10_000_000)))))
        if not chunks:
            break
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return content[:8] + b"".join(parts)


def _png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], 8
    while place < len(content):
        (size,) = struct.unpack_from(">I", content, place)
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    return chunks


def _changed_header(data: bytes, rng: random.Random) -> bytes:
    if len(data) < 13:
        return data
    width, height, *rest = struct.unpack(">IIBBBBB", data[:13])
    field = rng.randrange(4)
    if field == 0:
        width = rng.choice((*INTERESTING, width + 1, width * 2))
    elif field == 1:
        height = rng.choice((*INTERESTING, height + 1, height * 2))
    elif field == 2:
        rest[0] = rng.choice((0, 1, 2, 4, 8, 16, 32, 255))
        rest[1] = rng.randrange(8)
    else:
        rest[rng.randrange(5)] = rng.randrange(256)
    return struct.pack(">IIBBBBB", width % 2**32, height % 2**32, *rest)


def _odd_chunk(rng: random.Random) -> tuple[bytes, bytes]:
    kind = rng.choice((b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"tRNS", b"PLTE", b"gAMA"))
    if rng.random() < 0.3:
        kind = rng.choice((b"acTL", b"fcTL", b"fdAT", b"sRGB", b"pHYs", b"bKGD", b"IEND", b"abcd"))
    size = rng.choice((0, 1, 2, 3, 4, 6, 8, 26, 256, 768))
    data = rng.randbytes(size)
    if kind == b"zTXt" and rng.random() < 0.3:
        data = b"a\0\0" + zlib.compress(bytes(3_000_000))
    if kind == b"eXIf":
        data = rng.choice((b"II*\0", b"MM\0*", b"Exif\0\0II*\0")) + data
    return kind, data


def mutate_arguments(words: Sequence[str], rng: random.Random, odd: Sequence[str]) -> list[str]:
    """Return a command line after up to three changes of its words."""
    changed = list(words)
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        number = rng.randrange(len(changed) + 1)
        change = rng.choice(_WORD_CHANGES)
        change(changed, number, rng, odd)
    return changed


def _replace_word(words: list[str], number: int, rng: random.Random, odd: Sequence[str]) -> None:
    words[number : number + 1] = [rng.choice(odd)]


def _insert_word(words: list[str], number: int, rng: random.Random, odd: Sequence[str]) -> None:
    words.insert(number, rng.choice(odd))


def _drop_word(words: list[str], number: int, rng: random.Random, odd: Sequence[str]) -> None:
    del words[number : number + 1]


def _repeat_word(words: list[str], number: int, rng: random.Random, odd: Sequence[str]) -> None:
    words[number:number] = words[number : number + 2] * rng.choice((1, 2, 20))


def _join_words(words: list[str], number: int, rng: random.Random, odd: Sequence[str]) -> None:
    words[number : number + 2] = ["=".join(words[number : number + 2])]


def _change_word(words: list[str], number: int, rng: random.Random, odd: Sequence[str]) -> None:
    if number < len(words) and words[number]:
        text = _changed_text(words[number][:200], rng).replace("\0", "")
        words[number] = text


_WORD_CHANGES: tuple[Callable[[list[str], int, random.Random, Sequence[str]], None], ...] = (
    _replace_word,
    _insert_word,
    _drop_word,
    _repeat_word,
    _join_words,
    _change_word,
)
