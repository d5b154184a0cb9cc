"""Postfix's policy delegation protocol (its SMTPD_POLICY_README): requests and answers as octets, and actions. No I/O.

Both directions are the same: lines `name=value`, ended by an empty one. A server reads requests and writes `action=…`, a client
the other way round. What comes in may be anything: it is bounded, and whatever cannot be read is a PolicyFault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import GatewayError

MAX_OCTETS = 64 * 1024
"""Of one request or answer with its empty line. Postfix's own lines have at most 2 KiB each."""
MAX_ATTRIBUTES = 100
MAX_VALUE = 4096
"""Characters of a value that goes out; what is longer is cut."""
REQUEST = "smtpd_access_policy"
"""Value of `request` in every request."""
STATES = ("CONNECT", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE", "VRFY", "ETRN")
"""`protocol_state`: the command of the client that is asked about."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UNSENDABLE = re.compile("[\x00-\x1f\x7f\x80-\x9f\ud800-\udfff\u2028\u2029]")
_CODE = re.compile(r"[45]\d\d")
_ENHANCED = re.compile(r"([245])(\.\d{1,3}\.\d{1,3})(?:\s+|$)")  # RFC 3463 2


class PolicyFault(GatewayError):  # noqa: N818 - the protocol's word for what the other side did wrong
    """What the other side sent cannot be read: the connection is of no use any more."""


class Reader:
    """Attributes from octets, however they are cut into pieces."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []
        self._size = 0

    @property
    def is_clean(self) -> bool:
        """Nothing has come since the last empty line."""
        return not self._rest and not self._lines

    def feed(self, octets: bytes) -> list[dict[str, str]]:
        """The requests or answers that are complete now. PolicyFault for what is none, and for one that is too large."""
        found: list[dict[str, str]] = []
        lines = (self._rest + octets).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._size += len(line) + 1
            stripped = line.removesuffix(b"\r")
            if stripped:
                self._lines.append(stripped)
            elif self._lines:
                found.append(_attributes(self._lines))
                self._lines, self._size = [], 0
            else:
                raise PolicyFault("an empty line where an attribute should be")
            if self._size > MAX_OCTETS or len(self._lines) > MAX_ATTRIBUTES:
                raise PolicyFault(f"more than {MAX_OCTETS} octets or {MAX_ATTRIBUTES} attributes")
        if self._size + len(self._rest) > MAX_OCTETS:
            raise PolicyFault(f"more than {MAX_OCTETS} octets")
        return found


def _attributes(lines: list[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name_octets, equals, value = line.partition(b"=")
        name = name_octets.decode("ascii", "replace")
        if not equals or not _NAME.fullmatch(name):
            raise PolicyFault(f"{shown(line.decode('utf-8', 'replace'))!r} is no attribute `name=value`")
        if name in found:
            raise PolicyFault(f"the attribute {name} comes twice")
        if b"\0" in value or b"\r" in value:
            raise PolicyFault(f"NUL or CR in the value of {name}")
        found[name] = value.decode("utf-8", "replace")
    return found


def render(attributes: Mapping[str, str]) -> bytes:
    """The octets of a request or an answer. Control characters in values become `?`, so that no value ends its line.

    ValueError for a name that is none: names are ours.
    """
    lines: list[str] = []
    for name, value in attributes.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an attribute")
        lines.append(f"{name}={clean(value)}\n")
    return ("".join(lines) + "\n").encode()


def clean(text: str) -> str:
    """A value as it may be sent: no control characters, bounded."""
    return _UNSENDABLE.sub("?", text[:MAX_VALUE])


def shown(text: str, limit: int = 200) -> str:
    """Text of the other side for logs and traces: printable ASCII, bounded."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a policy server wants done: the right-hand side of an access(5) table."""

    word: str
    """In upper case: `DUNNO`, `REJECT`, `PREPEND`, …; `CODE` for one that begins with a reply code."""
    text: str = ""
    """Behind the word, without an enhanced status code."""
    code: int = 0
    """4xx or 5xx; 0 where the word has none."""
    enhanced: str = ""
    """RFC 3463, of the class of the code; `` when none was given."""

    def __str__(self) -> str:
        first = str(self.code) if self.word == "CODE" else self.word
        return " ".join(part for part in (first, self.enhanced, self.text) if part)


_CODES = {"REJECT": 554, "DEFER": 450, "DEFER_IF_PERMIT": 450, "DEFER_IF_REJECT": 450}
"""Reply codes of words that have one: Postfix's `access_map_reject_code` and `access_map_defer_code`."""


def parse_action(text: str) -> Action:
    """The value of `action`. PolicyFault when it is empty; which words can be done is not known here."""
    word, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    if not word:
        raise PolicyFault("the action is empty")
    if _CODE.fullmatch(word):
        return _reply("CODE", int(word), rest)
    if word.isascii() and word.isdigit():  # access(5): an all-numerical result is OK
        return Action(word="OK", text=rest)
    word = word.upper()
    if word in _CODES:
        return _reply(word, _CODES[word], rest)
    return Action(word=word, text=rest)


def _reply(word: str, code: int, text: str) -> Action:
    found = _ENHANCED.match(text)
    if found is None:
        return Action(word=word, code=code, text=text)
    return Action(word=word, code=code, enhanced=f"{code // 100}{found[2]}", text=text[found.end() :])
