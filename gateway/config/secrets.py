"""Secrets: read from files, masked wherever the configuration is shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

MASK = "********"
LONGEST = 65536
"""Octets of a secret file at most."""
_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:password|passwd|passphrase|secret|secrets|token|tokens|api[_-]?key|credentials?)(?:$|[_-])", re.IGNORECASE
)
_USER_INFO = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^/@\s:]*:)[^/@\s]+(?=@)", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a key of this name holds a secret: `password`, `redis_password`, `api_key`, …"""
    return _SECRET_NAME.search(name) is not None


def read_secret(path: Path) -> str:
    """Text of a secret file without its last line end. OSError or ValueError when it cannot be read."""
    with path.open("rb") as file:
        octets = file.read(LONGEST + 1)
    if len(octets) > LONGEST:
        raise ValueError(f"more than {LONGEST} octets")
    text = octets.decode("utf-8")
    return text.removesuffix("\n").removesuffix("\r")


def masked(value: Any, *, name: str = "") -> Any:
    """A copy to show: secrets by the name of their key, and passwords in URLs, become asterisks."""
    if isinstance(value, dict):
        return {key: masked(below, name=str(key)) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [masked(below, name=name) for below in value]
    if is_secret(name) and value not in ("", None):
        return MASK
    if isinstance(value, str):
        return _USER_INFO.sub(rf"\g<before>{MASK}", value)
    return value
