"""JSON that cannot be read, or is beyond the limits, is told in one short line."""

import json
import os
import time

import pytest

from patchscout.checks import InputNotFoundError, InputValueError
from patchscout.data.json_files import read_json_object


def test_objects_are_read_as_json_reads_them(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": "]\\"[[\\\\", "b": [1e999, NaN], "c": "\\udcff"}')
    content = read_json_object(path, "a test")
    assert content["a"] == ']"[[\\'
    assert content["c"] == "\udcff"
    assert content["b"][0] == float("inf")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('{"a": 1}'.encode("utf-16"), "it is not UTF-8 text"),
        (b'{"a": "\xff"}', "it is not UTF-8 text"),
        (b'{"a": \x00}', "Expecting value"),
        (b'{"a": "\x00"}', "Invalid control character"),
        (b'{"a": ' + b"9" * 5000 + b"}", "it has a number of thousands of digits"),
        (b'{"a": ' + b"x" * 5000 + b"}", "Expecting value"),
    ],
)
def test_what_is_no_json(tmp_path, data, reason):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(InputValueError, match=r"a\.json is not readable JSON") as caught:
        read_json_object(path, "a test")
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 200 + len(str(path))


def test_what_is_no_file(tmp_path):
    with pytest.raises(InputValueError, match=r"is a folder\. Expected a test"):
        read_json_object(tmp_path, "a test")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputValueError, match="pipe is a pipe, socket or device"):
        read_json_object(tmp_path / "pipe", "a test")
    with pytest.raises(InputNotFoundError, match=r"gone\.json does not exist"):
        read_json_object(tmp_path / "gone.json", "a test")
    for name in ("a\0b.json", "\ud800.json", "x" * 300):
        with pytest.raises(InputValueError, match="cannot be read: "):
            read_json_object(tmp_path / name, "a test")


def test_a_file_beyond_the_limit_is_not_read(tmp_path, limits):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    os.truncate(path, 100 << 30)  # mostly a hole
    message = r"a\.json has 102400 MiB; at most 64 .* raise `--limits\.file-mib`"
    with pytest.raises(InputValueError, match=message):
        read_json_object(path, "a test")
    path.write_text(json.dumps({"a": "x" * (2 << 20)}))
    limits(file_mib=2)
    with pytest.raises(InputValueError, match="at most 2 MiB are read"):
        read_json_object(path, "a test")
    limits(file_mib=3)
    assert len(read_json_object(path, "a test")["a"]) == 2 << 20


def test_nesting_beyond_the_limit_is_not_followed(tmp_path, limits):
    path = tmp_path / "a.json"
    deep = '{"a": ' + "[" * 63 + "]" * 63 + ', "b": "' + "[" * 99 + '\\"' + "{" * 99 + '"}'
    path.write_text(deep)
    assert read_json_object(path, "a test").keys() == {"a", "b"}
    for text in ('{"a": ' + "[" * 64 + "]" * 64 + "}", '{"a": ' * 1_000_000):
        path.write_text(text)
        start = time.process_time()
        message = r"a\.json is nested more than 64 deep.* raise `--limits\.depth`"
        with pytest.raises(InputValueError, match=message):
            read_json_object(path, "a test")
        assert time.process_time() - start < 2
    limits(depth=10**9)
    with pytest.raises(InputValueError, match=r"it is nested too deep|Expecting value"):
        read_json_object(path, "a test")
