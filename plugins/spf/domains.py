"""Domains and texts as SPF takes them: RFC 7208 4.3, 6.2, RFC 5891, RFC 8616 4. Nothing is looked up."""

from __future__ import annotations

import re
from functools import lru_cache

from gateway import a_labels

MAX_EXPLANATION = 250
"""Characters of an explanation that are shown; it is a stranger's text (RFC 7208 11.5.3)."""


@lru_cache(maxsize=1_000)
def multi_label(domain: str) -> str | None:
    """The domain with A-labels, without the last dot; None when it is not a multi-label domain name (RFC 7208 4.3).

    None too for an address literal, for labels that DNS cannot hold, and for white space and control characters.
    """
    if len(domain) > 1_024 or domain.startswith("["):
        return None
    name = domain if domain.isascii() else a_labels(domain)
    if name is None:
        return None
    labels = name.removesuffix(".").split(".")
    if len(labels) < 2 or any(not label.isprintable() or " " in label or not 0 < len(label) <= 63 for label in labels):
        return None
    name = ".".join(labels)
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
