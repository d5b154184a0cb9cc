"""OneNote sections ([MS-ONESTORE]): the files embedded in them, by the mark in front of each."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.files.found import Budget, Found, Member, Octets, Sign, Trouble

_MARK = bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac")
"""Of a FileDataStoreObject (2.6.13)."""
_MOST_FILES = 500


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Their names stand elsewhere and are not looked for."""
    at = octets.find(_MARK)
    for number in range(_MOST_FILES + 1):
        if at < 0:
            return
        if number == _MOST_FILES:
            yield Trouble("files-count", f"onenote: more than {_MOST_FILES} files")
            return
        budget.look()
        size = int.from_bytes(octets[at + 16 : at + 24], "little")
        start = at + 36
        content = bytes(octets[start : start + min(size, len(octets))])
        if len(content) < size:
            yield Trouble("files-malformed", "onenote: a file is cut off")
        yield Sign(word="embedded-file")
        yield Member(names=(f"embedded-{number + 1}",), content=budget.take(content))
        at = octets.find(_MARK, start + len(content))
