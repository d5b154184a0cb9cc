"""Registrable domains: the part of a name that somebody registered, by the public suffix list (extra `reputation`)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gateway.site_files import library

EXTRA = "reputation"


def suffix_library() -> Any:
    """OptionError with the extra, where it is missing. For constructors."""
    return library("publicsuffixlist", extra=EXTRA)


@lru_cache(maxsize=1)
def _suffix_list(module: Any) -> Any:
    """Read once in a process: it takes a tenth of a second."""
    return module.PublicSuffixList()


class Suffixes:
    """The list as the library has it. Make it in a thread."""

    def __init__(self, module: Any) -> None:
        self._list = _suffix_list(module)
        self._find = lru_cache(maxsize=10_000)(self._registrable)

    def registrable(self, domain: str) -> str:
        """Of a domain with A-labels in lower case; a public suffix is its own."""
        return self._find(domain)

    def _registrable(self, domain: str) -> str:
        found = self._list.privatesuffix(domain)
        return str(found) if found else domain
