"""YAML files give plain values; what asks for too much, or for anything else, is refused."""

import os
import tracemalloc

import pytest

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.yaml_files import read_yaml


@pytest.fixture
def read(tmp_path):
    """Reads what is given as text or bytes."""

    def read(content):
        path = tmp_path / "settings.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_yaml(path, "--config")

    return read


def aliases(levels, width=10):
    """Return levels of lists, each of aliases of the one before."""
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_plain_values(read):
    content = "a: [1, -2.5, 1.0e-3, 1_000, true, null, text, '1', 0]\nb: {c: &x {d: 1}, e: *x}\n"
    assert read(content) == {
        "a": [1, -2.5, 1e-3, 1000, True, None, "text", "1", 0],
        "b": {"c": {"d": 1}, "e": {"d": 1}},
    }
    assert read('{"seed": 3, "size": [64, 96], "x": "\\u00e9"}') == {
        "seed": 3,
        "size": [64, 96],
        "x": "é",
    }
    assert read("base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n")["mine"] == {
        "a": 1,
        "b": 3,
    }
    assert read("\ufeffa: 1") == {"a": 1}
    assert read("") is None


def test_aliases_that_stand_for_too_much_are_refused_before_anything_is_built(read):
    tracemalloc.start()
    with pytest.raises(InputValueError, match=r"more than 100000 values .* \(line 5\)"):
        read(aliases(9))
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_limits_hold(read, limits):
    assert len(read(aliases(4))["a3"]) == 10  # 11,111 values
    limits(aliases=11)
    with pytest.raises(InputValueError, match=r"more than the 11 aliases .*--limits\.aliases"):
        read(aliases(3))
    limits(aliases=1)
    with pytest.raises(InputValueError, match=r"more than 1000 values \(1000 x `limits.aliases`"):
        read("\n".join(f"k{i}: 1" for i in range(600)))
    limits(depth=3)
    assert read("[[[1]]]") == [[[1]]]
    for content in ("[[[[1]]]]", "- - - - 1", "a: &a [[1]]\nb: [*a]"):
        with pytest.raises(InputValueError, match=r"the 3 levels .* \(line .*--limits\.depth"):
            read(content)
    limits(seconds=1e-9)
    with pytest.raises(InputValueError, match=r"takes more than .*--limits\.seconds"):
        read("a: 1")
    limits(file_mib=1)
    with pytest.raises(InputValueError, match=r"larger than 0\.0625 MiB, .*--limits\.file-mib"):
        read("#" * 65537)


def test_depth_that_is_allowed_but_too_much_for_the_interpreter(read, limits):
    limits(depth=10**6)
    with pytest.raises(InputValueError, match="nested too deep"):
        read("- " * 1500 + "1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: &a [1, *a]", r"has `\*a` within what it stands for \(line 1\)"),
        ("&a {b: {c: *a}}", r"has `\*a` within what it stands for"),
        ("1.5: 2", r"has `1.5` for a name; expected text, if need be in quotes \(line 1\)"),
        ("1: 2\n'1': 3", r"has `1` twice \(line 2\)"),
        ("a: 1\non: 2", r"has `on` for a name; .* \(line 2\)"),
        ("? [a]\n: 1", r"has a list for a name"),
        ("a: 1\nb:\n  c: 1\n  c: 2", r"has `c` twice \(line 4\)"),
        ("a: 2020-01-01", "has a value of type `timestamp`; expected text, numbers"),
        ("2020-01-01: 1", "has a value of type `timestamp`"),
        ("a: !!set {b, c}", "has a value of type `set`"),
        ("a: !!binary aGk=", "has a value of type `binary`"),
        ("a: !mine 1", "has a value of type `!mine`"),
        ("!!python/object/apply:os.getcwd []", "has a value of type `python/object/apply:os.get"),
        ("a: .nan", r"has `\.nan`, which is no finite decimal number"),
        ("a: -.inf", r"has `-\.inf`, which is no finite decimal number"),
        ("a: 1.0e+999", r"has `1\.0e\+999`, which is no finite decimal number"),
        ("a: " + "9" * 5000, r"has `9{120}\.\.\.`, which is no finite decimal number"),
        ("a: 010", "has `010`, which is no finite decimal number"),
        ("a: 1:30", "has `1:30`, which is no finite decimal number"),
        ("a: !!int abc", "has `abc`, which is no finite decimal number"),
        ("a: !!bool x", "has `x`, which is no boolean"),
        ('a: "\\uD800"', r"has `\?`, which is no text"),
        ('"\\uD800": 1', r"has `\?`, which is no text"),
        ("a: \0", "is not valid YAML: unacceptable character #x0000"),
        (b"a: \xe9", "is not valid YAML: 'utf-8' codec .* saved as UTF-8"),
        ("a: 1".encode("utf-16"), "is not valid YAML: 'utf-8' codec .* saved as UTF-8"),
        ("a: [1", r"is not valid YAML: .*, line 1\. Mend the file"),
        ("a: 1\n---\nb: 2", "is not valid YAML: but found another document, line 2"),
        ("a: *" + "z" * 10**5, "is not valid YAML: found undefined alias 'zzz"),
        ("<<: 3", "is not valid YAML: expected a mapping"),
    ],
)
def test_other_content_is_refused_in_one_short_line(read, content, message):
    with pytest.raises(InputValueError, match=rf"settings\.yaml {message}") as error:
        read(content)
    assert "\n" not in error.value.args[0]
    assert len(str(error.value)) < 400


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"`--config` file .*gone is not there"):
        read_yaml(tmp_path / "gone", "--config")
    with pytest.raises(InputValueError, match=r"is a folder\. Expected a YAML file"):
        read_yaml(tmp_path, "--config")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputValueError, match="is a pipe, socket or device"):
        read_yaml(tmp_path / "pipe", "--config")
