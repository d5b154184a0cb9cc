"""Domain names with letters of all scripts as A-labels: RFC 5891 (IDNA 2008) with the mapping of UTS 46. The one place for all."""

from __future__ import annotations

from typing import Final

import idna

MAX_TEXT: Final = 1_024
"""Characters of a name that are looked at; what is longer cannot be a domain name."""
MAX_LABEL: Final = 63
"""RFC 1035 2.3.4. A longer U-label has no A-label, and idna takes long to find that out."""
_DOTS: Final = str.maketrans(dict.fromkeys("\u3002\uff0e\uff61", "."))
"""RFC 3490 3.1: the other full stops."""


def a_labels(domain: str, *, strict: bool = False) -> str | None:
    """The domain in lower case, with A-labels for U-labels; None where a label has none. Its shape is the caller's to check.

    As people type it: other full stops are dots, full-width letters are letters (UTS 46); a label that IDNA 2008 has no room for,
    a snowman, has the A-label that IDNA 2003 gives it, for such domains are in use. `strict` is for names in signatures
    (RFC 8616 4): nothing is mapped save case, and IDNA 2008 only.

    Examples:
        >>> a_labels("Bücher.example")
        'xn--bcher-kva.example'
    """
    if len(domain) > MAX_TEXT:
        return None
    if domain.isascii():
        return domain.lower()
    try:
        mapped = domain.lower() if strict else _mapped(domain)
        return ".".join(_a_label(label, strict=strict) for label in mapped.split("."))
    except UnicodeError:  # IDNAError is one
        return None


def _mapped(domain: str) -> str:
    try:
        return idna.uts46_remap(domain, std3_rules=False)
    except UnicodeError:  # a character that is no letter of any name for UTS 46; IDNA 2003 looks at each label
        return domain.translate(_DOTS).lower()


def _a_label(label: str, *, strict: bool) -> str:
    if label.isascii():
        return label.lower()
    if len(label) > MAX_LABEL:
        raise UnicodeError("label too long")
    try:
        return idna.alabel(label).decode("ascii")
    except UnicodeError:
        if strict:
            raise
    older = label.encode("idna").decode("ascii").lower()
    if "." in older:  # a character that only looks like letters and a full stop
        raise UnicodeError("a full stop within a label")
    return older
