"""One Authentication-Results field on top (RFC 8601); those of strangers that claim our name are removed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from gateway import AuthResult, Edit, Message, Plugin, PluginOptions, Transaction, add_header, hook, remove_header

NAME = "Authentication-Results"
MAX_RESULTS = 50
"""Results written into one field."""
MAX_VALUE = 200
"""Characters of one value or reason."""
_LINE = 77  # shorter than the 78 of RFC 5322 2.1.1
_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
_PROPERTY = re.compile(r"[A-Za-z0-9-]{1,32}\.[A-Za-z0-9-]{1,64}")
_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")  # RFC 2045 5.1
_ATOM = r"[!#$%&'*+/0-9=?A-Z^_`a-z{|}~-]+"
_ADDRESS = re.compile(rf"(?:{_ATOM}(?:\.{_ATOM})*)?@[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")  # RFC 8601 2.2, pvalue
_TEXT_TOKEN = re.compile(r"[^\s()<>@,;:\\\"/\[\]?=\x00-\x20\x7f]+")
_COMMENT_PIECE = re.compile(r"[^()\\]++|\\.|[()\\]", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")


class Options(PluginOptions):
    """`[plugin.authres]`."""

    add: bool = True
    """Add the field; `false` only removes forged ones."""
    other_ids: tuple[str, ...] = ()
    """Further names that only we may write: former ones, those of other gateways of the site behind this one."""


class AuthRes(Plugin[Options]):
    """The plugin."""

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> Sequence[Edit]:
        """Cut the forged fields, put ours on top of everything else."""
        ours = frozenset(_key(name) for name in (self.context.authserv_id, *self.options.other_ids))
        fields = message.fields_named(NAME)
        forged = [place for place, field in enumerate(fields) if claims(field.raw.decode("utf-8", "replace"), ours)]
        edits: list[Edit] = []
        if forged and len(forged) == len(fields):
            edits.append(remove_header(NAME))
        else:
            edits += [remove_header(NAME, place) for place in forged]
        if forged:
            self.context.metrics.count("forged_fields_removed", len(forged))
        if self.options.add:
            edits.append(add_header(NAME, render(self.context.authserv_id, transaction.findings.of(AuthResult))))
        return edits


def claims(body: str, ours: frozenset[str]) -> bool:
    """Whether a field body bears one of our names, or has none that could be read (RFC 8601 5, 7.1).

    Comments, folds, quotes and case do not hide a name.
    """
    at = _skip(body, 0)
    quoted = _QUOTED.match(body, at)
    if quoted is not None:
        name, at = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL), quoted.end()
    else:
        token = _TEXT_TOKEN.match(body, at)
        if token is None:
            return True
        name, at = token[0], token.end()
    if _key(name) in ours:
        return True
    # A name is followed by a version, `;` or nothing; anything else means that this was not the name.
    following = body[_skip(body, at) :][:1]
    if following in {"", ";"} or following.isdigit():
        return False
    head = body.partition(";")[0].lower()
    return following == "=" or any(one in head for one in ours)


def _key(name: str) -> str:
    return re.sub(r"\s+", "", name).lower().rstrip(".")


def _skip(body: str, at: int) -> int:
    """Behind folding white space and comments, which nest (RFC 5322 3.2.2)."""
    while True:
        at = _end_of_space(body, at)
        if body[at : at + 1] != "(":
            return at
        depth = 0
        for piece in _COMMENT_PIECE.finditer(body, at):
            at = piece.end()
            depth += {"(": 1, ")": -1}.get(piece[0], 0)
            if depth == 0:
                break
        else:
            return len(body)


def _end_of_space(body: str, at: int) -> int:
    found = _SPACE.match(body, at)
    return at if found is None else found.end()


def render(authserv_id: str, results: Sequence[AuthResult]) -> str:
    """The field body, folded; `none` without results (RFC 8601 2.2)."""
    name = authserv_id if _TOKEN.fullmatch(authserv_id) else _quoted(authserv_id)
    clauses = [list(_clause(result)) for result in results[:MAX_RESULTS] if _is_writable(result)]
    if not clauses:
        return f"{name}; none"
    return f"{name};\r\n\t" + ";\r\n\t".join(_folded(clause) for clause in clauses)


def _is_writable(result: AuthResult) -> bool:
    return _KEYWORD.fullmatch(result.method) is not None and _KEYWORD.fullmatch(result.result) is not None


def _clause(result: AuthResult) -> Iterator[str]:
    """The resinfo of RFC 8601 2.2 in pieces that may stand on lines of their own."""
    yield f"{result.method}={result.result}"
    if result.reason:
        yield from f"reason={_quoted(result.reason)}".split(" ")
    for name, value in result.properties:
        if _PROPERTY.fullmatch(name) and value:
            yield from f"{name}={_value(value)}".split(" ")


def _folded(pieces: Iterable[str]) -> str:
    """The pieces with spaces between them, folded before a line is too long."""
    lines: list[str] = []
    line = ""
    for piece in pieces:
        if line and 1 + len(line) + 1 + len(piece) > _LINE - 1:  # the tab in front, the `;` behind
            lines.append(line)
            line = piece
        else:
            line = f"{line} {piece}" if line else piece
    lines.append(line)
    return "\r\n\t".join(lines)


def _value(value: str) -> str:
    if len(value) <= MAX_VALUE and (_TOKEN.fullmatch(value) or _ADDRESS.fullmatch(value)):
        return value
    return _quoted(value)


def _quoted(text: str) -> str:
    """A quoted-string: printable ASCII only, so that nothing in it ends the line or the field."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in text[:MAX_VALUE])
    words = " ".join(shown.split())
    return '"' + words.replace("\\", "\\\\").replace('"', '\\"') + '"'
