"""Domains and texts as SPF takes them: RFC 7208 4.3, 6.2, RFC 5891, RFC 8616 4. Nothing is looked up."""

from __future__ import annotations

import re

import idna

MAX_EXPLANATION = 250
"""Characters of an explanation that are shown; it is a stranger's text (RFC 7208 11.5.3)."""
_DOTS = str.maketrans(dict.fromkeys("\u3002\uff0e\uff61", "."))


def a_labels(domain: str) -> str | None:
    """The domain with A-labels, without the last dot; None when it is not a multi-label domain name (RFC 7208 4.3).

    None too for an address literal, for labels that DNS cannot hold, and for white space and control characters.
    """
    if len(domain) > 1_024:
        return None
    labels = domain.translate(_DOTS).removesuffix(".").split(".")
    if len(labels) < 2 or domain.startswith("["):
        return None
    result = []
    for label in labels:
        if not label or len(label) > 63 or not label.isprintable() or " " in label:
            return None
        if label.isascii():
            result.append(label)
            continue
        try:
            result.append(idna.encode(label, uts46=True).decode("ascii"))  # RFC 6531 3.2: IDNA2008, and mapped as people type it
        except (idna.IDNAError, UnicodeError):
            return None
    name = ".".join(result)
    return name if len(name) <= 253 else None


def unquoted(local_part: str) -> str:
    """A local part as it is meant: `"a b"` is `a b`; the quotes are not part of it (RFC 5321 4.1.2)."""
    if len(local_part) < 2 or local_part[0] != '"' or local_part[-1] != '"':
        return local_part
    return re.sub(r"\\(.)", r"\1", local_part[1:-1], flags=re.DOTALL)


def clean(explanation: str) -> str:
    """An explanation fit for a reply: printable ASCII in one line, at most MAX_EXPLANATION characters (RFC 7208 6.2)."""
    text = explanation[: MAX_EXPLANATION * 4]
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if " " <= c <= "~" else " " for c in text)
    text = text.strip()
    return text if len(text) <= MAX_EXPLANATION else text[: MAX_EXPLANATION - 3] + "..."
