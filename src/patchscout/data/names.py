"""Names that other tools write for an image, matched to the image's own name."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import takewhile
from urllib.parse import unquote

from patchscout.checks import InputValueError
from patchscout.data.images import IMAGE_SUFFIXES
from patchscout.text import shown

LONGEST_NAME = 4096
"""Characters that a path may have on most systems; no name or address of an image has more."""

_UPLOAD_HASH = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file: the start of a UUID."""


class NameIndex:
    r"""Names of files, looked up by what other tools make of them.

    A name fits another if the two are the same after the first of these that helps: the suffix in
    lower case, Unicode in its composed form and backslashes as slashes; the address of a web
    server decoded (`/data/local-files/?d=...`, `%20`); the upload hash of Label Studio dropped from
    one of them; what Label Studio replaces in a name replaced; the suffix dropped. Where several
    fit, the one wins whose folders agree further up.

    Args:
        known: Names, with or without folders.

    Example:
        >>> known = NameIndex(["bad/IMG_0.png", "bad/IMG_1.png"])
        >>> known.match("..\\upload\\4\\cb0618f0-IMG_0.PNG")
        'bad/IMG_0.png'
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._by_form: dict[str, list[tuple[str, int, bool]]] = defaultdict(list)
        for name in dict.fromkeys(known):
            for cost, (form, is_unhashed) in enumerate(_forms(name)):
                self._by_form[form].append((name, cost, is_unhashed))

    def match(self, name: str) -> str | None:
        """Return the known name that `name`, a file name, path or address, stands for, or None.

        Raises:
            InputValueError: It fits several equally well.
        """
        ranks: dict[str, tuple[int, int]] = {}
        for cost, (form, is_unhashed) in enumerate(_forms(name)):
            for known, other_cost, other_is_unhashed in self._by_form.get(form, ()):
                if not (is_unhashed and other_is_unhashed):  # two hashes are two uploads
                    rank = (-_num_shared_folders(name, known), cost + other_cost)
                    ranks[known] = min(rank, ranks.get(known, rank))
        if not ranks:
            return None
        best = min(ranks.values())
        first, *others = [known for known, rank in ranks.items() if rank == best]
        if others:
            raise InputValueError(
                f"{shown(name)} fits {shown(first)} and {shown(others[0])}. Expected one; give the "
                "name with the folder that the image lies in."
            )
        return first


def _forms(name: str) -> list[tuple[str, bool]]:
    """Return the forms of a name's last part, the closest to it first, and which lack a hash."""
    base = _parts(name)[-1]
    address = _parts(_decoded(name))[-1]
    forms = {base: False, address: False}
    for form in tuple(forms):
        if match := _UPLOAD_HASH.match(form):
            forms.setdefault(form[match.end() :], True)
    for form, is_unhashed in tuple(forms.items()):
        # Django's get_valid_filename, which Label Studio applies to uploads.
        forms.setdefault(re.sub(r"[^-\w.]", "", form.strip().replace(" ", "_")), is_unhashed)
    for form, is_unhashed in tuple(forms.items()):
        forms.setdefault(_split_suffix(form)[0], is_unhashed)
    return [(form, is_unhashed) for form, is_unhashed in forms.items() if form]


def _parts(path: str) -> list[str]:
    """Return the parts of a path in composed Unicode, the suffix of the last in lower case."""
    *folders, base = unicodedata.normalize("NFC", path).replace("\\", "/").rstrip("/").split("/")
    return [*folders, "".join(_split_suffix(base))]


def _split_suffix(base: str) -> tuple[str, str]:
    """Return a file name without the suffix of an image, and that suffix in lower case."""
    stem, dot, suffix = base.rpartition(".")
    is_suffix = bool(stem) and dot + suffix.lower() in IMAGE_SUFFIXES
    return (stem, dot + suffix.lower()) if is_suffix else (base, "")


def _decoded(name: str) -> str:
    """Return the path in an address: `d=` of Label Studio's local files, else what `?` ends."""
    path, _, query = name.partition("?")
    local = re.search(r"(?:^|&)d=([^&]*)", query)
    return unquote(local[1] if local else path)


def _num_shared_folders(name: str, known: str) -> int:
    """Return how many folders above two files have the same names, from the file on."""
    pairs = zip(_parts(_decoded(name))[-2::-1], _parts(known)[-2::-1], strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def is_image_address(value: object) -> bool:
    """Return whether a value is a text that ends like the path or address of an image."""
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        return False
    return bool(_split_suffix(_parts(_decoded(value))[-1])[1])
