"""Domain names and selectors as tags have them: RFC 6376 3.5, RFC 8616 4 for U-labels. Checked, in lower case, as A-labels."""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.idn import a_labels

_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_MAX_OCTETS = 255


class DomainNameError(ValueError):
    """Not a domain name."""


def domain_name(value: bytes) -> str:
    """The name in lower case and with A-labels. Raises DomainNameError."""
    if len(value) <= _MAX_OCTETS:
        return _name(value)
    raise DomainNameError("not a domain name")


@lru_cache(maxsize=1_000)
def _name(value: bytes) -> str:
    """The same few domains sign most mail."""
    try:
        name = a_labels(value.decode("utf-8"), strict=True) or ""
    except UnicodeError:
        name = ""
    if _NAME.fullmatch(name) is None:
        raise DomainNameError("not a domain name")
    return name
