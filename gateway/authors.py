"""Addresses of header fields: RFC 5322 3.4 and 3.6.2, read from hostile input. Linear and bounded; never raises.

Everything that some mail client would take for an address is returned: more than one author is itself a fact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.words import decode_words

_PIECE = re.compile(r"\"(?:[^\"\\]|\\.)*+\"?|[()<>,;:]|\\.|[^\"()<>,;:\\]++|\\", re.DOTALL)
_USUAL = re.compile(r"(?:[^\"()<>,;:\\]++|\"[^\"\\]*+\")*+<([^\s\"()<>,;:\\@]{1,400}+@[^\s\"()<>,;:\\@]{1,400}+)>\s*+")
"""One address with or without a name, and nothing that could be read in two ways."""
_SPACE = re.compile(r"\s++")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_MAX_ADDRESS = 1_000
_MAX_NAME = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderAddress:
    """One address of a header field, with the name that stands before it (RFC 5322 3.4).

    Examples:
        >>> [author] = a_message(from_="=?utf-8?q?J=C3=B6rg?= <joerg@Client.example>").authors
        >>> (author.name, author.address, author.domain)
        ('Jörg', 'joerg@Client.example', 'client.example')
    """

    name: str
    """The display name, decoded; of the old form `a@b.example (Name)` the comment; or ``."""
    address: str
    """As written."""

    @property
    def domain(self) -> str:
        """In lower case, without a trailing dot."""
        return domain_of(self.address)


def addresses(body: str, *, limit: int = 100) -> list[str]:
    """Each addr-spec of an unfolded body, comments and display names gone, in order, at most `limit`."""
    usual = _USUAL.fullmatch(body)
    if usual is not None and limit > 0:
        return [usual[1]]
    return [address for address, _ in _read(body, limit)]


def named_addresses(body: str, *, limit: int = 100) -> list[HeaderAddress]:
    """The same with their display names."""
    return [HeaderAddress(name=_name(tokens), address=address) for address, tokens in _read(body, limit)]


def _pieces(body: str) -> Iterator[tuple[str, bool]]:
    """The tokens, and whether each stands in a comment; parentheses are none."""
    depth = 0
    for piece in _PIECE.findall(body):
        if piece == "(":
            depth += 1
        elif piece == ")":
            depth = max(depth - 1, 0)
        else:
            yield piece, depth > 0


def _read(body: str, limit: int) -> list[tuple[str, list[str]]]:
    """Each addr-spec with the tokens of its name."""
    found: dict[str, list[str]] = {}
    bare: list[str] = []
    comments: list[str] = []
    angle: list[str] | None = None
    had_angle = False
    for piece, is_comment in _pieces(body):
        if is_comment:
            comments.append(piece)
        elif piece == "<":
            angle = []
        elif piece == ">":
            _keep(found, angle, _phrase(bare, comments), limit)
            if angle is not None:
                bare, comments, had_angle = [], [], True
            angle = None
        elif angle is not None:
            angle.append(piece)
        elif piece in {",", ";"}:
            if not had_angle:
                _keep(found, bare, comments, limit)
            bare, comments, had_angle = [], [], False
        elif piece == ":":
            bare, comments = [], []  # the name of a group
        else:
            bare.append(piece)
    _keep(found, angle, _phrase(bare, comments), limit)
    if not had_angle and angle is None:
        _keep(found, bare, comments, limit)
    return list(found.items())


def _keep(found: dict[str, list[str]], tokens: list[str] | None, name: list[str], limit: int) -> None:
    """One addr-spec; a source route in front of it goes (RFC 5322 4.4)."""
    if not tokens or len(found) >= limit:
        return
    text = "".join(tokens).strip()
    if text.startswith("@") and ":" in text:
        text = text.rpartition(":")[2]
    text = text if text.startswith('"') else _SPACE.sub("", text)
    text = text.strip()[:_MAX_ADDRESS]
    if "@" in text:
        found.setdefault(text, name)


def _phrase(bare: list[str], comments: list[str]) -> list[str]:
    return bare if any(not one.isspace() for one in bare) else comments


def _name(tokens: list[str]) -> str:
    """A phrase on one line, quotes gone, encoded words decoded, also those in quotes, as mail clients do."""
    plain = (_QUOTED_PAIR.sub(r"\1", one[1:].removesuffix('"')) if one.startswith('"') else one for one in tokens)
    return " ".join(decode_words("".join(plain)).split())[:_MAX_NAME]


def domain_of(address: str) -> str:
    """Domain in lower case without a trailing dot; `` when there is none."""
    return _SPACE.sub("", address.rpartition("@")[2]).lower().rstrip(".")
