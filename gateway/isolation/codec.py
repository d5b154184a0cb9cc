"""Values on the channel: JSON, and of objects only those listed here. What cannot be read is garbage, whatever it says it is.

Never pickle: the other end may run code that nobody trusts.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import time
from collections import OrderedDict
from functools import lru_cache
from typing import Any

from gateway import edits, findings, session, verdict
from gateway.context import DnsAnswer
from gateway.smtp.paths import Parameter, Path
from gateway.smtp.replies import Reply
from gateway.transaction import Outcome

MAX_DEPTH = 20
MAX_TEXT = 2_000
MAX_KEPT = 10_000
MAX_FIELDS = 100
"""Of a finding."""

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        findings.AuthResult,
        findings.Score,
        findings.Label,
        findings.Fact,
        edits.AddHeader,
        edits.InsertHeader,
        edits.ReplaceHeader,
        edits.RemoveHeader,
        edits.TagSubject,
        edits.ReplaceBody,
        edits.ReplacePart,
        verdict.Accept,
        verdict.Reject,
        verdict.Defer,
        verdict.Quarantine,
        verdict.Discard,
        verdict.Redirect,
        verdict.Skip,
        verdict.Would,
        verdict.UseForwardPath,
        verdict.UseReversePath,
        verdict.AddRecipient,
        verdict.Decision,
        session.Tls,
        session.Proxy,
        session.Forwarded,
        Path,
        Parameter,
        Reply,
        Outcome,
        DnsAnswer,
    )
}
_FIELDS = {kind: tuple(field.name for field in dataclasses.fields(kind) if field.init) for kind in _KINDS.values()}
_PLAIN = frozenset({type(None), bool, int, float, str})


class GarbageError(Exception):
    """What came cannot be read."""


class UnknownValueError(Exception):
    """A value that has no form on the channel."""


def pack(value: Any) -> Any:
    """What JSON can hold. UnknownValueError."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:
        return [pack(one) for one in value]
    fields = _FIELDS.get(kind)
    if fields is not None:
        packed = {name: pack(getattr(value, name)) for name in fields}
        packed["$"] = kind.__name__
        return packed
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$": "b", "v": bytes(value).decode("latin-1")}
    if isinstance(value, set | frozenset):
        return {"$": "s", "v": [pack(one) for one in sorted(value, key=str)]}
    if isinstance(value, dict):
        return {"$": "d", "v": [[pack(key), pack(item)] for key, item in value.items()]}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, findings.Finding):
        return _pack_own(value)
    raise UnknownValueError(f"{kind.__name__}, which has no form between processes")


def _pack_own(finding: findings.Finding) -> Any:
    """A finding of a plugin's own class: as the class of ours it derives from, with what it has beside, and where the object itself is."""
    kind: Any = type(finding)
    base = next(one for one in kind.__mro__ if one in _FIELDS or one is findings.Finding)
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    fields = {name: _pack_field(getattr(finding, name)) for name in names}
    place = kept.keep(finding) if kept is not None else getattr(finding, "_place", "")
    return {"$": "finding", "base": base.__name__, "name": kind.__name__, "fields": fields, "place": place}


def _pack_field(value: Any) -> Any:
    try:
        return pack(value)
    except UnknownValueError:
        return str(value)[:MAX_TEXT]


def _unpack_own(value: dict[str, Any], depth: int) -> Any:
    place = str(value["place"])[:100]
    if kept is not None and (own := kept.find(place)) is not None:
        return own
    fields = {str(name): unpack(item, depth + 1) for name, item in value["fields"].items()}
    if len(fields) > MAX_FIELDS:
        raise GarbageError(f"a finding of {len(fields)} fields")
    finding = _stand_in(str(value["base"]), str(value["name"]), tuple(fields))(**fields)
    object.__setattr__(finding, "_place", place)  # it is frozen for everybody else
    return finding


class Kept:
    """In a plugin's process: the findings it gave, so that its later hooks see the very objects."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, findings.Finding] = OrderedDict()
        self._front = f"{os.getpid()}-{time.monotonic_ns()}-"
        self._numbers = itertools.count()

    def keep(self, finding: findings.Finding) -> str:
        """Where it can be found."""
        place = f"{self._front}{next(self._numbers)}"
        self._found[place] = finding
        if len(self._found) > MAX_KEPT:
            self._found.popitem(last=False)
        return place

    def find(self, place: str) -> findings.Finding | None:
        """The object, unless another process gave it."""
        return self._found.get(place)


kept: Kept | None = None
"""Set in a plugin's process."""


@lru_cache(maxsize=200)
def _stand_in(base: str, name: str, fields: tuple[str, ...]) -> Any:
    """A class that looks like the plugin's: its name, its fields, and the class of ours that it derives from."""
    above: Any = findings.Finding if base == "Finding" else _KINDS[base]
    if not (issubclass(above, findings.Finding) and name.isidentifier() and all(one.isidentifier() for one in fields)):
        raise GarbageError(f"no finding: {name[:40]!r}")
    inherited = {one.name for one in dataclasses.fields(above)}
    new = [(one, Any) for one in fields if one not in inherited]
    return dataclasses.make_dataclass(name[:100], new, bases=(above,), frozen=True, kw_only=True)


def unpack(value: Any, depth: int = 0) -> Any:
    """The value; every array is a tuple. GarbageError."""
    if depth > MAX_DEPTH:
        raise GarbageError("nested too deeply")
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list):
        return tuple(unpack(one, depth + 1) for one in value)
    name = value.get("$")
    try:
        if name == "b":
            return value["v"].encode("latin-1")
        if name == "s":
            return frozenset(unpack(value["v"], depth + 1))
        if name == "finding":
            return _unpack_own(value, depth)
        if name == "d":
            return dict(unpack(value["v"], depth + 1))
        kind = _KINDS[name]
        return kind(**{one: unpack(item, depth + 1) for one, item in value.items() if one != "$"})
    except GarbageError:
        raise
    except Exception as error:
        raise GarbageError(f"no {str(name)[:40]}: {type(error).__name__}: {str(error)[:200]}") from error


def dumps(message: dict[str, Any]) -> bytes:
    """One frame's octets."""
    return json.dumps(message, separators=(",", ":"), default=str).encode()


def loads(octets: bytes) -> dict[str, Any]:
    """The frame. GarbageError."""
    try:
        message = json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise GarbageError(f"no JSON: {str(error)[:100]}") from error
    if not isinstance(message, dict):
        raise GarbageError("no object")
    return message
