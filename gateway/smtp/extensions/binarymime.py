"""BINARYMIME (RFC 3030 3): offered where every next hop takes binary content in chunks, as nothing is converted here.

Its parameter is a value of 8BITMIME's BODY.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.smtp.extensions.base import Extension, Terms
from gateway.smtp.paths import Parameter

NEEDED = frozenset({"BINARYMIME", "CHUNKING", "8BITMIME"})
"""What a next hop must offer for BODY=BINARYMIME."""


class _BinaryMime(Extension):
    keyword = "BINARYMIME"

    def offer(self, terms: Terms) -> str | None:
        theirs = terms.next_hops
        return self.keyword if theirs is not None and theirs.keywords.keys() >= NEEDED else None


def is_binary(parameters: Iterable[Parameter]) -> bool:
    """BODY=BINARYMIME is among the parameters of MAIL."""
    return any(parameter.octets.upper() == b"BODY=BINARYMIME" for parameter in parameters)


BINARYMIME = _BinaryMime()
"""Its one value."""
