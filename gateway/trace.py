"""The decision record of one transaction: every stage, hook, finding, timing, verdict and reply.

Steps are kept as tuples until somebody asks (`record()`); the JSON form is what journal, `explain` and `check` share.
"""

from __future__ import annotations

import dataclasses
import time
import types
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final, TypedDict

if TYPE_CHECKING:
    from gateway.dns_account import DnsAccount

MAX_STEPS: Final = 2_000
"""Steps kept for one transaction; what comes after is counted only."""
MAX_TEXT: Final = 2_000
"""Characters of one text in a step."""
MAX_ITEMS: Final = 200
MAX_DEPTH: Final = 3
_AS_IT_IS: Final = frozenset({str, type(None), bool, int, float})
_NUMBERS: Final = (bool, int, float)
_ONLY_TEXTS: Final = frozenset({str})
_ONLY_TUPLES: Final = frozenset({tuple})
_SETS: Final = (frozenset, set)
_SEVERAL: Final = (*_SETS, tuple, list)


class StepRecord(TypedDict):
    """One step in JSON form."""

    at_ms: float
    stage: str
    plugin: str
    """One, or those that had no opinion one after the other: `spf, dkim`."""
    outcome: str
    duration_ms: float
    mode: str
    recipient: str
    verdict: dict[str, Any] | None
    findings: list[dict[str, Any]]
    """Findings of a check, edits of a rewrite, paths of `mail` and `rcpt`."""
    evidence: str


class RecipientRecord(TypedDict):
    """One recipient in JSON form."""

    forward_path: str
    sent_path: str
    route: str
    fate: str
    verdict: str
    plugin: str
    reason: str
    evidence: str
    reply: str


class Record(TypedDict):
    """A decision record in JSON form. `verdict`: the strongest fate, for searching."""

    id: str
    session: str
    time: float
    duration_ms: float
    listener: str
    client: str
    helo: str
    identity: str
    tls: str
    reverse_path: str
    parameters: list[str]
    recipients: list[RecipientRecord]
    message_id: str
    subject: str
    size: int
    verdict: str
    plugin: str
    reason: str
    reply: str
    next_hop: str
    next_hop_reply: str
    queue_id: str
    generation: str
    steps: list[StepRecord]
    steps_dropped: int


class Trace:
    """The steps of one transaction, appended as they happen."""

    __slots__ = ("_clock", "_started", "dns_account", "dropped", "steps")

    def __init__(self) -> None:
        self._clock = time.perf_counter
        self._started = time.perf_counter()
        self.steps: list[tuple[float, str, str, str, float, str, str, Any, tuple[object, ...], str]] = []
        self.dropped = 0
        self.dns_account: DnsAccount | None = None
        """What its hooks have spent on DNS; None: nothing yet."""

    def step(  # one row of the record; keyword-only so that no two are mixed up
        self,
        *,
        stage: str,
        plugin: str,
        outcome: str,
        duration: float = 0.0,
        mode: str = "enforce",
        recipient: str = "",
        verdict: object = None,
        findings: tuple[object, ...] = (),
        evidence: str = "",
    ) -> None:
        """Append a step. `outcome` is a word: `none`, `verdict`, `would`, `finding`, `edit`, `error`, `timeout`, …

        `plugin` is `` for the gateway's own steps; durations are seconds.
        """
        if len(self.steps) >= MAX_STEPS:
            self.dropped += 1
            return
        at = self._clock() - self._started
        self.steps.append((at, stage, plugin, outcome, duration, mode, recipient, verdict, findings, evidence[:MAX_TEXT]))

    def quiet(self, stage: str, plugins: str, duration: float, recipient: str = "") -> None:
        """One row for hooks of a stage, one after the other, that had no opinion and took no time worth telling."""
        if len(self.steps) >= MAX_STEPS:
            self.dropped += 1
            return
        at = self._clock() - self._started
        self.steps.append((at, stage, plugins, "none", duration, "enforce", recipient, None, (), ""))

    def elapsed(self) -> float:
        """Seconds since the transaction began."""
        return self._clock() - self._started

    def step_records(self) -> list[StepRecord]:
        """All steps in JSON form."""
        return [
            {
                "at_ms": milliseconds(at),
                "stage": stage,
                "plugin": plugin,
                "outcome": outcome,
                "duration_ms": milliseconds(duration),
                "mode": mode,
                "recipient": recipient,
                "verdict": None if verdict is None else jsonable(verdict),
                "findings": [jsonable(finding) or {} for finding in findings] if findings else [],
                "evidence": evidence,
            }
            for at, stage, plugin, outcome, duration, mode, recipient, verdict, findings, evidence in self.steps
        ]


def jsonable(value: object) -> dict[str, Any] | None:
    """A frozen dataclass (verdict, finding, edit) as a JSON object with its `kind`; None stays None. Never raises."""
    if value is None:
        return None
    kind: Any = type(value)
    names, read = _reader(kind)
    if read is None:
        return {"kind": kind.__name__, "value": _plain(value)}
    try:
        items = read(value)
    except AttributeError:  # made without its __init__
        items = tuple([getattr(value, name, None) for name in names])
    result: dict[str, Any] = {"kind": kind.__name__}
    result.update(zip(names, items, strict=True))  # most are what they are in JSON: only the others are looked at one by one
    texts, others = _places(tuple(map(type, items)))
    if texts is not None and len("".join(texts(items))) > MAX_TEXT:
        result.update((name, item[:MAX_TEXT]) for name, item in zip(names, items, strict=True) if type(item) is str)
    for place in others:
        item = items[place]
        if type(item) is tuple:
            result[names[place]] = (_texts(item, 0) or _plain(item)) if item else []
        else:
            result[names[place]] = _plain(item)
    return result


def milliseconds(seconds: float) -> float:
    """With three decimals, in half the time of `round` with a number of them."""
    return round(seconds * 1e6) / 1e3


@lru_cache(maxsize=1_000)
def _reader(kind: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]] | None]:
    """Names of the fields of a dataclass, and what reads them all; None for another class."""
    if not dataclasses.is_dataclass(kind):
        return (), None
    names = tuple(field.name for field in dataclasses.fields(kind))
    if len(names) > 1:
        return names, attrgetter(*names)
    return names, lambda value: tuple([getattr(value, name) for name in names])


@lru_cache(maxsize=1_000)
def _places(kinds: tuple[type, ...]) -> tuple[Callable[[Any], Any] | None, tuple[int, ...]]:
    """Of values of these classes: what reads the texts, None where there is none, and which are to be made what JSON can hold."""
    texts = [place for place, kind in enumerate(kinds) if kind is str]
    others = tuple(place for place, kind in enumerate(kinds) if kind not in _AS_IT_IS)
    return itemgetter(*texts) if texts else None, others


@lru_cache(maxsize=1_000)
def _is_shown(kind: Any) -> bool:
    """Whether a value of this class has no other form than its text: a dataclass within a finding."""
    return not issubclass(kind, (str, bytes, types.NoneType, *_NUMBERS, *_SEVERAL))


def _texts(item: tuple[Any, ...], depth: int) -> list[Any] | None:
    """Texts, and pairs of them, are what there is most of; None where there is something else, or too much of it."""
    if len(item) > MAX_ITEMS:
        return None
    kinds = set(map(type, item))
    if kinds == _ONLY_TEXTS:
        return list(item) if len("".join(item)) <= MAX_TEXT else None
    if kinds == _ONLY_TUPLES and depth + 1 < MAX_DEPTH:
        flat = list(chain.from_iterable(item))
        if len(flat) <= MAX_ITEMS and set(map(type, flat)) == _ONLY_TEXTS and len("".join(flat)) <= MAX_TEXT:
            return list(map(list, item))
    return None


def _plain(item: object, depth: int = 0) -> Any:
    """What JSON can hold, bounded: plugins put what they like into their findings."""
    if type(item) is tuple and depth < MAX_DEPTH and len(item) <= MAX_ITEMS:
        return _texts(item, depth) or [_plain(one, depth + 1) for one in item]
    kind: Any = type(item)
    if not _is_shown(kind):
        if isinstance(item, str):
            return item[:MAX_TEXT]
        if isinstance(item, _SEVERAL) and depth < MAX_DEPTH:
            items = [_plain(one, depth + 1) for one in (item if len(item) <= MAX_ITEMS else list(item)[:MAX_ITEMS])]
            return sorted(items, key=str) if isinstance(item, _SETS) else items
        if item is None or isinstance(item, _NUMBERS):
            return item
        if isinstance(item, bytes):
            return f"{len(item)} octets"
    try:
        return str(item)[:MAX_TEXT]
    except Exception:  # noqa: BLE001 - a value of a plugin that cannot even be printed
        return f"<{type(item).__name__}>"
