"""Runs tests/cases/rules-*.case: facts, expectations, a message; cases are parted by lines of equals signs.

`client` `helo` `identity` `class` `tls` `from` `to` say what comes in, `auth` `score` `label` `fact` what was found,
`group` (options) and `rule`, inline tables, what is asked; `holds` and `fails` are conditions of their own. `expect` names the
fate: `none`, `quarantine rule-x`, `bob@b.test: reject rule-x`; `edit`, `skip` and `would` what else comes of it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway import AuthResult, Decision, Fact, Label, Score, Transaction
from gateway.plugins.rules import Options, Rules
from gateway.testing import Result, a_message, a_session, a_transaction, run_plugin

CASES = Path(__file__).parent.parent / "cases"
SEVERAL = ("auth", "score", "label", "fact", "rule", "holds", "fails", "expect", "edit", "skip", "would")
SINGLE = ("title", "client", "helo", "name", "identity", "class", "tls", "from", "to", "listener", "group")


@dataclass
class Case:
    place: str
    single: dict[str, str] = field(default_factory=dict)
    several: dict[str, list[str]] = field(default_factory=dict)
    message: str = ""


def read_cases() -> list[Case]:
    cases = []
    for file in sorted(CASES.glob("rules-*.case")):
        number = 1
        for text in file.read_text().split("\n====\n"):
            cases.append(read_case(text, f"{file.name}:{number}"))
            number += text.count("\n") + 2
    return cases


def read_case(text: str, place: str) -> Case:
    head, _, message = text.lstrip("\n").partition("\n---\n")
    case = Case(place, message=message)
    for line in head.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        key, colon, value = line.partition(":")
        assert colon, f"{place}: {line!r}"
        assert key in {*SEVERAL, *SINGLE}, f"{place}: {key!r}"
        if key in SEVERAL:
            case.several.setdefault(key, []).append(value.strip())
        else:
            case.single[key] = value.strip()
    case.message = case.message or "From: ann@client.example\nSubject: x\n\ntext\n"
    return case


def a_transaction_of(case: Case) -> Transaction:
    facts = case.single
    session = a_session(
        client_address=facts.get("client", "192.0.2.1"),
        helo=facts.get("helo", "client.example"),
        client_name=facts.get("name", ""),
        identity=facts.get("identity", ""),
        client_class=facts.get("class"),
        tls=facts.get("tls") == "on",
        listener=facts.get("listener", "default"),
    )
    recipients = [text.strip() for text in facts.get("to", "bob@example.org").split(",")]
    transaction = a_transaction(reverse_path=facts.get("from", "ann@client.example"), recipients=recipients, session=session)
    for line in case.several.get("auth", ()):
        method, _, rest = line.partition("=")
        result, *properties = rest.split()
        pairs = tuple((name, value) for name, _, value in (text.partition("=") for text in properties))
        transaction.findings.add("test", AuthResult(method=method, result=result, properties=pairs))
    for line in case.several.get("score", ()):
        symbol, weight = line.split()
        transaction.findings.add("test", Score(symbol=symbol, weight=float(weight)))
    for line in case.several.get("label", ()):
        transaction.findings.add("test", Label(name=line))
    for line in case.several.get("fact", ()):
        name, _, value = line.partition("=")
        transaction.findings.add("test", Fact(name=name, value=value))
    return transaction


async def run(case: Case, rules: list[dict[str, object]]) -> Result:
    octets = case.message.encode().replace(b"\n", b"\r\n")
    group = tomllib.loads(f"group = {case.single.get('group', '{}')}")["group"]
    plugin = Rules(Options.model_validate({"rule": rules, **group}), name="rules")
    return await run_plugin(plugin, message=a_message(octets), transaction=a_transaction_of(case))


def shown(decision: Decision | None) -> str:
    if decision is None:
        return "none"
    return f"{type(decision.verdict).__name__.lower()} {decision.verdict.reason}"


ALL = read_cases()


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c.place} {c.single['title']}") for c in ALL if "rule" in c.several])
async def test_rules(case: Case) -> None:
    rules = [tomllib.loads(f"rule = {text}")["rule"] for text in case.several["rule"]]
    result = await run(case, rules)
    for line in case.several["expect"]:
        mailbox, colon, wanted = line.partition(": ")
        if colon:
            assert shown(result.decisions[mailbox]) == wanted, case.place
        else:
            assert {shown(decision) for decision in result.decisions.values()} == {line}, case.place
    assert [str(edit) for edit in result.edits] == case.several.get("edit", []), case.place
    steps = [step for step in result.trace if step["stage"] == "judge"]
    assert [step["evidence"].partition(":")[0] for step in steps if step["outcome"] == "skip"] == case.several.get("skip", [])
    assert [step["evidence"].partition(":")[0] for step in steps if step["outcome"] == "would"] == case.several.get("would", [])


CONDITIONS = [
    pytest.param(case, expression, wanted == "holds", id=f"{case.place} {wanted} {expression}")
    for case in ALL
    for wanted in ("holds", "fails")
    for expression in case.several.get(wanted, ())
]


@pytest.mark.parametrize(("case", "expression", "holds"), CONDITIONS)
async def test_conditions(case: Case, expression: str, holds: bool) -> None:
    result = await run(case, [{"name": "x", "when": expression, "then": "quarantine"}])
    assert (result.verdict is not None) is holds, case.place
