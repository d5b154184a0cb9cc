"""Write Authentication-Results (RFC 8601 2.2): whatever the values are, one field that says what it is to say, folded.

`render_results` makes the payload; in ARC-Authentication-Results `i=1; ` stands in front of it (RFC 8617 4.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from gateway.findings import AuthResult
from gateway.mailauth.results.ids import a_label

MAX_RESULTS: Final = 50
"""Results written into one field."""
MAX_NAME: Final = 255
"""Characters of an authserv-id that is written without quotes."""
MAX_VALUE: Final = 200
"""Characters of one value or reason."""
_LINE: Final = 77  # shorter than the 78 of RFC 5322 2.1.1
_KEYWORD: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
_PROPERTY: Final = re.compile(r"[A-Za-z0-9-]{1,32}\.[A-Za-z0-9-]{1,64}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")  # RFC 2045 5.1
_ATOM: Final = r"[!#$%&'*+/0-9=?A-Z^_`a-z{|}~-]+"
_NO_SPACE: Final = re.compile(r"[^\s\"();,<>\\]+")
_ADDRESS: Final = re.compile(rf"(?:{_ATOM}(?:\.{_ATOM})*)?@[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")  # RFC 8601 2.2, pvalue
_PLAIN: Final = re.compile(rf"{_TOKEN.pattern}|{_ADDRESS.pattern}")
"""What needs no quotes, where it is no longer than MAX_VALUE."""
_WORDS: Final = re.compile(r"[!#-\[\]-~]++(?: [!#-\[\]-~]++)*+")
"""What needs nothing but quotes, likewise."""


def render_results(authserv_id: str, results: Sequence[AuthResult], *, utf8: bool = False) -> str:
    """The field body, folded; `none` without results. With `utf8` (an SMTPUTF8 message, RFC 8616 3) other scripts stay."""
    name = authserv_id if utf8 else _in_ascii(authserv_id)
    if len(name) > MAX_NAME or not _TOKEN.fullmatch(name):
        name = _quoted(name, utf8=utf8)
    clauses: list[str] = []
    for one in results:
        begin = _beginning(one.method, one.result)
        if begin and len(clauses) < MAX_RESULTS:
            clauses.append(_clause(begin, one, utf8=utf8))
    if not clauses:
        return f"{name}; none"
    return f"{name};\r\n\t" + ";\r\n\t".join(clauses)


@lru_cache(maxsize=256)  # there are few, and each is in every field
def _beginning(method: str, result: str) -> str:
    """`method=result`; `` when one of them is no keyword: then nothing is written."""
    return f"{method}={result}" if _KEYWORD.fullmatch(method) and _KEYWORD.fullmatch(result) else ""


@lru_cache(maxsize=256)
def _is_property(name: str) -> bool:
    return _PROPERTY.fullmatch(name) is not None


def _clause(begin: str, result: AuthResult, *, utf8: bool) -> str:
    """The resinfo of RFC 8601 2.2 with spaces between its pieces, folded before a line is too long."""
    text = begin
    pieces = [f"reason={_quoted(result.reason, utf8=utf8)}"] if result.reason else []
    for name, value in result.properties:
        if value and _is_property(name):
            is_plain = len(value) <= MAX_VALUE and _PLAIN.fullmatch(value) is not None
            pieces.append(f"{name}={value if is_plain else _value(value, utf8=utf8)}")
    width = 1 + len(text)  # the tab in front
    for piece in pieces:
        length = 1 + len(piece)
        if width + length < _LINE:  # the `;` behind
            text += f" {piece}"
            width += length
        elif " " not in piece:
            text += f"\r\n\t{piece}"
            width = length
        else:
            text, width = _folded(text, width, piece)
    return text


def _folded(text: str, width: int, piece: str) -> tuple[str, int]:
    """The text with a piece of several words behind it that is too long for its last line, and how wide that is then.

    Within quotes the space itself begins the next line: there it is text (RFC 5322 2.2.3, 3.2.4). A line ends before the last space
    that leaves room for the `;` behind, or behind a word that no line has room for.
    """
    end = piece.rfind(" ", 0, max(0, _LINE - 1 - width))
    if end > 0:
        text += f" {piece[:end]}"
    fold, at = ("\r\n ", end + 1) if end > 0 else ("\r\n\t", 0)
    while len(piece) - at > _LINE - 2:
        end = piece.rfind(" ", at, at + _LINE - 1)
        if end < 0:
            end = piece.find(" ", at)
        if end < 0:
            break
        text += fold + piece[at:end]
        fold, at = "\r\n ", end + 1
    return f"{text}{fold}{piece[at:]}", 1 + len(piece) - at


def _value(value: str, *, utf8: bool) -> str:
    """One that is not plain as it stands."""
    shown = value if utf8 or value.isascii() else _in_ascii(value)
    return shown if len(shown) <= MAX_VALUE and _PLAIN.fullmatch(shown) else _quoted(shown, utf8=utf8)


def _in_ascii(value: str) -> str:
    """A domain, or the domain of an address, with A-labels where that is possible (RFC 8616 3)."""
    if value.isascii() or len(value) > MAX_VALUE or not _NO_SPACE.fullmatch(value):
        return value
    local_part, at, domain = value.rpartition("@")
    return f"{local_part}{at}{'.'.join(one if one.isascii() else a_label(one) for one in domain.split('.'))}"


def _quoted(text: str, *, utf8: bool) -> str:
    """A quoted-string in which nothing ends the line, the field or the string: printable characters only."""
    if len(text) <= MAX_VALUE and _WORDS.fullmatch(text):
        return f'"{text}"'
    shown = text[:MAX_VALUE]
    if not shown.isprintable() or not (utf8 or shown.isascii()):
        shown = "".join(c if " " <= c <= "~" or (utf8 and c.isprintable()) else "?" for c in shown)
    words = " ".join(shown.split())
    if "\\" in words or '"' in words:
        words = words.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{words}"'
