"""Read Authentication-Results as strangers, other software and obsolete syntax write it (RFC 8601 2.2): never raises.

What can be read is given, what cannot is told. Whether any of it may be believed is somebody else's question (RFC 8601 7.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.mailauth.results.scanner import MAX_TEXT, Scanner, readable

MAX_HEAD: Final = 500
"""Octets within which the name must end."""
MAX_RESINFO: Final = 200
"""Results of one field, empty and wrong ones among them."""
MAX_PROPERTIES: Final = 100
"""Properties of one result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resinfo:
    """One `method=result` with what belongs to it. Method, result and names of properties are in lower case."""

    method: str
    result: str
    version: int = 1
    """Of the method (`dkim/1`)."""
    reason: str = ""
    comment: str = ""
    """The comments in it, for people."""
    properties: tuple[tuple[str, str], ...] = ()
    """(`smtp.mailfrom`, value) … in their order. What some write without a type (`action=none`) has a name without a dot."""
    problem: str = ""
    """Why the rest of it could not be read; `` when all of it was."""

    def property(self, name: str) -> str | None:
        """The first value of `ptype.property`, or None."""
        return next((value for key, value in self.properties if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What could be read of a field body."""

    authserv_id: str
    """As written, without quotes; `` when there is none."""
    version: int = 1
    """Of the field's syntax (RFC 8601 2.2). Results of another version than 1 are read as if it were 1."""
    results: tuple[Resinfo, ...] = ()
    is_none: bool = False
    """The field says `none`: nothing was checked."""
    problems: tuple[str, ...] = ()
    """What could not be read, in order; empty when everything could."""


def read_results(body: bytes | str) -> Reading:
    """Read a field body: for ARC-Authentication-Results what stands behind its instance."""
    scanner = Scanner(readable(body))
    problems: list[str] = ["the field is too long"] if len(body) > MAX_TEXT else []
    name, version = _head(scanner, problems)
    results: list[Resinfo] = []
    is_none = False
    clauses = 0
    while not scanner.unclosed:
        scanner.cfws()
        if not scanner.next:
            break
        clauses += 1
        if clauses > MAX_RESINFO:
            problems.append(f"more than {MAX_RESINFO} results")
            break
        one = _resinfo(scanner)
        if isinstance(one, Resinfo):
            results.append(one)
            if one.problem:
                problems.append(f"{one.method}: {one.problem}")
        elif one == "none":
            is_none = True
        elif one:
            problems.append(one)
        scanner.to_end_of_clause()
        scanner.take(";")
    if scanner.unclosed:
        problems.append(f"a {scanner.unclosed} has no end")
    return Reading(
        authserv_id=name, version=version, results=tuple(results), is_none=is_none and not results, problems=tuple(problems)
    )


def read_id(body: bytes | str) -> str:
    """The authserv-id alone, `` when there is none within MAX_HEAD."""
    return _head(Scanner(readable(body[:MAX_HEAD])), [])[0]


def _head(scanner: Scanner, problems: list[str]) -> tuple[str, int]:
    """[CFWS] authserv-id [ CFWS authres-version ], up to behind the first semicolon."""
    scanner.cfws()
    start = scanner.at
    name = scanner.authserv_id()
    if scanner.unclosed:
        name = ""
    scanner.cfws()
    if not name or scanner.next in {"=", "/"}:
        # Some leave the name out and begin with a result.
        scanner.at = start
        problems.append("no authserv-id")
        scanner.take(";")
        return "", 1
    found = scanner.number()
    version = 1 if found is None else found
    scanner.cfws()
    if not scanner.ends_clause():
        problems.append("something between authserv-id and results")
        scanner.to_end_of_clause()
    scanner.take(";")
    scanner.comments.clear()
    return name, version


def _resinfo(scanner: Scanner) -> Resinfo | str:
    """One clause, or `none`, or what is wrong with it; `` for an empty one."""
    scanner.comments.clear()
    scanner.cfws()
    if scanner.ends_clause():
        return ""
    method = scanner.keyword()
    scanner.cfws()
    if method == "none" and scanner.ends_clause():
        return "none"
    version = 1
    if scanner.take("/"):
        scanner.cfws()
        found = scanner.number()
        if found is None:
            return f"{_shown(method)}: the version of the method is no number"
        version = found
        scanner.cfws()
    if not method or not scanner.take("="):
        return f"{_shown(method)}: no method=result"
    scanner.cfws()
    result = scanner.keyword()
    if not result:
        return f"{_shown(method)}: no result"
    reason, properties, problem = _rest(scanner)
    return Resinfo(
        method=method,
        result=result,
        version=version,
        reason=reason,
        comment="; ".join(filter(None, map(str.strip, scanner.comments))),
        properties=tuple(properties),
        problem=problem,
    )


def _rest(scanner: Scanner) -> tuple[str, list[tuple[str, str]], str]:
    """[ CFWS reasonspec ] [ CFWS 1*propspec ]: reason, properties, and what stopped the reading."""
    reason = ""
    properties: list[tuple[str, str]] = []
    while True:
        before = scanner.at
        scanner.cfws()
        if scanner.unclosed:
            return reason, properties, f"a {scanner.unclosed} has no end"
        if scanner.ends_clause():
            return reason, properties, ""
        name = scanner.keyword() if scanner.at > before or properties else ""
        scanner.cfws()
        if name and scanner.take("."):
            scanner.cfws()
            second = scanner.keyword()
            name = f"{name}.{second}" if second else ""
            scanner.cfws()
        if not name or not scanner.take("="):
            return reason, properties, "something that is no property"
        if len(properties) >= MAX_PROPERTIES:
            return reason, properties, f"more than {MAX_PROPERTIES} properties"
        value = scanner.value()
        if name == "reason" and not reason:
            reason = value
        else:
            properties.append((name, value))


def _shown(method: str) -> str:
    return method[:64] or "a result"
