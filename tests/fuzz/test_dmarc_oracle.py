"""A second evaluator over generated cases: authheaders, which does RFC 7489. Each difference is a rule of RFC 9989, or a failure.

A third one, twenty naive lines of the tree walk, is held against ours in every case.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import authheaders
import pytest
from authheaders import dmarc_lookup
from authres import DKIMAuthenticationResult, SPFAuthenticationResult
from publicsuffix2 import PublicSuffixList

from gateway.mailauth.dmarc import Answer
from gateway.plugins.dmarc.evaluate import Evaluation, Identifier, evaluate
from tests.fuzzing import TIMES

CASES = 3_000 * TIMES
SEED = 9989
POLICIES = ("none", "quarantine", "reject")
MILDER = {"reject": "quarantine", "quarantine": "none", "none": "none"}
NAMES = [
    *["com", "example.com", "mail.example.com", "a.mail.example.com", "b.example.com", "other.com"],
    *["co.uk", "example.co.uk", "mail.example.co.uk", "other.co.uk", "blogspot.com", "alice.blogspot.com", "bob.blogspot.com"],
    *["a.b.c.d.e.f.example.com", "x.a.b.c.d.e.f.example.com", "b.c.d.e.f.example.com", "x.y.a.b.c.d.e.f.example.com"],
]


@dataclass
class Case:
    """One message: who says to be its author, what DNS has, what SPF and DKIM found."""

    author: str
    records: dict[str, list[str]]
    missing: frozenset[str]
    spf: tuple[str, str]
    dkim: tuple[str, str]


class Theirs(Protocol):
    """RFC 7489's result and policy, and its way to an organization."""

    organization: Callable[[str], str]

    def __call__(self, case: Case) -> tuple[str, str]: ...


# --- cases


def a_case(pick: random.Random) -> Case:
    author = pick.choice(NAMES)
    near = [name for name in NAMES if name.endswith(author.split(".", 1)[-1]) or author.endswith(name)]
    places = dict.fromkeys([author, *pick.sample(near, min(len(near), 2)), pick.choice(NAMES)])  # a set's order is never the same
    records = {name: [a_record(pick) for _ in range(pick.choice((1, 1, 1, 1, 1, 2)))] for name in places if pick.random() < 0.6}
    results = ("pass", "pass", "pass", "fail", "none", "temperror")
    return Case(
        author,
        records,
        frozenset(name for name in NAMES if pick.random() < 0.25),
        (pick.choice(results), pick.choice([author, *near, *NAMES])),
        (pick.choice(results), pick.choice([author, *near, *NAMES])),
    )


def a_record(pick: random.Random) -> str:
    version = pick.choice(
        ["v=DMARC1"] * 30 + ["v = DMARC1", "V=DMARC1", "v=dmarc1", "v=DMARC10", "v=DMARC1 x", " v=DMARC1", "v=spf1"]
    )
    tags = []
    if pick.random() < 0.95:
        tags.append(f"p={pick.choice([*POLICIES * 5, 'Reject', 'rejekt', ''])}")
    for name in ("sp", "np"):
        if pick.random() < 0.35:
            tags.append(f"{name}={pick.choice([*POLICIES * 5, 'QUARANTINE', 'some'])}")
    for name in ("adkim", "aspf"):
        if pick.random() < 0.4:
            tags.append(f"{name}={pick.choice(['r', 's', 's', 'S', 'q'])}")
    for name, values, share in (
        ("psd", ["y", "n", "u", "x"], 0.2),
        ("t", ["y", "n", "maybe"], 0.2),
        ("pct", ["0", "50", "many"], 0.2),
        ("rua", ["mailto:d@example.com", "mailto:d@example.com!10m", "nobody"], 0.4),
        ("p", [*POLICIES], 0.05),
    ):
        if pick.random() < share:
            tags.append(f"{name}={pick.choice(values)}")
    tags += pick.sample(["fo=1", "ri=1", "x=y", "nonsense", "=x", "x = y"], pick.choice((0, 0, 0, 1)))
    if pick.random() < 0.3:
        pick.shuffle(tags)
    return version + "".join(f"{pick.choice([';', '; ', ' ; '])}{tag}" for tag in tags) + pick.choice(["", ";"])


# --- ours, theirs, and the naive one


def ours(case: Case) -> Evaluation:
    identifiers = [
        Identifier(method="spf", domain=case.spf[1], result=case.spf[0]),
        Identifier(method="dkim", domain=case.dkim[1], result=case.dkim[0]),
    ]
    work = evaluate(case.author, identifiers)
    questions = next(work)
    while True:
        try:
            answers: dict[tuple[str, str], Answer] = {}
            for name, kind in questions:
                exists = name not in case.missing if kind == "A" else True
                texts = tuple(case.records.get(name.removeprefix("_dmarc."), ())) if kind == "TXT" else ()
                answers[(name, kind)] = Answer(texts, exists=exists)
            questions = work.send(answers)
        except StopIteration as done:
            found: Evaluation = done.value
            return found


@pytest.fixture(scope="module")
def theirs() -> Iterator[Theirs]:
    """Result and policy of RFC 7489. Its list of suffixes is read once, not for every name."""
    patch = pytest.MonkeyPatch()
    with (Path(authheaders.__file__).parent / "public_suffix_list.txt").open(encoding="utf-8") as file:
        suffixes = PublicSuffixList(file)
    organization = lru_cache(None)(suffixes.get_public_suffix)
    patch.setattr(dmarc_lookup, "get_org_domain", organization)
    patch.setattr(authheaders, "get_org_domain", organization)

    def check(case: Case) -> tuple[str, str]:
        def ask(name: str, kind: str = "TXT") -> list[str] | None:
            if name.startswith("_dmarc."):
                return [f'"{text}"' for text in case.records.get(name.removeprefix("_dmarc."), ())]
            return ["there"] if name not in case.missing else None

        patch.setattr(dmarc_lookup, "dns_query", ask)  # it takes its own function's answers as they are
        spf = SPFAuthenticationResult(result=case.spf[0], smtp_mailfrom=f"x@{case.spf[1]}")
        dkim = DKIMAuthenticationResult(result=case.dkim[0], header_d=case.dkim[1])
        message = f"From: a@{case.author}\r\n\r\nx\r\n".encode()
        found = authheaders.check_dmarc(message, spf_result=spf, dkim_result=dkim, dnsfunc=ask)
        return str(found.result), str(getattr(found, "policy", "") or "")

    found: Any = check
    found.organization = organization
    yield found
    patch.undo()


def is_record(text: str) -> bool:
    name, equals, rest = text.partition("=")
    value = rest.partition(";")[0]
    return bool(equals) and name.rstrip(" \t").lower() == "v" and value.strip(" \t") == "DMARC1"


def tags_of(text: str) -> dict[str, str]:
    """The first of each name, as written."""
    found: dict[str, str] = {}
    for part in text.split(";")[1:]:
        name, equals, value = part.partition("=")
        if equals and name.strip().isalpha():
            found.setdefault(name.strip().lower(), value.strip())
    return found


def record_at(case: Case, name: str) -> dict[str, str] | None:
    records = [text for text in case.records.get(name, ()) if is_record(text)]
    return tags_of(records[0]) if len(records) == 1 else None


def naive_walk(case: Case, start: str) -> tuple[str, str]:
    """Organizational Domain and where the policy is, word by word of 4.10, 4.10.1 and 4.10.2."""
    found: list[tuple[str, str]] = []
    target = start
    while target:
        tags = record_at(case, target)
        if tags is not None:
            psd = tags.get("psd", "u").lower()
            found.append((target, psd if psd in "yn" else "u"))
            if psd in {"y", "n"}:
                break
        labels = target.split(".")
        target = ".".join(labels[1:] if len(labels) < 8 else labels[-7:])
    organization = found[-1][0] if found else start
    for name, psd in found:
        if psd == "n":
            organization = name
            break
        if psd == "y" and name != start:
            organization = ".".join(start.split(".")[-len(name.split(".")) - 1 :])
            break
    at = [name for name, _ in found]
    if start in at:
        return organization, start
    if organization in at:
        return organization, organization
    return organization, next((name for name, psd in found if psd == "y"), "")


# --- the rules of RFC 9989 that explain a difference


def one_version(text: str) -> str:
    """A record in the one spelling that both know; nothing where it is none."""
    if not is_record(text):
        return ""
    return "v=DMARC1" + "".join(f";{part}" for part in text.split(";")[1:])


def only_tags(text: str) -> str:
    return ";".join(part for part in text.split(";") if "=" in part and part.partition("=")[0].strip())


def first_of_each(text: str) -> str:
    names = [part.partition("=")[0].strip().lower() for part in text.split(";")]
    return ";".join(part for place, part in enumerate(text.split(";")) if names.index(names[place]) == place)


def right_modes(text: str) -> str:
    parts = [part.partition("=") for part in text.split(";")]
    kept = [one for one in parts if one[0].strip() not in {"adkim", "aspf"} or one[2].strip().lower() in {"r", "s"}]
    return ";".join(name + equals + value for name, equals, value in kept)


STEPS = {
    "4.8 the version is a tag of its own: v = DMARC1 is one, DMARC10 is none": one_version,
    "4.8 a part that is no tag is ignored": only_tags,
    "4.8 of a tag that stands twice the first counts": first_of_each,
    "4.8 a wrong adkim or aspf is relaxed": right_modes,
}
"""What changes nothing by RFC 9989, and makes a record one that RFC 7489 reads alike."""


def rule_of(case: Case, theirs: Theirs) -> str:
    """The first rule that explains the difference; `` when none does."""
    first = comparable(ours(case))
    for rule, step in STEPS.items():
        records = {name: [text for text in map(step, texts) if text] for name, texts in case.records.items()}
        case = replace(case, records=records)
        assert comparable(ours(case)) == first, f"it does change something: {rule} {case}"
        if first == theirs(case):
            return rule
    return _rule_of_meaning(case, ours(case), theirs(case), theirs.organization)


def _rule_of_meaning(case: Case, mine: Evaluation, other: tuple[str, str], organization_of: Callable[[str], str]) -> str:
    """Each looks at the case, and at which way the difference goes."""
    result, policy = other
    place = case.author if len(case.records.get(case.author, ())) == 1 else organization_of(case.author)
    seen = case.records.get(place, [])
    _, where = naive_walk(case, case.author)
    if where != (place if len(seen) == 1 else ""):
        return "4.10.1 the record is found by the Tree Walk: another place, or one at all"
    if not where:
        return ""
    tags = tags_of(seen[0])
    values = [tags.get(name, "none").lower() for name in ("p", "sp", "np")]
    if "p" not in tags or any(value not in POLICIES for value in values):
        if mine.result == "none":
            return "4.10.1 no valid policy and nobody to report to: no DMARC"
        if mine.policy == "none":
            return "4.10.1 no valid policy, but somebody to report to: p=none"
    if mine.result == "temperror" and result == "fail":
        return "5.3.6 what could not be looked up is no failure"
    if mine.result != result:
        return _rule_of_alignment(case, mine, tags, organization_of)
    if tags.get("t", "").lower() == "y" and mine.policy == MILDER[mine.published] and mine.published == policy:
        return "4.7 t=y makes the policy one level milder"
    if where == case.author and mine.published == tags["p"].lower() != policy:
        return "4.7 sp and np do not count for the domain itself"
    return ""


def _rule_of_alignment(case: Case, mine: Evaluation, tags: dict[str, str], organization_of: Callable[[str], str]) -> str:
    author = naive_walk(case, case.author)[0]
    for name, (result, domain) in (("aspf", case.spf), ("adkim", case.dkim)):
        if result != "pass":
            continue
        same_by_walk = naive_walk(case, domain)[0] == author
        same_by_list = organization_of(domain) == organization_of(case.author)
        mode = tags.get(name, "r").lower()
        if mode != "s" and same_by_walk is not same_by_list and (mine.result == "pass") is same_by_walk:
            return "4.10.2 the organization is found by the Tree Walk, not by a list of suffixes"
    return ""


RULES = {
    *STEPS,
    "4.10.1 the record is found by the Tree Walk: another place, or one at all",
    "4.10.1 no valid policy and nobody to report to: no DMARC",
    "4.10.1 no valid policy, but somebody to report to: p=none",
    "5.3.6 what could not be looked up is no failure",
    "4.10.2 the organization is found by the Tree Walk, not by a list of suffixes",
    "4.7 t=y makes the policy one level milder",
    "4.7 sp and np do not count for the domain itself",
}


def comparable(mine: Evaluation) -> tuple[str, str]:
    return (mine.result, mine.policy) if mine.tag else (mine.result, "")


def test_every_difference_is_a_rule_of_rfc_9989(theirs: Theirs) -> None:
    pick = random.Random(SEED)
    differences: Counter[str] = Counter()
    unexplained: list[Any] = []
    equal: Counter[str] = Counter()
    for _ in range(CASES):
        case = a_case(pick)
        mine, other = ours(case), theirs(case)
        assert (mine.organizational_domain, mine.policy_domain) == naive_walk(case, case.author), case
        if comparable(mine) == other:
            equal[mine.result] += 1
        elif rule := rule_of(case, theirs):
            differences[rule] += 1
        else:
            unexplained.append((case, comparable(mine), other, mine.details))
    print(f"{CASES} cases, {sum(equal.values())} alike {dict(equal)}, {differences.total()} explained:")  # noqa: T201
    for rule, count in differences.most_common():
        print(f"{count:7} {rule}")  # noqa: T201
    assert not unexplained, f"{len(unexplained)} differences without a rule, the first: {unexplained[0]}"
    assert set(differences) == RULES, "a rule that explains nothing is taken out"
    assert min(equal[result] for result in ("pass", "fail", "none")) > CASES // 100


def test_the_two_agree_where_nothing_new_is_used(theirs: Theirs) -> None:
    """Records of RFC 7489 at the organization, nothing above it: the same, whatever the identifiers."""
    pick = random.Random(SEED)
    seen: Counter[tuple[str, str]] = Counter()
    for _ in range(CASES // 4):
        policy, modes = pick.choice(POLICIES), [pick.choice("rs"), pick.choice("rs")]
        below = pick.choice(["", f"; sp={pick.choice(POLICIES)}"])
        author = pick.choice(["example.com", "mail.example.com", "a.mail.example.com"])
        record = f"v=DMARC1; p={policy}; adkim={modes[0]}; aspf={modes[1]}" + (below if author != "example.com" else "")
        others = [author, "example.com", "mail.example.com", "b.example.com", "other.com", "notexample.com"]
        results = ("pass", "fail", "none")
        case = Case(
            author,
            {"example.com": [record]},
            frozenset(),
            (pick.choice(results), pick.choice(others)),
            (pick.choice(results), pick.choice(others)),
        )
        mine = ours(case)
        assert comparable(mine) == theirs(case), (case, mine)
        seen[(mine.result, mine.policy)] += 1
    assert len(seen) == 6
