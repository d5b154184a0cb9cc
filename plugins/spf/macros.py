"""Macro strings: RFC 7208 7. Read once, expanded as often as asked; nothing is looked up here.

pyspf's own reading takes what the grammar refuses (`%{d0}`, `%{dx}`) and joins and shortens otherwise than RFC 7208 7.3 says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

MAX_NAME = 253
"""Characters of a domain name (RFC 7208 7.3)."""
ONLY_IN_EXPLANATIONS = frozenset("crt")  # RFC 7208 7.2
_LITERAL = "[!-$&-~]"  # RFC 7208 7.1: macro-literal
_MACRO = r"%(?:\{[slodiphcrtv][0-9]*r?[.+,/_=-]*\}|[%_-])"  # RFC 7208 7.1: macro-expand
_STRING = re.compile(rf"(?:{_LITERAL}|{_MACRO})*", re.IGNORECASE)
_EXPLANATION = re.compile(rf"(?: |{_LITERAL}|{_MACRO})*", re.IGNORECASE)  # RFC 7208 7.1: explain-string
_PIECE = re.compile(r"%(?:([%_-])|\{([a-z])([0-9]*)(r?)([^}]*)\})", re.IGNORECASE)
_PLAIN = {"%": "%", "_": " ", "-": "%20"}


class MacroError(ValueError):
    """The text is not in the grammar."""


def check_string(text: str) -> None:
    """A macro-string. MacroError."""
    _check(text, _STRING)


def check_domain_spec(text: str) -> None:
    """A domain-spec: a macro-string that ends in a macro or in a dot and a top label (RFC 7208 7.1). MacroError."""
    _check(text, _STRING)
    if any(letter.lower() in ONLY_IN_EXPLANATIONS for _, letter, *_ in _PIECE.findall(text) if letter):
        raise MacroError("the macros c, r and t are for explanations only")
    end = 0
    for piece in _PIECE.finditer(text):
        end = piece.end()
    if end == len(text) and end > 0:
        return
    _, dot, label = text[end:].removesuffix(".").rpartition(".")
    if not dot or not _is_top_label(label):
        raise MacroError("not a domain name with several labels")


def check_explanation(text: str) -> None:
    """An explain-string (RFC 7208 6.2, 7.1). MacroError."""
    _check(text, _EXPLANATION)


def expand(text: str, value: Callable[[str], str]) -> str:
    """The text with its macros expanded; `value` gives that of a letter in lower case. For texts that were checked."""
    seen: dict[str, str] = {}

    def of(piece: re.Match[str]) -> str:
        known = seen.get(piece[0])
        if known is None:
            known = seen[piece[0]] = _expanded(piece, value)
        return known

    return _PIECE.sub(of, text)


def as_name(text: str) -> str:
    """An expanded domain-spec as a name to ask for: without its last dot, labels cut from the left until it fits (RFC 7208 7.3)."""
    name = text.removesuffix(".")
    if len(name) <= MAX_NAME:
        return name
    _, dot, rest = name[-(MAX_NAME + 1) :].partition(".")
    return rest if dot else name[-MAX_NAME:]


def _check(text: str, grammar: re.Pattern[str]) -> None:
    if grammar.fullmatch(text) is None:
        raise MacroError("a macro or a character that RFC 7208 7.1 does not know")
    if any(digits and not digits.strip("0") for _, _, digits, *_ in _PIECE.findall(text)):
        raise MacroError("a macro that keeps no part")  # RFC 7208 7.3: it MUST be nonzero


def _is_top_label(label: str) -> bool:
    """RFC 7208 7.1: letters and digits, not digits only; or with hyphens inside."""
    if not label.isascii():
        return False
    if label.isalnum():
        return not label.isdigit()
    return "-" in label and label[0].isalnum() and label[-1].isalnum() and label.replace("-", "").isalnum()


def _expanded(piece: re.Match[str], value: Callable[[str], str]) -> str:
    plain, letter, digits, reverse, delimiters = piece.groups()
    if plain:
        return _PLAIN[plain]
    text = value(letter.lower())
    if digits or reverse or delimiters:
        parts = re.split(f"[{re.escape(delimiters or '.')}]", text)
        if reverse:
            parts.reverse()
        if digits and len(digits.lstrip("0")) < 4:  # nothing has a thousand parts: more means all of them
            parts = parts[-int(digits) :]
        text = ".".join(parts)  # RFC 7208 7.3: whatever they were split at
    # RFC 7208 7.3: an upper-case letter asks for URL escaping of all but RFC 3986's unreserved characters
    return quote(text, safe="") if letter.isupper() else text
