"""Every hook with each answer it may give, applied, monitored, raised instead, and given too late: one test for each cell.

The table is made from the annotations in `hookspecs`: a new hook or a new permitted answer gets its cells by itself, and
has to be given a sample and an expected effect here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway import (
    AddHeader,
    AuthResult,
    Label,
    Plugin,
    ReplacePart,
    Score,
    accept,
    add_header,
    add_recipient,
    defer,
    discard,
    hook,
    insert_header,
    quarantine,
    redirect,
    reject,
    remove_header,
    replace_body,
    replace_header,
    skip,
    tag_subject,
    use_forward_path,
    use_reverse_path,
    would,
)
from gateway.answers import ARGUMENTS, PERMITTED, SEVERAL
from gateway.chain import Chain, MailAnswer, RcptAnswer, StageDeferredError
from gateway.findings import Finding
from gateway.testing import a_message, a_transaction
from gateway.testing.run import build_chain
from gateway.threads import Threads
from gateway.transaction import Outcome, Transaction
from gateway.verdict import Decision

SAMPLES: dict[str, list[Any]] = {
    "Accept": [accept("known-partner")],
    "Reject": [reject("no"), reject("no", keep=True)],
    "Defer": [defer("later")],
    "Quarantine": [quarantine("suspicious")],
    "Discard": [discard("noise")],
    "Redirect": [redirect("other")],
    "Skip": [skip("somebody")],
    "Would": [would(reject("no"))],
    "UseReversePath": [use_reverse_path("x@example.org"), use_reverse_path("")],
    "UseForwardPath": [use_forward_path("x@example.org")],
    "AddRecipient": [add_recipient("x@example.org")],
    "Finding": [AuthResult(method="spf", result="pass"), Score(symbol="s", weight=1.0)],
    "Label": [Label(name="bulk")],
    "Score": [Score(symbol="s", weight=1.0)],
    "AddHeader": [add_header("X-A", "b")],
    "ReplaceHeader": [replace_header("Subject", "b")],
    "RemoveHeader": [remove_header("Subject")],
    "TagSubject": [tag_subject("[X]")],
    "InsertHeader": [insert_header("X-A", "b", below=1)],
    "ReplaceBody": [replace_body(b"gone\r\n")],
    "ReplacePart": [ReplacePart(start=30, end=40, octets=b"\r\ngone")],
    "str": ["other"],
    "Hashable": ["gold", 7, ("a", 1)],
}
NO_ANSWER = ["startup", "done", "disconnect", "shutdown"]
WAYS = ["enforce", "monitor", "raise", "raise-ignored", "late", "late-ignored"]


def test_there_is_a_sample_of_each_permitted_answer() -> None:
    permitted = {kind.__name__ for kinds in PERMITTED.values() for kind in kinds}
    assert permitted == set(SAMPLES)
    assert sorted(name for name, kinds in PERMITTED.items() if not kinds) == sorted(NO_ANSWER)


def answers_of(name: str) -> list[Any]:
    single = [sample for kind in PERMITTED[name] for sample in SAMPLES[kind.__name__]]
    several = [[one] for one in single] + [[], (), *([single[:2]] if name != "judge" else [])] if name in SEVERAL else []
    return [None, *single, *several]


def cells() -> Iterator[Any]:
    for name in ARGUMENTS:
        for answer in answers_of(name):
            for way in WAYS:
                yield pytest.param(name, answer, way, id=f"{name}-{answer!r:.60}-{way}")


def plugin_with(name: str, behave: Callable[[], Awaitable[Any]]) -> Plugin[Any]:
    """A plugin whose hook of this name, with all its arguments, does this."""
    arguments = "".join(f", {argument}" for argument in ARGUMENTS[name])
    space: dict[str, Any] = {}
    exec(f"async def {name}(self{arguments}):\n    return await behave()", {"behave": behave}, space)
    kind: type[Plugin[Any]] = type("Sample", (Plugin,), {name: hook(space[name])})
    return kind(name="sample")


@dataclass
class Seen:
    """What the chain made of an answer."""

    effect: Any
    steps: list[tuple[str, str]]


async def ask(chain: Chain, name: str, transaction: Transaction) -> Any:
    """Bring the chain to the stage; what comes back, or what was written into the transaction."""
    message, recipient, session = a_message(), transaction.recipients[0], transaction.session
    match name:
        case "connect" | "helo" | "authenticated":
            return await getattr(chain, name)(session)
        case "disconnect":
            return await chain.disconnect(session)
        case "mail" | "data":
            return await getattr(chain, name)(transaction)
        case "rcpt" | "route" | "policy_class":
            return await getattr(chain, name)(transaction, recipient)
        case "check":
            await chain.decide(transaction, message)
            return tuple(transaction.findings), recipient.decision
        case "judge":
            await chain.decide(transaction, message)
            return recipient.decision, tuple(transaction.findings)
        case "rewrite" | "sign":
            return await getattr(chain, name)(transaction, message)
        case "done":
            return await chain.done(transaction, Outcome())
        case _:
            run = await chain.run_alone(chain.steps[name][0], (object(),) if ARGUMENTS[name] else ())
            return run.fault or None


def nothing(name: str) -> Any:
    """The effect of no opinion."""
    match name:
        case "mail":
            return MailAnswer()
        case "rcpt":
            return RcptAnswer()
        case "policy_class" | "rewrite" | "sign":
            return ()
        case "check":
            return (), None
        case "judge":
            return None, ()
        case _:
            return None


def applied(name: str, answer: Any) -> Any:  # noqa: PLR0912 - a table
    """The effect of an answer that is applied."""
    if answer is None or answer in ([], ()):
        return nothing(name)
    values = tuple(answer) if isinstance(answer, list) else (answer,)
    first = values[0]
    kind = type(first).__name__

    def decision(verdict: Any) -> Decision:
        return Decision(verdict=verdict, plugin="sample", hook=name)

    match name, kind:
        case "mail", "UseReversePath":
            return MailAnswer(reverse_path=first)
        case "mail", _:
            return MailAnswer(decision=decision(first))
        case "rcpt", "Would":
            return RcptAnswer()
        case "rcpt", "UseForwardPath":
            return RcptAnswer(forward_path=first)
        case "rcpt", "AddRecipient":
            return RcptAnswer(added=(first,))
        case "rcpt", _:
            return RcptAnswer(decision=decision(first))
        case "check", _:
            return values, None
        case "judge", "Score" | "Label":
            return None, values
        case "judge", "Skip" | "Would":
            return None, ()
        case "judge", _:
            return decision(first), ()
        case (("rewrite" | "sign"), _):
            return tuple(value for value in values if isinstance(value, AddHeader) or name == "rewrite")
        case "policy_class", _:
            return (first,)
        case "route", _:
            return first
        case _:
            return decision(first)


def is_fault(name: str, effect: Any, reason: str) -> bool:
    """True when the effect is the 451 that a fault with `on_error = "defer"` comes to."""
    match name:
        case "mail" | "rcpt":
            decision = effect.decision
        case "check":
            decision = effect[1]
        case "judge":
            decision = effect[0]
        case _:
            decision = effect
    assert isinstance(decision, Decision)
    verdict = decision.verdict
    return (verdict.code, verdict.enhanced, verdict.reason) == (451, "4.3.0", reason)  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "answer", "way"), list(cells()))
async def test_cell(name: str, answer: Any, way: str) -> None:
    async def behave() -> Any:
        if way.startswith("raise"):
            raise LookupError(answer)
        if way.startswith("late"):
            await asyncio.sleep(0.03)
        return answer

    threads = Threads(1)
    ignored = way.endswith("ignored")
    chain = build_chain(
        [plugin_with(name, behave)],
        threads,
        mode="monitor" if way == "monitor" else "enforce",
        on_error="ignore" if ignored else "defer",
        timeout=0.002 if way.startswith("late") else 5.0,
        routes=frozenset(["default", "other"]),
    )
    assert chain.stages == {name}
    transaction = a_transaction()
    try:
        effect = await ask(chain, name, transaction)
    except StageDeferredError as error:
        assert name in {"route", "policy_class", "rewrite", "sign"}
        effect = error.decision
    steps = steps_of(transaction)
    fault = {"raise": "error", "late": "timeout"}.get(way.partition("-")[0])
    if name in {"startup", "shutdown"}:
        assert effect == fault
        return
    if fault is not None:
        assert [(step["stage"], step["outcome"]) for step in steps] == [(name, fault)]
        assert "LookupError" in steps[0]["evidence"] if fault == "error" else "no answer" in steps[0]["evidence"]
        if ignored or name in {"done", "disconnect"}:
            assert effect == nothing(name)
        else:
            assert is_fault(name, effect, f"plugin-{fault}")
    elif way == "monitor" and name != "check":
        assert effect == nothing(name)
        is_opinion = answer is not None and answer not in ([], ())
        first = answer[0] if isinstance(answer, list) and answer else answer
        is_fact = name == "sign" and isinstance(first, Finding)
        assert {step["outcome"] for step in steps} == {("finding" if is_fact else "would") if is_opinion else "none"}
        assert {step["mode"] for step in steps} == {"monitor"}
    else:  # findings of a check are facts, in monitor mode too
        assert effect == applied(name, answer)
        assert all(step["stage"] == name and step["plugin"] == "sample" for step in steps)


def steps_of(transaction: Transaction) -> list[Any]:
    own: Any = transaction.session.state.get("trace")
    assert transaction.trace is not None
    return [*(own.step_records() if own is not None else []), *transaction.trace.step_records()]


WRONG: list[Any] = ["a string", 7, ..., True, b"octets", {"a": 1}, [reject("no"), "x"], AddHeader, 3.5]


def wrong_cells() -> Iterator[Any]:
    for name in ARGUMENTS:
        for answer in WRONG:
            if name == "policy_class" and isinstance(answer, str | int):
                continue
            if name == "route" and isinstance(answer, str):
                continue
            yield pytest.param(name, answer, id=f"{name}-{answer!r:.40}")
    for name in sorted(SEVERAL - {"judge", "rcpt"}):
        yield pytest.param(name, [reject("no")], id=f"{name}-a verdict")
    for name in ("rewrite", "judge", "data", "connect"):
        yield pytest.param(name, AuthResult(method="spf", result="pass"), id=f"{name}-a finding")
    yield pytest.param("sign", remove_header("Subject"), id="sign-an edit that is no field on top")
    yield pytest.param("mail", quarantine("x"), id="mail-quarantine")
    yield pytest.param("mail", redirect("other"), id="mail-redirect")
    yield pytest.param("data", discard("x"), id="data-discard")
    yield pytest.param("rcpt", quarantine("x"), id="rcpt-quarantine")
    yield pytest.param("rcpt", reject("no").only("bob@example.org"), id="rcpt-a verdict for somebody")
    yield pytest.param("rcpt", redirect("nowhere"), id="rcpt-unknown route")
    yield pytest.param("route", "nowhere", id="route-unknown route")
    yield pytest.param("judge", redirect("nowhere"), id="judge-unknown route")
    yield pytest.param("judge", reject("no").only("nobody@example.org"), id="judge-unknown recipient")
    for path in (
        "two words@example.org",
        "x@example.org> NOTIFY=NEVER",
        "x@example.org\r\nRSET",
        "",
        "x@",
        "é" * 400 + "@example.org",
    ):
        yield pytest.param("rcpt", use_forward_path(path), id=f"rcpt-path {path!r:.30}")
        yield pytest.param("rcpt", add_recipient(path), id=f"rcpt-added {path!r:.30}")
        if path:
            yield pytest.param("mail", use_reverse_path(path), id=f"mail-path {path!r:.30}")


@pytest.mark.parametrize(("name", "answer"), list(wrong_cells()))
async def test_wrong_answer(name: str, answer: Any) -> None:
    async def behave() -> Any:
        return answer

    chain = build_chain([plugin_with(name, behave)], Threads(1), routes=frozenset(["default", "other"]))
    transaction = a_transaction()
    try:
        effect = await ask(chain, name, transaction)
    except StageDeferredError as error:
        effect = error.decision
    if name in {"startup", "shutdown"}:
        assert effect == "error"
        return
    assert [step["outcome"] for step in steps_of(transaction)] == ["error"]
    if name not in {"done", "disconnect"}:
        assert is_fault(name, effect, "plugin-error")


async def test_an_iterable_without_end_is_bounded() -> None:
    async def behave() -> Any:
        def endless() -> Iterator[Finding]:
            while True:
                yield Score(symbol="s", weight=1.0)

        return endless()

    chain = build_chain([plugin_with("check", behave)], Threads(1))
    transaction = a_transaction()
    findings, decision = await ask(chain, "check", transaction)
    assert findings == ()
    assert decision is not None
    assert "more than 1000 values" in decision.verdict.evidence
