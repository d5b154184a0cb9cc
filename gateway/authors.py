"""Addresses of a From field: RFC 5322 3.4 and 3.6.2, read from hostile input. Linear and bounded; never raises.

Everything that some mail client would take for an author's address is returned: more than one is itself a fact.
"""

from __future__ import annotations

import re

_PIECE = re.compile(r"\"(?:[^\"\\]|\\.)*+\"?|[()<>,;:]|\\.|[^\"()<>,;:\\]++|\\", re.DOTALL)
_SPACE = re.compile(r"\s++")
_MAX_ADDRESS = 1_000


def addresses(body: str, *, limit: int = 100) -> list[str]:
    """Each addr-spec of an unfolded body, comments and display names gone, in order, at most `limit`."""
    found: list[str] = []
    bare: list[str] = []
    angle: list[str] | None = None
    had_angle = False
    comment = 0
    for piece in _PIECE.findall(body):
        if piece == "(":
            comment += 1
        elif piece == ")":
            comment = max(comment - 1, 0)
        elif comment:
            continue
        elif piece == "<":
            angle = []
        elif piece == ">":
            _keep(found, angle, limit)
            angle, had_angle = None, had_angle or angle is not None
        elif angle is not None:
            angle.append(piece)
        elif piece in {",", ";"}:
            if not had_angle:
                _keep(found, bare, limit)
            bare, had_angle = [], False
        elif piece == ":":
            bare = []  # the name of a group
        else:
            bare.append(piece)
    _keep(found, angle, limit)
    if not had_angle and angle is None:
        _keep(found, bare, limit)
    return found


def _keep(found: list[str], tokens: list[str] | None, limit: int) -> None:
    """One addr-spec; a source route in front of it goes (RFC 5322 4.4)."""
    if not tokens or len(found) >= limit:
        return
    text = "".join(tokens).strip()
    if text.startswith("@") and ":" in text:
        text = text.rpartition(":")[2]
    text = text if text.startswith('"') else _SPACE.sub("", text)
    text = text.strip()[:_MAX_ADDRESS]
    if "@" in text and text not in found:
        found.append(text)


def domain_of(address: str) -> str:
    """Domain in lower case without a trailing dot; `` when there is none."""
    return _SPACE.sub("", address.rpartition("@")[2]).lower().rstrip(".")
