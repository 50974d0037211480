"""Arrays in a bounded file: the latest stay, and what is interrupted mixes up none."""

import numpy as np
import pytest

from patchscout.data.slots import FileSlots


def array(value):
    return np.full((3, 2), value, np.uint8)


def test_the_one_used_longest_ago_is_forgotten():
    slots = FileSlots(capacity_bytes=12, slot_bytes=6)
    slots.put("a", array(1))
    slots.put("b", array(2))
    slots.get("a")
    slots.put("c", array(3))
    assert slots.get("b") is None
    for key, value in (("a", 1), ("c", 3)):
        np.testing.assert_array_equal(slots.get(key), array(value))


def test_ctrl_c_in_a_write_mixes_up_no_arrays(monkeypatch):
    slots = FileSlots(capacity_bytes=18, slot_bytes=6)
    for value, key in enumerate("abc"):
        slots.put(key, array(value))
    file = slots._file

    class Pressed:
        def __getattr__(self, name):
            return getattr(file, name)

        def write(self, data):
            raise KeyboardInterrupt

    monkeypatch.setattr(slots, "_file", Pressed())
    with pytest.raises(KeyboardInterrupt):
        slots.put("d", array(3))
    monkeypatch.undo()
    slots.put("e", array(4))
    slots.put("f", array(5))
    assert slots.get("d") is None
    for key, value in (("e", 4), ("f", 5)):
        np.testing.assert_array_equal(slots.get(key), array(value))
    slots.put("g", array(6))  # the place of "d" is not lost
    assert sum(slots.get(key) is not None for key in "abcefg") == 3
    found = {key: slots.get(key) for key in "abc"}
    for value, key in enumerate("abc"):
        assert found[key] is None or (found[key] == value).all()
