"""Domain names as DNS takes them: RFC 1035 2.3.4. U-labels become A-labels (RFC 5891); nothing is looked up."""

from __future__ import annotations

import dns.name

MAX_TEXT = 1_024
"""Characters of a name that are looked at; what is longer cannot be a domain name."""
_DOTS = str.maketrans(dict.fromkeys("\u3002\uff0e\uff61", "."))  # RFC 3490 3.1: the other full stops


def canonical(name: str) -> str | None:
    """The name in lower case, A-labels, without the last dot; None when no such name can exist.

    `.` and `` are the root, as ``. A backslash or any other octet is an ordinary character of a label: mail gives names
    without escapes.
    """
    if len(name) > MAX_TEXT:
        return None
    if not name.isascii():
        name = name.translate(_DOTS)
    name = name.removesuffix(".")
    if not name:
        return ""
    labels = [_label(label) for label in name.split(".")]
    if any(label is None for label in labels):
        return None
    text = ".".join(label for label in labels if label is not None)
    return text if len(text) <= 253 else None  # RFC 1035 2.3.4: 255 octets with lengths and root


def _label(label: str) -> str | None:
    if not label.isascii():
        if len(label) > 63:
            return None
        try:
            label = label.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    if not 0 < len(label) <= 63 or "." in label:
        return None
    return label.lower()


def wire_name(canonical_name: str) -> dns.name.Name:
    """A canonical name for a query."""
    labels = [label.encode("ascii") for label in canonical_name.split(".")] if canonical_name else []
    return dns.name.Name([*labels, b""])
