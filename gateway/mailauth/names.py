"""Domain names and selectors as tags have them: RFC 6376 3.5, RFC 8616 4 for U-labels. Checked, in lower case, as A-labels."""

from __future__ import annotations

import re

import idna

_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_MAX_OCTETS = 255


class DomainNameError(ValueError):
    """Not a domain name."""


def domain_name(value: bytes) -> str:
    """The name in lower case and with A-labels. Raises DomainNameError."""
    if len(value) <= _MAX_OCTETS:
        try:
            text = value.decode("utf-8")
            name = text if text.isascii() else ".".join(map(_a_label, text.split(".")))
        except UnicodeError:  # IDNAError is one
            name = ""
        if _NAME.fullmatch(name) is not None:
            return name.lower()
    raise DomainNameError("not a domain name")


def _a_label(label: str) -> str:
    """IDNA 2008 (RFC 5891 5): nothing is mapped to another letter, save that case does not count."""
    return label if label.isascii() else idna.alabel(label.lower()).decode("ascii")
