"""DMARC of one author domain: RFC 9989 4.4, 4.10, 5.3. Pure: it yields the names to look up and is sent the answers.

There is no Public Suffix List and no `pct`: RFC 9989 has the DNS Tree Walk and `t=` instead.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.plugins.dmarc.record import Policy, Record, select_record

MAX_LABELS = 8
"""RFC 9989 4.10: never more than eight look-ups for one walk."""
_MILDER: dict[Policy, Policy] = {"reject": "quarantine", "quarantine": "none", "none": "none"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What DNS said about a name."""

    texts: tuple[str, ...] = ()
    """TXT records, the strings of each joined."""
    exists: bool = True
    """False for NXDOMAIN (RFC 8020)."""
    failed: bool = False
    """A temporary failure."""


Questions: TypeAlias = frozenset[tuple[str, Literal["TXT", "A"]]]
Answers: TypeAlias = Mapping[tuple[str, str], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """One result of SPF (MAIL FROM) or DKIM: the domain it authenticates if it passed."""

    method: Literal["spf", "dkim"]
    domain: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came out."""

    result: Literal["pass", "fail", "none", "temperror", "permerror"]
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
    aligned: tuple[Identifier, ...] = ()
    reason: str = ""
    """For people: why."""


@dataclass(frozen=True, slots=True)
class _Walk:
    """The records found on the way up from a domain, from the longest name to the shortest."""

    start: str
    records: tuple[tuple[str, Record], ...] = ()
    failed: bool = False

    @property
    def organizational_domain(self) -> str:
        """RFC 9989 4.10.2."""
        for name, record in self.records:
            if record.psd == "n":
                return name
            if record.psd == "y" and name != self.start:
                below = self.start.split(".")
                return ".".join(below[-(name.count(".") + 2) :])
        return self.records[-1][0] if self.records else self.start

    def record_at(self, name: str) -> Record | None:
        """The record published for a domain."""
        return dict(self.records).get(name)


@dataclass(slots=True)
class _Policy:
    record: Record
    domain: str
    tag: Literal["p", "sp", "np"] = "p"
    value: Policy = field(default="none")


def walk_names(domain: str) -> list[str]:
    """The domains whose records a walk from `domain` asks for, in order (RFC 9989 4.10, steps 1 to 7)."""
    labels = domain.split(".")
    rest = labels[1:] if len(labels) < MAX_LABELS else labels[-(MAX_LABELS - 1) :]
    return [domain, *(".".join(rest[place:]) for place in range(len(rest)))]


def evaluate(domain: str, identifiers: Sequence[Identifier]) -> Generator[Questions, Answers, Evaluation]:
    """Evaluate one author domain, in lower case and as A-labels.

    Yields questions; send the answers to all of them. Identifiers have such domains too.
    """
    answers = dict((yield _questions([domain])))
    walk = _walk(domain, answers)
    organizational = walk.organizational_domain
    if walk.failed:
        return Evaluation(result="temperror", domain=domain, reason="the policy record could not be looked up")
    policy = _discover(walk, organizational)
    if policy is None:
        return Evaluation(result="none", domain=domain, organizational_domain=organizational, reason="no policy record")
    if not policy.record.is_usable:
        reason = f"the policy record of {policy.domain} is wrong"
        return Evaluation(
            result="permerror",
            domain=domain,
            policy_domain=policy.domain,
            organizational_domain=organizational,
            record=policy.record,
            reason=reason,
        )
    if policy.domain != domain:
        exists = True
        if policy.record.np not in {None, policy.record.sp or policy.record.p}:
            answers.update((yield frozenset({(domain, "A")})))
            existence = answers[(domain, "A")]
            if existence.failed:
                return Evaluation(result="temperror", domain=domain, reason="whether the domain exists could not be looked up")
            exists = existence.exists
        _choose(policy, exists=exists)
    relevant = [one for one in identifiers if _may_align(one, domain, organizational, policy.record)]
    walked = [one.domain for one in relevant if _mode(one, policy.record) == "r" and one.domain != domain]
    if walked:
        answers.update((yield _questions(walked)))
    aligned, undecided = [], []
    for one in relevant:
        other = _walk(one.domain, answers) if one.domain in walked else None
        if other is not None and not other.failed and other.organizational_domain != organizational:
            continue
        if (other is not None and other.failed) or one.result == "temperror":
            undecided.append(one)
        elif one.result == "pass":
            aligned.append(one)
    return _conclude(domain, organizational, policy, aligned=aligned, undecided=undecided, identifiers=identifiers)


def _questions(domains: Sequence[str]) -> Questions:
    return frozenset((f"_dmarc.{name}", "TXT") for domain in domains for name in walk_names(domain))


def _walk(start: str, answers: Answers) -> _Walk:
    found: list[tuple[str, Record]] = []
    for name in walk_names(start):
        answer = answers[(f"_dmarc.{name}", "TXT")]
        if answer.failed:
            return _Walk(start, tuple(found), failed=True)
        record = select_record(answer.texts)
        if record is not None:
            found.append((name, record))
            if record.psd in {"y", "n"}:  # RFC 9989 4.10, steps 2 and 6
                break
    return _Walk(start, tuple(found))


def _discover(walk: _Walk, organizational: str) -> _Policy | None:
    """RFC 9989 4.10.1: the author domain's record, its Organizational Domain's, its Public Suffix Domain's."""
    own = walk.record_at(walk.start)
    if own is not None:
        return _Policy(own, walk.start, "p", own.p)
    at_organization = walk.record_at(organizational)
    if at_organization is not None:
        return _Policy(at_organization, organizational)
    for name, record in walk.records:
        if record.psd == "y":
            return _Policy(record, name)
    return None


def _choose(policy: _Policy, *, exists: bool) -> None:
    """RFC 9989 4.7: np for a subdomain that does not exist, sp for one that does, else p."""
    record = policy.record
    if not exists and record.np is not None:
        policy.tag, policy.value = "np", record.np
    elif record.sp is not None:
        policy.tag, policy.value = "sp", record.sp
    else:
        policy.tag, policy.value = "p", record.p


def _mode(one: Identifier, record: Record) -> Literal["r", "s"]:
    return record.aspf if one.method == "spf" else record.adkim


def _may_align(one: Identifier, domain: str, organizational: str, record: Record) -> bool:
    """Whether it is worth a walk: it passed or may pass later, and lies where alignment is possible at all."""
    if one.result not in {"pass", "temperror"} or not one.domain:
        return False
    if one.domain == domain:  # RFC 9989 4.4.1, 4.4.2: strict, and relaxed all the more
        return True
    return _mode(one, record) == "r" and (one.domain == organizational or one.domain.endswith(f".{organizational}"))


def _conclude(
    domain: str,
    organizational: str,
    policy: _Policy,
    *,
    aligned: Sequence[Identifier],
    undecided: Sequence[Identifier],
    identifiers: Sequence[Identifier],
) -> Evaluation:
    """RFC 9989 5.3.5, 5.3.6."""
    result: Literal["pass", "fail", "temperror"]
    if aligned:
        result = "pass"
        reason = ", ".join(f"{one.method} of {one.domain} is aligned" for one in aligned[:3])
    elif undecided:
        result = "temperror"
        reason = f"{undecided[0].method} of {undecided[0].domain} could not be looked up"
    else:
        result = "fail"
        seen = [f"{one.method}={one.result} of {one.domain or 'no domain'}" for one in identifiers[:5] if one.result != "none"]
        passed = any(one.result == "pass" for one in identifiers)
        reason = ("not aligned: " if passed else "") + (", ".join(seen) or "neither SPF nor DKIM")
    test = policy.record.is_test and policy.value != "none"
    return Evaluation(
        result=result,
        domain=domain,
        policy=_MILDER[policy.value] if policy.record.is_test else policy.value,  # RFC 9989 4.7, t=
        published=policy.value,
        tag=policy.tag,
        policy_domain=policy.domain,
        record=policy.record,
        organizational_domain=organizational,
        aligned=tuple(aligned),
        reason=reason + (f"; t=y makes {policy.tag}={policy.value} one level milder" if test and result == "fail" else ""),
    )
