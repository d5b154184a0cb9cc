"""DMARC of one author domain: RFC 9989 4.4, 4.10, 5.3. Pure: it yields the names to look up and is sent the answers.

There is no Public Suffix List and no `pct`: RFC 9989 has the DNS Tree Walk and `t=` instead.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

from gateway.mailauth.dmarc import Answers, Policy, Questions, Record, Walk, is_within, questions_of, walk_from

MAX_WALKS = 10
"""Different domains of SPF and DKIM that are walked from for one author domain; MAIL FROM goes first."""
_REMEMBERED = 10
"""Identifiers with which an evaluation is remembered at most."""
_MILDER: dict[Policy, Policy] = {"reject": "quarantine", "quarantine": "none", "none": "none"}
Result = Literal["pass", "fail", "none", "temperror", "permerror"]


class Identifier(NamedTuple):
    """One result of SPF (MAIL FROM) or DKIM: the domain it authenticates if it passed."""

    method: Literal["spf", "dkim"]
    domain: str
    result: str
    selector: str = ""

    def __str__(self) -> str:
        return f"{self.method}={self.result} of {self.domain or 'no domain'}"


@dataclass(frozen=True, slots=True)
class Alignment:
    """An identifier held against the author domain (RFC 9989 4.4)."""

    identifier: Identifier
    state: Literal["aligned", "not aligned", "unknown"]
    why: str

    def __str__(self) -> str:
        return f"{self.identifier}: {self.state}, {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What came out."""

    result: Result
    domain: str
    """The author domain."""
    policy: Policy = "none"
    """What the domain wants to happen with a failure: p, sp or np, made milder by t=y."""
    published: Policy = "none"
    """The same before t=y."""
    tag: Literal["p", "sp", "np", ""] = ""
    """The tag the policy is from."""
    policy_domain: str = ""
    """Where the record was found."""
    record: Record | None = None
    """The record itself."""
    organizational_domain: str = ""
    alignments: tuple[Alignment, ...] = ()
    reason: str = ""
    """For people: why."""
    details: tuple[str, ...] = ()
    """For people, line by line: what was asked, what was found, what follows."""

    @property
    def aligned(self) -> tuple[Identifier, ...]:
        """What makes it pass."""
        return _aligned(self.alignments)


@dataclass(slots=True)
class _Policy:
    record: Record
    domain: str
    tag: Literal["p", "sp", "np"] = "p"
    value: Policy = "none"
    note: str = ""


def evaluate(domain: str, identifiers: Sequence[Identifier]) -> Generator[Questions, Answers, Evaluation]:
    """Evaluate one author domain, in lower case and as A-labels.

    Yields questions; send the answers to all of them. Identifiers have such domains too.
    """
    answers = dict((yield questions_of([domain])))
    walk = walk_from(domain, answers)
    given = tuple(identifiers)
    is_remembered = walk.is_remembered and len(given) <= _REMEMBERED
    known = _known_evaluation(walk, given) if is_remembered else _without_more(walk, given)
    if known is not None:
        return known
    policy = _discover(walk)
    assert policy is not None
    walked = _to_walk(identifiers, walk, policy.record)
    existence = _existence(policy, domain)
    questions = frozenset(one for one in questions_of(walked) | existence if one not in answers)
    if questions:
        answers.update((yield questions))
    alignments = tuple(_align(one, walk, policy.record, answers, walked) for one in identifiers)
    if existence and answers[(domain, "A")].failed:
        _choose(policy, domain, exists=True)
        undecided = "whether the domain exists could not be looked up"
    else:
        _choose(policy, domain, exists=not existence or answers[(domain, "A")].exists)
        undecided = ""
    return _conclude(walk, alignments, policy, undecided)


def _without_more(walk: Walk, identifiers: tuple[Identifier, ...]) -> Evaluation | None:
    """What follows from the records on the author domain's own walk; None where more has to be asked for."""
    policy = _discover(walk)
    if policy is None or not policy.record.is_usable:
        return _without_policy(walk, policy)
    if _to_walk(identifiers, walk, policy.record) or _existence(policy, walk.start):
        return None
    alignments = tuple([_align(one, walk, policy.record, {}, ()) for one in identifiers])
    _choose(policy, walk.start, exists=True)
    return _conclude(walk, alignments, policy, "")


_known_evaluation = lru_cache(maxsize=300)(_without_more)
"""The same domains with the same records and results, which most mail of a sender is, come to the same."""


def _without_policy(walk: Walk, policy: _Policy | None) -> Evaluation:
    """There is no record that counts."""
    start = Evaluation(
        result="none", domain=walk.start, organizational_domain=walk.organizational_domain, details=tuple(map(str, walk.steps))
    )
    if policy is not None:
        wrong = policy.record.wrong
        reason = f"the record of {policy.domain} has no valid {wrong}= and nobody to report to: DMARC does not apply"
        return replace(start, policy_domain=policy.domain, record=policy.record, reason=reason)
    if walk.failed:
        return replace(start, result="temperror", reason="the policy record could not be looked up")
    return replace(start, reason="no policy record")


def _discover(walk: Walk) -> _Policy | None:
    """RFC 9989 4.10.1: the author domain's record, its Organizational Domain's, its Public Suffix Domain's."""
    own = walk.record_at(walk.start)
    if own is not None:  # whatever failed on the way up
        return _Policy(own, walk.start)
    if walk.failed:
        return None
    at_organization = walk.record_at(walk.organizational_domain)
    if at_organization is not None:
        return _Policy(at_organization, walk.organizational_domain)
    for step in walk.steps:
        if step.record is not None and step.record.psd == "y":
            return _Policy(step.record, step.name)
    return None


def _existence(policy: _Policy, domain: str) -> Questions:
    """Whether the author domain exists is asked only where np= says something else than what holds without it."""
    record = policy.record
    matters = policy.domain != domain and record.np not in {None, record.sp or record.p}
    return frozenset({(domain, "A")}) if matters else frozenset()


def _choose(policy: _Policy, domain: str, *, exists: bool) -> None:
    """RFC 9989 4.7 and 4.10.1: p for the domain itself, sp below it, np where the name does not exist."""
    record = policy.record
    if policy.domain == domain:
        policy.tag, policy.value = "p", record.p
    elif not exists and record.np is not None:
        policy.tag, policy.value, policy.note = "np", record.np, f"{domain} does not exist: np counts"
    elif record.sp is not None:
        policy.tag, policy.value = "sp", record.sp
    else:
        policy.tag, policy.value = "p", record.p


def _mode(one: Identifier, record: Record) -> Literal["r", "s"]:
    return record.aspf if one.method == "spf" else record.adkim


def _to_walk(identifiers: Sequence[Identifier], walk: Walk, record: Record) -> list[str]:
    """Domains whose organization has to be found: it passed or may pass later, and alignment is possible at all."""
    wanted = [
        one.domain
        for one in sorted(identifiers, key=lambda one: one.method != "spf")
        if one.result in {"pass", "temperror"}
        and one.domain not in {"", walk.start}
        and _mode(one, record) == "r"
        and is_within(one.domain, walk.reach)
    ]
    return list(dict.fromkeys(wanted))[:MAX_WALKS]


def _align(one: Identifier, walk: Walk, record: Record, answers: Answers, walked: Sequence[str]) -> Alignment:
    """RFC 9989 4.4.1, 4.4.2, 4.10.2."""
    strict = _mode(one, record) == "s"
    organization = walk.organizational_domain
    if not one.domain:
        return Alignment(one, "not aligned", "there is no domain")
    if one.domain == walk.start:
        return Alignment(one, "aligned", "it is the author domain")
    if strict:
        return Alignment(one, "not aligned", f"{'aspf' if one.method == 'spf' else 'adkim'}=s wants the author domain itself")
    if not is_within(one.domain, walk.reach):
        return Alignment(one, "not aligned", f"it is outside of {walk.reach}")
    if one.domain not in walked:
        why = "it did not pass" if one.result not in {"pass", "temperror"} else f"only {MAX_WALKS} domains are looked at"
        return Alignment(one, "not aligned", why)
    other = walk_from(one.domain, answers)
    if other.failed or (not organization and is_within(walk.start, other.organizational_domain)):
        return Alignment(one, "unknown", "its organization could not be looked up")
    if other.organizational_domain == organization:
        return Alignment(one, "aligned", f"of the same organization {organization}")
    return Alignment(one, "not aligned", f"its organization is {other.organizational_domain}")


def _conclude(walk: Walk, alignments: tuple[Alignment, ...], policy: _Policy, undecided: str) -> Evaluation:
    """RFC 9989 5.3.5, 5.3.6. An identifier that could not be looked up may have been the one that passes."""
    record = policy.record
    downgraded = record.is_test and policy.value != "none"
    result: Result = "fail"
    open_ones = [
        one.identifier
        for one in alignments
        if one.state == "unknown" or (one.state == "aligned" and one.identifier.result == "temperror")
    ]
    aligned = _aligned(alignments)
    if aligned:
        result, reason = "pass", ", ".join(dict.fromkeys([f"{one.method} of {one.domain} is aligned" for one in aligned[:3]]))
    elif open_ones:
        result, reason = "temperror", f"{open_ones[0].method} of {open_ones[0].domain} could not be looked up"
    elif undecided:
        result, reason = "temperror", undecided
    else:
        reason = _why_it_fails(alignments)
        if downgraded:
            reason += f"; t=y makes {policy.tag}={policy.value} one level milder"
    notes = [f"{policy.tag}={policy.value} of {policy.domain} counts, organizational domain {walk.organizational_domain or '?'}"]
    notes += [policy.note] if policy.note else []
    notes += [f"a wrong {record.wrong}= makes it a record of p=none"] if record.wrong else []
    notes += [f"t=y makes {policy.value} one level milder"] if downgraded else []
    return Evaluation(
        result=result,
        domain=walk.start,
        policy_domain=policy.domain,
        record=record,
        organizational_domain=walk.organizational_domain,
        alignments=alignments,
        policy=_MILDER[policy.value] if record.is_test else policy.value,  # RFC 9989 4.7, t=
        published=policy.value,
        tag=policy.tag,
        reason=reason,
        details=(*map(str, walk.steps), *notes, *map(str, alignments[: MAX_WALKS * 2])),
    )


def _aligned(alignments: Sequence[Alignment]) -> tuple[Identifier, ...]:
    return tuple([one.identifier for one in alignments if one.state == "aligned" and one.identifier.result == "pass"])


def _why_it_fails(alignments: Sequence[Alignment]) -> str:
    seen = [str(one.identifier) for one in alignments if one.identifier.result != "none"][:5]
    passed = any(one.identifier.result == "pass" for one in alignments)
    return ("not aligned: " if passed else "") + (", ".join(seen) or "neither SPF nor DKIM")
