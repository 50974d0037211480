"""A digest that a file carries inside itself, so that damage is found before anything is parsed.

The seal is text, `patchscout-sha256:` and 64 hexadecimal digits, the last such text in the file.
The digest is that of the file with zeros in place of these digits, so that any format that can hold
a line of text can hold its own digest: JSON, the metadata of ONNX, the XML of OpenVINO.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from patchscout.checks import InputValueError

MARK = b"patchscout-sha256:"
NUM_DIGITS = 64
BLANK_SEAL = MARK.decode() + "0" * NUM_DIGITS
"""What a file holds before it is sealed."""


def sha256(content: bytes) -> str:
    """Return the digest of some bytes as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sealed(content: bytes) -> bytes:
    """Return content with its digest in the place of the last `BLANK_SEAL`.

    Example:
        >>> check_seal(sealed(b"hello " + BLANK_SEAL.encode()), Path("greeting"))
        True
    """
    before, blank, after = content.rpartition(BLANK_SEAL.encode())
    if not blank or MARK in after:
        raise ValueError("the content must end with a blank seal, but for text without one")
    return before + MARK + sha256(content).encode() + after


def seal_of(content: bytes) -> str:
    """Return the digest that a sealed file carries."""
    start = content.rindex(MARK) + len(MARK)
    return content[start : start + NUM_DIGITS].decode()


def check_seal(content: bytes, path: Path) -> bool:
    """Return whether a file is sealed; one that has none may be of an older version, or not ours.

    Args:
        content: All of the file.
        path: Its name, for the error.

    Raises:
        InputValueError: If the seal does not fit the content.
    """
    before, mark, after = content.rpartition(MARK)
    if not mark:
        return False
    blank = before + BLANK_SEAL.encode() + after[NUM_DIGITS:]
    if sha256(blank).encode() != after[:NUM_DIGITS]:
        raise InputValueError(
            f"{path} is damaged or was changed: its content does not fit the digest in it. Copy it"
            " again from where it was made, or make it anew."
        )
    return True
