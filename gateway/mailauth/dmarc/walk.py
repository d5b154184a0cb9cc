"""The DNS Tree Walk and the Organizational Domain: RFC 9989 4.10, 4.10.2. Pure: it reads answers that others fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from gateway.mailauth.dmarc.record import Record, parse_record, select_record

MAX_LABELS = 8
"""RFC 9989 4.10: never more than eight look-ups for one walk."""
MAX_TEXTS = 50
"""TXT records of a name that are looked at."""
_KEPT = 4_096
"""Characters of all records of a walk that is remembered."""
_SHOWN = 120
"""Characters of a record shown to people."""


class Answer(NamedTuple):
    """What DNS said about a name."""

    texts: tuple[str, ...] = ()
    """TXT records, the strings of each joined."""
    exists: bool = True
    """False for NXDOMAIN (RFC 8020)."""
    failed: bool = False
    """A temporary failure."""


def txt_answer(records: Sequence[Sequence[bytes]], *, exists: bool = True) -> Answer:
    """TXT records as a resolver hands them over."""
    return Answer(tuple([b"".join(strings).decode("ascii", "replace") for strings in records[:MAX_TEXTS]]), exists)


Questions: TypeAlias = frozenset[tuple[str, Literal["TXT", "A"]]]
Answers: TypeAlias = Mapping[tuple[str, str], Answer]


@dataclass(frozen=True, slots=True)
class Step:
    """One name of a walk."""

    name: str
    record: Record | None
    failed: bool
    note: str
    """For people: what was found there."""

    def __str__(self) -> str:
        return f"_dmarc.{self.name}: {self.note}"


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """The names asked for on the way up from a domain, from the longest to the shortest."""

    start: str
    steps: tuple[Step, ...]
    failed: bool
    """A look-up failed: neither the organization nor its policy is known."""
    organizational_domain: str
    """`` where a look-up failed."""
    is_remembered: bool = False
    """The same one is given for the same records, as long as it is in use: they are few octets."""

    @property
    def reach(self) -> str:
        """The shortest name that may be the Organizational Domain: only what is at or below it can be aligned."""
        if not self.failed:
            return self.organizational_domain
        return [step.name for step in self.steps if step.failed or step.record is not None][-1]

    def record_at(self, name: str) -> Record | None:
        """The record published for a domain."""
        return next((step.record for step in self.steps if step.name == name), None)


def _organizational_domain(start: str, steps: Sequence[Step]) -> str:
    """RFC 9989 4.10.2."""
    shortest = start
    for step in steps:
        if step.record is None:
            continue
        if step.record.psd == "n":
            return step.name
        if step.record.psd == "y" and step.name != start:
            return one_below(step.name, start)
        shortest = step.name
    return shortest


def is_within(domain: str, organization: str) -> bool:
    """The domain is the other one or below it."""
    return domain == organization or domain.endswith(f".{organization}")


def one_below(name: str, start: str) -> str:
    """The ancestor of `start`, or itself, one label below `name`."""
    return ".".join(start.split(".")[-(name.count(".") + 2) :])


def walk_names(domain: str) -> list[str]:
    """The domains whose records a walk from `domain` asks for, in order (RFC 9989 4.10, steps 1 to 7)."""
    labels = domain.split(".")
    rest = labels[1:] if len(labels) < MAX_LABELS else labels[-(MAX_LABELS - 1) :]
    return [domain, *(".".join(rest[place:]) for place in range(len(rest)))]


@lru_cache(maxsize=1_000)
def _asked_of(domain: str) -> tuple[tuple[str, Literal["TXT", "A"]], ...]:
    """The look-ups of a walk from a domain, in order: most mail is of few domains."""
    return tuple((f"_dmarc.{name}", "TXT") for name in walk_names(domain))


def questions_of(domains: Sequence[str]) -> Questions:
    """The look-ups that walks from these domains may need."""
    return frozenset([question for domain in domains for question in _asked_of(domain)])


def walk_from(start: str, answers: Answers) -> Walk:
    """Go upwards; a record with psd=y or psd=n ends it (RFC 9989 4.10, steps 2 and 6)."""
    found = tuple([answers[question] for question in _asked_of(start)])
    size = sum([len(text) for answer in found for text in answer.texts])
    return _known_walk(start, found) if size <= _KEPT else _walk(start, found)


@lru_cache(maxsize=1_000)
def _known_walk(start: str, found: tuple[Answer, ...]) -> Walk:
    """The same names with the same records lead to the same organization."""
    return _walk(start, found, is_remembered=True)


def _walk(start: str, found: tuple[Answer, ...], *, is_remembered: bool = False) -> Walk:
    steps: list[Step] = []
    for name, answer in zip(walk_names(start), found, strict=True):
        record = None if answer.failed else select_record(answer.texts)
        steps.append(Step(name, record, answer.failed, _note(answer, record)))
        if record is not None and record.psd in {"y", "n"}:
            break
    failed = any(step.failed for step in steps)
    organization = "" if failed else _organizational_domain(start, steps)
    return Walk(start, tuple(steps), failed, organization, is_remembered)


def _note(answer: Answer, record: Record | None) -> str:
    if answer.failed:
        return "the look-up failed"
    if record is None:
        several = sum(parse_record(text) is not None for text in answer.texts)
        return f"{several} records, so none counts" if several else "no record"
    return record.text if len(record.text) <= _SHOWN else f"{record.text[:_SHOWN]}…"
