"""What answers do: the first verdict on a recipient, checks at once and in the order of needs, paths, routes, classes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from gateway import (
    Accept,
    AddHeader,
    AuthResult,
    Finding,
    Message,
    Plugin,
    Recipient,
    Score,
    Session,
    Transaction,
    UseForwardPath,
    UseReversePath,
    Verdict,
    accept,
    add_header,
    add_recipient,
    defer,
    discard,
    hook,
    quarantine,
    redirect,
    reject,
    use_forward_path,
    use_reverse_path,
)
from gateway.chain import NO_MAIL_ANSWER, NO_RCPT_ANSWER, Chain, StageDeferredError
from gateway.registration import new_manager, steps_of
from gateway.runner import Runner
from gateway.steps import Kind
from gateway.testing import a_message, a_session, a_transaction
from gateway.testing.run import build_chain
from gateway.threads import Threads
from gateway.trace import MAX_STEPS, Trace, jsonable
from gateway.transaction import Outcome

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"


def chain_of(*plugins: Plugin[Any], **settings: Any) -> Chain:
    return build_chain(plugins, Threads(2), **settings)


class Judges(Plugin):
    """Answers with what it was given, and notes whom it was asked about."""

    def __init__(self, name: str, *answer: Verdict) -> None:
        super().__init__(name=name)
        self.answer = list(answer)
        self.asked: list[list[str]] = []

    @hook
    async def judge(self, transaction: Transaction) -> Sequence[Verdict]:
        self.asked.append([recipient.mailbox for recipient in transaction.undecided])
        return self.answer


async def decide(transaction: Transaction, *plugins: Plugin[Any], **settings: Any) -> dict[str, str]:
    await chain_of(*plugins, **settings).decide(transaction, a_message())
    return {
        one.mailbox: f"{type(one.decision.verdict).__name__} by {one.decision.plugin}" if one.decision else "nobody"
        for one in transaction.recipients
    }


def three() -> Transaction:
    return a_transaction(recipients=[ALICE, BOB, CAROL])


async def test_the_first_verdict_on_a_recipient_decides_that_recipient() -> None:
    first = Judges("first", reject("no").only(ALICE))
    second = Judges("second", quarantine("x").only(ALICE, BOB))
    third = Judges("third", accept())
    fourth = Judges("fourth", discard("x"))
    assert await decide(three(), first, second, third, fourth) == {
        ALICE: "Reject by first",
        BOB: "Quarantine by second",
        CAROL: "Accept by third",
    }
    assert (second.asked, third.asked, fourth.asked) == ([[BOB, CAROL]], [[CAROL]], [])


async def test_one_answer_may_hold_several_verdicts() -> None:
    judges = Judges("judges", reject("no").only(BOB), defer("later").only(BOB, CAROL), accept())
    assert await decide(three(), judges) == {ALICE: "Accept by judges", BOB: "Reject by judges", CAROL: "Defer by judges"}


async def test_recipients_decided_at_rcpt_stay_decided() -> None:
    transaction = three()
    decided = (await chain_of(RcptAnswers(accept("known"))).rcpt(transaction, transaction.recipients[0])).decision
    transaction.recipients[0].decision = decided
    judges = Judges("judges", reject("no"))
    assert (await decide(transaction, judges))[ALICE] == "Accept by sample"
    assert judges.asked == [[BOB, CAROL]]


async def test_nobody_is_asked_when_all_are_decided() -> None:
    transaction = a_transaction(recipients=[])
    judges = Judges("judges", reject("no"))
    assert await decide(transaction, judges) == {}
    assert judges.asked == []


@pytest.mark.parametrize(
    ("before", "answer", "expected"),
    [
        ([], [redirect("other")], "Redirect by judges"),
        ([], [redirect("other").only(ALICE, BOB, CAROL)], "Redirect by judges"),
        ([], [redirect("other").only(ALICE)], "Defer by judges"),
        ([], [reject("no").only(BOB), redirect("other")], "Defer by judges"),
        ([Judges("before", reject("no").only(CAROL))], [redirect("other")], "Defer by judges"),
    ],
)
async def test_redirect_at_judge_is_for_all_recipients_at_once(
    before: list[Plugin[Any]], answer: list[Verdict], expected: str
) -> None:
    assert (await decide(three(), *before, Judges("judges", *answer)))[ALICE] == expected


async def test_a_monitored_judge_decides_nothing() -> None:
    transaction = three()
    assert set((await decide(transaction, Judges("judges", reject("no").only(BOB)), mode="monitor")).values()) == {"nobody"}
    assert transaction.trace is not None
    (step,) = transaction.trace.step_records()
    assert (step["outcome"], step["mode"], step["recipient"]) == ("would", "monitor", BOB)
    assert step["verdict"] is not None
    assert step["verdict"]["code"] == 550


# Checks


class Gives(Plugin):
    """A check that waits until it is let go."""

    gives: ClassVar[tuple[str, ...]] = ("auth.spf",)

    def __init__(self, name: str, log: list[str], *, wait: asyncio.Event | None = None) -> None:
        super().__init__(name=name)
        self.log = log
        self.wait = wait

    @hook
    async def check(self, transaction: Transaction) -> Finding:
        self.log.append(f"{self.name} begins, {len(transaction.findings)} known")
        if self.wait is not None:
            await self.wait.wait()
        self.log.append(f"{self.name} ends")
        return AuthResult(method=self.name, result="pass")


class Needs(Gives):
    gives: ClassVar[tuple[str, ...]] = ("auth.dmarc",)
    needs: ClassVar[tuple[str, ...]] = ("auth.spf", "auth.nobody")


class NeedsMore(Gives):
    gives: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ("auth.dmarc",)


async def test_checks_run_at_once_and_wait_for_what_they_need() -> None:
    log: list[str] = []
    go = asyncio.Event()
    plugins = [NeedsMore("last", log), Needs("dmarc", log), Gives("spf", log, wait=go), Gives("dkim", log)]
    transaction = a_transaction()
    task = asyncio.get_running_loop().create_task(chain_of(*plugins).decide(transaction, a_message()))
    await asyncio.sleep(0.01)
    assert log == ["spf begins, 0 known", "dkim begins, 0 known", "dkim ends"]
    go.set()
    await task
    assert log[3:] == ["spf ends", "dmarc begins, 2 known", "dmarc ends", "last begins, 3 known", "last ends"]
    assert [plugin for plugin, _ in transaction.findings.attributed()] == ["dkim", "spf", "dmarc", "last"]
    assert [f.result for f in transaction.findings.of(AuthResult, method="dmarc")] == ["pass"]


class RaisesAtCheck(Gives):
    @hook
    async def check(self) -> Finding:  # type: ignore[override]
        raise LookupError("x")


async def test_a_failed_check_lets_those_that_wait_for_it_run() -> None:
    log: list[str] = []
    transaction = three()
    fates = await decide(transaction, RaisesAtCheck("spf", log), Needs("dmarc", log), on_error="ignore")
    assert set(fates.values()) == {"nobody"}
    assert log == ["dmarc begins, 0 known", "dmarc ends"]


async def test_a_failed_check_that_defers_spares_the_judges() -> None:
    judges = Judges("judges", reject("no"))
    fates = await decide(three(), RaisesAtCheck("spf", []), judges)
    assert set(fates.values()) == {"Defer by spf"}
    assert judges.asked == []


async def test_checks_are_cancelled_with_their_transaction() -> None:
    log: list[str] = []
    chain = chain_of(Gives("spf", log, wait=asyncio.Event()), Gives("dkim", log, wait=asyncio.Event()))
    task = asyncio.get_running_loop().create_task(chain.decide(a_transaction(), a_message()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["spf begins, 0 known", "dkim begins, 0 known"]


class Circle(Gives):
    gives: ClassVar[tuple[str, ...]] = ("auth.spf",)
    needs: ClassVar[tuple[str, ...]] = ("auth.dmarc",)


def test_checks_that_need_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"wait for each other's findings: one, two"):
        chain_of(Circle("one", []), Needs("two", []))


# The envelope


class RcptAnswers(Plugin):
    def __init__(self, answer: Any, name: str = "sample") -> None:
        super().__init__(name=name)
        self.answer = answer

    @hook(cheap=True)
    def rcpt(self, recipient: Recipient) -> Any:
        return self.answer

    @hook(cheap=True)
    def mail(self) -> Any:
        return self.answer if isinstance(self.answer, UseReversePath) else None

    @hook(cheap=True)
    def route(self) -> str | None:
        return self.answer if isinstance(self.answer, str) else None

    @hook(cheap=True)
    def policy_class(self, recipient: Recipient) -> str | None:
        return recipient.domain if isinstance(self.answer, Accept) else None


async def test_paths_add_up_and_the_first_verdict_ends_rcpt() -> None:
    answers = [
        add_recipient("x@example.org"),
        use_forward_path("one@example.org"),
        use_forward_path("two@example.org"),
        add_recipient("y@example.org"),
        accept("fine"),
        reject("never asked"),
    ]
    plugins = [RcptAnswers(answer, f"p{number}") for number, answer in enumerate(answers)]
    transaction = a_transaction()
    found = await chain_of(*plugins).rcpt(transaction, transaction.recipients[0])
    assert found.forward_path == UseForwardPath(path="one@example.org")
    assert [one.path for one in found.added] == ["x@example.org", "y@example.org"]
    assert found.decision is not None
    assert (found.decision.plugin, found.decision.hook) == ("p4", "rcpt")
    assert transaction.trace is not None
    assert {step["recipient"] for step in transaction.trace.step_records()} == {BOB}


async def test_the_first_reverse_path_counts() -> None:
    plugins = [RcptAnswers(use_reverse_path(path), path or "null") for path in ("", "two@example.org")]
    assert (await chain_of(*plugins).mail(a_transaction())).reverse_path == use_reverse_path("")


async def test_routes_and_classes() -> None:
    chain = chain_of(RcptAnswers(accept(), "a"), RcptAnswers("other", "b"), RcptAnswers("third", "c"), RcptAnswers(accept(), "d"))
    transaction = a_transaction()
    assert await chain.route(transaction, transaction.recipients[0]) == "other"
    assert await chain.policy_class(transaction, transaction.recipients[0]) == ("example.org", "example.org")


async def test_without_plugins_nothing_is_awaited_or_made() -> None:
    chain = chain_of()
    transaction = a_transaction()
    recipient = transaction.recipients[0]
    assert chain.stages == frozenset()
    assert await chain.mail(transaction) is NO_MAIL_ANSWER
    assert await chain.rcpt(transaction, recipient) is NO_RCPT_ANSWER
    assert await chain.connect(transaction.session) is None
    assert await chain.route(transaction, recipient) is None
    assert await chain.policy_class(transaction, recipient) == ()
    assert await chain.data(transaction) is None
    await chain.decide(transaction, a_message())
    assert await chain.rewrite(transaction, a_message()) == ()
    assert await chain.sign(transaction, a_message()) == ()
    await chain.done(transaction, Outcome())
    await chain.disconnect(transaction.session)
    assert transaction.trace is not None
    assert transaction.trace.steps == []
    assert transaction.session.state == {}


# The session, edits, what is handed to a hook


class AtConnect(Plugin):
    @hook
    async def connect(self, session: Session) -> Verdict | None:
        return reject("not you", code=554) if session.client_address == "192.0.2.9" else None


async def test_a_stage_of_the_session_is_traced_there() -> None:
    session = a_session(client_address="192.0.2.9")
    decision = await chain_of(AtConnect()).connect(session)
    assert decision is not None
    assert decision.verdict == reject("not you", code=554)
    trace = session.state["trace"]
    assert isinstance(trace, Trace)
    assert [(step["stage"], step["outcome"]) for step in trace.step_records()] == [("connect", "verdict")]


class Signs(Plugin):
    @hook
    async def sign(self, message: Message) -> AddHeader:
        return add_header("X-Signature", f"{self.name}: {message.size}")

    @hook
    async def rewrite(self) -> list[AddHeader]:
        return [add_header("X-A", self.name), add_header("X-B", self.name)]


async def test_edits_and_signatures_come_in_the_order_of_the_chain() -> None:
    chain = chain_of(Signs(name="one"), Signs(name="two"))
    transaction, message = a_transaction(), a_message()
    edits = await chain.rewrite(transaction, message)
    assert [(edit.name, edit.value) for edit in edits if isinstance(edit, AddHeader)] == [
        ("X-A", "one"),
        ("X-B", "one"),
        ("X-A", "two"),
        ("X-B", "two"),
    ]
    assert [field.value for field in await chain.sign(transaction, message)] == [
        f"{name}: {message.size}" for name in ("one", "two")
    ]


class FailsToSign(Signs):
    @hook
    async def sign(self) -> AddHeader:  # type: ignore[override]
        raise LookupError("no key")


async def test_unsigned_mail_does_not_leave_unless_that_is_wanted() -> None:
    with pytest.raises(StageDeferredError, match="no key") as caught:
        await chain_of(FailsToSign(name="signer")).sign(a_transaction(), a_message())
    assert (caught.value.decision.plugin, caught.value.decision.verdict.reason) == ("signer", "plugin-error")
    assert await chain_of(FailsToSign(), on_error="ignore").sign(a_transaction(), a_message()) == ()


class Picks(Plugin):
    @hook
    async def judge(self, message: Message, transaction: Transaction) -> Verdict:
        return accept(f"{type(message).__name__}-{type(transaction).__name__}".lower())

    @hook(cheap=True)
    def done(self, outcome: Outcome) -> None:
        self.outcome = outcome

    @hook
    def disconnect(self) -> None:
        """In a thread."""


async def test_a_hook_gets_the_arguments_it_names_in_its_own_order() -> None:
    plugin = Picks()
    chain = chain_of(plugin)
    transaction = a_transaction()
    await chain.decide(transaction, a_message())
    decision = transaction.recipients[0].decision
    assert decision is not None
    assert decision.verdict == accept("message-transaction")
    assert decision.duration > 0
    outcome = Outcome(next_hop="127.0.0.1:25")
    await chain.done(transaction, outcome)
    assert plugin.outcome is outcome
    kinds = {step.hook: step.kind for steps in chain.steps.values() for step in steps}
    assert kinds == {"judge": Kind.LOOP, "done": Kind.CHEAP, "disconnect": Kind.THREAD}


async def test_every_run_is_told_to_the_observer() -> None:
    seen: list[tuple[str, str, str]] = []
    chain = Chain(
        steps_of(new_manager(), Judges("judges", reject("no"))),
        Runner(Threads(1)),
        observe=lambda plugin, name, outcome, seconds: seen.append((plugin, name, outcome)) if seconds >= 0 else None,
    )
    await chain.decide(a_transaction(), a_message())
    assert seen == [("judges", "judge", "verdict")]


# The trace


def test_the_trace_is_bounded() -> None:
    trace = Trace()
    for _ in range(MAX_STEPS + 5):
        trace.step(stage="judge", plugin="p", outcome="none", evidence="x" * 10_000)
    assert (len(trace.steps), trace.dropped) == (MAX_STEPS, 5)
    assert len(trace.step_records()[0]["evidence"]) == 2_000


class Odd:
    def __str__(self) -> str:
        raise ValueError("no text")


def test_findings_of_any_shape_become_json() -> None:
    value = jsonable(AuthResult(method="x", result=Odd(), reason="r" * 5_000, properties=((b"a", {1, 2}),)))  # type: ignore[arg-type]
    assert value is not None
    assert value["result"] == "<Odd>"
    assert len(value["reason"]) == 2_000
    assert value["properties"] == [["1 octets", [1, 2]]]
    assert jsonable(Odd()) == {"kind": "Odd", "value": "<Odd>"}
    assert jsonable(reject("no").only("b@x", "a@x")) == {
        "kind": "Reject",
        "reason": "no",
        "evidence": "",
        "recipients": ["a@x", "b@x"],
        "text": "no",
        "code": 550,
        "enhanced": "5.7.1",
        "keep": False,
    }
    assert jsonable(Score(symbol="s", weight=2.5)) == {"kind": "Score", "symbol": "s", "weight": 2.5, "evidence": ""}
    pairs = jsonable(AuthResult(method="x", result="pass", properties=(("a", "b"), ("c", "d" * 5_000))))
    assert pairs is not None
    assert pairs["properties"] == [["a", "b"], ["c", "d" * 2_000]]
    many = jsonable(AuthResult(method="x", result="pass", properties=(("a", "b"),) * 5_000))
    assert many is not None
    assert many["properties"] == [["a", "b"]] * 200
