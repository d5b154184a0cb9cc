"""Domain names as DNS takes them: RFC 1035 2.3.4. U-labels become A-labels (RFC 5891); nothing is looked up."""

from __future__ import annotations

import dns.name

from gateway.idn import MAX_LABEL, a_labels


def canonical(name: str) -> str | None:
    """The name in lower case, A-labels, without the last dot; None when no such name can exist.

    `.` and `` are the root, as ``. A backslash or any other octet is an ordinary character of a label: mail gives names
    without escapes.
    """
    text = a_labels(name)
    if text is None:
        return None
    text = text.removesuffix(".")
    if not text:
        return ""
    # RFC 1035 2.3.4: 255 octets with lengths and root
    return text if len(text) <= 253 and all(0 < len(label) <= MAX_LABEL for label in text.split(".")) else None


def wire_name(canonical_name: str) -> dns.name.Name:
    """A canonical name for a query."""
    labels = [label.encode("ascii") for label in canonical_name.split(".")] if canonical_name else []
    return dns.name.Name([*labels, b""])
