"""The chain: which hooks run at which stage, and what their answers do.

One chain for each listener and generation. The stages before the content ask in order and stop at the first verdict;
`decide` runs the checks at once and the judges in order until no recipient is undecided. Faults of a plugin become what
its `on_error` says; everything is written into the trace. How one hook is run is `runner`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from gateway import judging
from gateway.answers import SPECIFICATIONS
from gateway.asking import SAID_NOTHING, Asking
from gateway.checking import Begun as BegunChecks
from gateway.checking import Order
from gateway.dns_account import ACCOUNT
from gateway.findings import Finding
from gateway.quiet import Begun
from gateway.runner import Run, Runner
from gateway.stages import NO_MAIL_ANSWER, NO_RCPT_ANSWER, MailAnswer, RcptAnswer, StageDeferredError
from gateway.steps import Step
from gateway.turns import Turns
from gateway.verdict import AddRecipient, Decision, UseForwardPath, UseReversePath, Would

if TYPE_CHECKING:
    from gateway.edits import AddHeader, Edit
    from gateway.message import Message
    from gateway.session import Session
    from gateway.transaction import Outcome, Recipient, Transaction

__all__ = ["NO_MAIL_ANSWER", "NO_RCPT_ANSWER", "Chain", "MailAnswer", "RcptAnswer", "StageDeferredError"]

log: Final = structlog.get_logger("gateway.chain")

Observe = Callable[[str, str, str, float], None]
"""Told (plugin, hook, outcome, seconds) of every run, for metrics."""


class Chain:
    """The hooks of one listener, in order."""

    def __init__(
        self,
        steps: Iterable[Step],
        runner: Runner,
        *,
        envelope_budget: float = 20.0,
        check_budget: float = 60.0,
        routes: frozenset[str] | None = None,
        observe: Observe | None = None,
    ) -> None:
        """`routes`: names that `route` and `redirect` may give; None: any. ValueError when checks need each other."""
        by_hook: dict[str, list[Step]] = {name: [] for name in SPECIFICATIONS}
        for step in steps:
            by_hook[step.hook].append(step)
        self.steps: dict[str, tuple[Step, ...]] = {name: tuple(found) for name, found in by_hook.items()}
        self.stages: frozenset[str] = frozenset(name for name, found in by_hook.items() if found)
        """Stages with at least one hook: nothing needs to be awaited for the others."""
        self.verifies: frozenset[str] = frozenset(name for step in self.steps["check"] for name in step.verifies)
        """Header fields whose signatures are verified: body hashes are wanted for them."""
        self._runner = runner
        self._envelope_budget = envelope_budget
        self._check_budget = check_budget
        self._routes = routes
        self._observe = observe
        self.names: dict[tuple[str, int, int], str] = {}
        """Of the plugins of a stage between two numbers, for the trace."""
        self._checks = Order(self.steps["check"])
        self._turns = Turns()

    async def connect(self, session: Session) -> Decision | None:
        """Reject or Defer before the greeting, or None."""
        return await self._first_refusal("connect", session, None)

    async def helo(self, session: Session) -> Decision | None:
        """Reject or Defer of a HELO name, or None."""
        return await self._first_refusal("helo", session, None)

    async def authenticated(self, session: Session) -> Decision | None:
        """Reject or Defer after AUTH, or None."""
        return await self._first_refusal("authenticated", session, None)

    async def disconnect(self, session: Session) -> None:
        """Tell the observers."""
        await self._tell("disconnect", (session,), session, None)

    # The envelope

    async def mail(self, transaction: Transaction) -> MailAnswer:
        """The first verdict, and the first reverse-path, of the plugins."""
        if not self.steps["mail"]:
            return NO_MAIL_ANSWER
        reverse_path: UseReversePath | None = None
        end = self._end(self._envelope_budget, transaction)
        asking = Asking(self, "mail", (transaction,), transaction.session, transaction, end)
        while (said := await asking.next()) is not None:
            step, run, fault = said
            if fault is not None:
                return MailAnswer(decision=fault, reverse_path=reverse_path)
            if not run.values or step.is_monitor:
                continue
            (answer,) = run.values
            if isinstance(answer, UseReversePath):
                reverse_path = reverse_path or answer
            else:
                return MailAnswer(decision=judging.decision_of(step, answer, run), reverse_path=reverse_path)
        return MailAnswer(reverse_path=reverse_path) if reverse_path else NO_MAIL_ANSWER

    async def rcpt(self, transaction: Transaction, recipient: Recipient) -> RcptAnswer:
        """The first verdict on this recipient, its first other forward-path, and recipients to add."""
        if not self.steps["rcpt"]:
            return NO_RCPT_ANSWER
        forward_path: UseForwardPath | None = None
        added: list[AddRecipient] = []
        decision: Decision | None = None
        end = self._end(self._envelope_budget, transaction)
        asking = Asking(self, "rcpt", (transaction, recipient), transaction.session, transaction, end, recipient.mailbox)
        while (said := await asking.next()) is not None:
            step, run, decision = said
            if decision is not None:
                break
            if not run.values or step.is_monitor:
                continue
            for answer in run.values:
                if isinstance(answer, UseForwardPath):
                    if forward_path is None:  # the plugins that follow see where it goes on to
                        forward_path, recipient.sent_path = answer, f"<{answer.path}>".encode()
                elif isinstance(answer, AddRecipient):
                    added.append(answer)
                elif decision is None and not isinstance(answer, Would):
                    decision = judging.decision_of(step, answer, run)
            if decision is not None:
                break
        return RcptAnswer(decision=decision, forward_path=forward_path, added=tuple(added))

    async def route(self, transaction: Transaction, recipient: Recipient) -> str | None:
        """Name of the route the first plugin with an opinion chose. StageDeferredError when one failed."""
        end = self._end(self._envelope_budget, transaction)
        asking = Asking(self, "route", (transaction, recipient), transaction.session, transaction, end, recipient.mailbox)
        while (said := await asking.next()) is not None:
            step, run, fault = said
            if fault is not None:
                raise StageDeferredError(fault)
            if run.values and not step.is_monitor:
                return cast("str", run.values[0])
        return None

    async def policy_class(self, transaction: Transaction, recipient: Recipient) -> tuple[Hashable, ...]:
        """The classes of all plugins, in order. StageDeferredError when one failed."""
        classes: list[Hashable] = []
        end = self._end(self._envelope_budget, transaction)
        asking = Asking(self, "policy_class", (transaction, recipient), transaction.session, transaction, end, recipient.mailbox)
        while (said := await asking.next()) is not None:
            step, run, fault = said
            if fault is not None:
                raise StageDeferredError(fault)
            if not step.is_monitor:
                classes.extend(run.values)
        return tuple(classes)

    async def data(self, transaction: Transaction) -> Decision | None:
        """Reject or Defer before 354, or None."""
        return await self._first_refusal("data", transaction.session, transaction)

    # The content

    def begin_checks(self, transaction: Transaction) -> BegunChecks | None:
        """Begin the checks that need no content, when it is about to come; `decide` is given what this gives."""
        return self._checks.begin(self._asking(transaction, None, {})) if self._checks.early else None

    async def decide(self, transaction: Transaction, message: Message, begun: BegunChecks | None = None) -> None:
        """Run checks and judges: findings go into `transaction.findings`, first verdicts into `recipient.decision`.

        `begun`: checks that have been under way while the content came.
        """
        if not self._turns.has_room():
            try:
                await self._turns.room()
            except BaseException:
                if begun is not None:
                    begun.cancel()
                raise
        before = ACCOUNT.get()
        ACCOUNT.set(judging.account_of(judging.trace_of(transaction.session, transaction)))  # once for all of them
        try:
            if self.steps["check"]:
                await self._check(transaction, message, begun)
                judging.tell_limits(transaction, message)
            if self.steps["judge"]:
                await self._judge(transaction, message)
                judging.tell_limits(transaction, message)
        finally:
            ACCOUNT.set(before)

    async def _judge(self, transaction: Transaction, message: Message) -> None:
        """Ask in order until no recipient is undecided."""
        end = self._end(self._check_budget, transaction)
        steps = self.steps["judge"]
        skipped: dict[str, str] = {}
        asking = Asking(self, "judge", (transaction, message), transaction.session, transaction, end)
        while asking.at < len(steps) and transaction.undecided:
            plugin = steps[asking.at].plugin
            if plugin in skipped:
                trace = judging.trace_of(transaction.session, transaction)
                trace.step(stage="judge", plugin=plugin, outcome="skipped", evidence=f"by {skipped[plugin]}")
                asking.at += 1
                continue
            said = await asking.next(one=bool(skipped))
            if said is None:
                return
            step, run, fault = said
            if fault is not None:
                judging.apply_decision(transaction, fault)
            elif not step.is_monitor:
                judging.apply_answers(transaction, step, run, skipped)

    async def rewrite(self, transaction: Transaction, message: Message) -> tuple[Edit, ...]:
        """All edits, in order. StageDeferredError when a plugin failed and its `on_error` is `defer`."""
        edits = await self._collect("rewrite", transaction, message)
        judging.tell_limits(transaction, message)
        return cast("tuple[Edit, ...]", edits)

    async def sign(self, transaction: Transaction, message: Message) -> tuple[AddHeader, ...]:
        """Fields to put on top, the first below the second. StageDeferredError as for `rewrite`."""
        return cast("tuple[AddHeader, ...]", await self._collect("sign", transaction, message))

    async def done(self, transaction: Transaction, outcome: Outcome) -> None:
        """Tell the observers."""
        await self._tell("done", (transaction, outcome), transaction.session, transaction)

    async def run_alone(self, step: Step, facts: tuple[Any, ...]) -> Run:
        """Run a step that belongs to no session: `startup`, `shutdown`."""
        return await self._runner.run(step, facts, asyncio.get_running_loop().time() + step.timeout)

    async def _first_refusal(self, hook: str, session: Session, transaction: Transaction | None) -> Decision | None:
        steps = self.steps[hook]
        if not steps:
            return None
        facts = (session if transaction is None else transaction,)
        end = self._end(self._envelope_budget, transaction)
        asking = Asking(self, hook, facts, session, transaction, end)
        while (said := await asking.next()) is not None:
            step, run, fault = said
            if fault is not None:
                return fault
            if run.values and not step.is_monitor:
                return judging.decision_of(step, run.values[0], run)
        return None

    async def _tell(self, hook: str, facts: tuple[Any, ...], session: Session, transaction: Transaction | None) -> None:
        end = asyncio.get_running_loop().time() + self._envelope_budget  # the transaction's own deadline may be over
        asking = Asking(self, hook, facts, session, transaction, end)
        while await asking.next() is not None:
            pass

    async def _collect(self, hook: str, transaction: Transaction, message: Message) -> tuple[Any, ...]:
        if not self.steps[hook]:
            return ()
        values: list[Any] = []
        end = self._end(self._check_budget, transaction)
        asking = Asking(self, hook, (transaction, message), transaction.session, transaction, end)
        while (said := await asking.next()) is not None:
            step, run, fault = said
            if fault is not None:
                raise StageDeferredError(fault)
            found = [one for one in run.values if isinstance(one, Finding)]
            if found:
                transaction.findings.extend(step.plugin, found)
            if not step.is_monitor:
                values += [one for one in run.values if not isinstance(one, Finding)] if found else run.values
        return tuple(values)

    async def _check(self, transaction: Transaction, message: Message, early: BegunChecks | None) -> None:
        """All checks, those first that have no opinion at once, in a row."""
        begun: dict[int, Begun] = {}
        ask = self._asking(transaction, message, begun)
        if early is not None:
            await self._checks.run(ask, early)
            return
        at, upto = 0, self._checks.row
        end = self._end(self._check_budget, transaction)
        asking = Asking(self, "check", (transaction, message), transaction.session, transaction, end)
        while at < upto:
            asking.at = at
            one = asking.pass_quiet(upto)
            at = asking.at
            if one is None:
                break
            begun[at] = one
            if one.coroutine is not None:
                break
            await ask(at)
            at += 1
        if at < len(self.steps["check"]):
            await self._checks.run_from(at, ask, is_begun=at in begun)

    def _asking(
        self, transaction: Transaction, message: Message | None, begun: dict[int, Begun]
    ) -> Callable[[int], Awaitable[None]]:
        """One check, with what follows from it. `begun`: those that go on, in the task they were begun in."""
        steps = self.steps["check"]
        end = self._end(self._check_budget, transaction)

        async def ask(number: int) -> None:
            step, one = steps[number], begun.pop(number) if number in begun else None
            run, fault = await self.ask(step, (transaction, message), transaction.session, transaction, end, "", one)
            if run.values:
                transaction.findings.extend(step.plugin, run.values)
            if fault is not None:
                judging.apply_decision(transaction, fault)

        return ask

    def _end(self, budget: float, transaction: Transaction | None) -> float:
        """Loop time at which a stage that begins now must have ended."""
        end = asyncio.get_running_loop().time() + budget
        if transaction is not None and transaction.deadline is not None and transaction.deadline < end:
            return transaction.deadline
        return end

    async def ask(  # noqa: PLR0917 - called in a row, always with the same ones
        self,
        step: Step,
        facts: tuple[Any, ...],
        session: Session,
        transaction: Transaction | None,
        end: float,
        about: str = "",
        begun: Begun | None = None,
    ) -> tuple[Run, Decision | None]:
        """Run a step, or go on with one that was begun; check, trace and count it. A Decision only for a fault that defers."""
        trace = judging.trace_of(session, transaction)
        if step.skip and session.client_class.value in step.skip:
            trace.step(stage=step.hook, plugin=step.plugin, outcome="skipped", mode=step.mode, recipient=about)
            return SAID_NOTHING, None
        left = step.timeout if begun is None else step.timeout - begun.seconds
        deadline = min(asyncio.get_running_loop().time() + left, end)
        account = judging.account_of(trace)
        before = ACCOUNT.get()
        if before is account:
            run = await self._runner.run(step, facts, deadline, begun)
        else:
            ACCOUNT.set(account)
            try:
                run = await self._runner.run(step, facts, deadline, begun)
            finally:
                ACCOUNT.set(before)
        if account.refused:
            judging.tell_budget(trace, account)
        if run.values and step.hook not in judging.APPLIED:
            objection = judging.object_to(step.hook, run.values, transaction, self._routes)
            if objection:
                run = Run((), run.duration, "error", objection)
        outcome = judging.record_run(trace, step, run, about)
        if self._observe is not None:
            self._observe(step.plugin, step.hook, outcome, run.duration)
        if not run.fault:
            return run, None
        log.warning(
            "plugin.fault",
            kind=run.fault,
            plugin=step.plugin,
            hook=step.hook,
            error=run.evidence,
            transaction="" if transaction is None else transaction.id,
            session=session.id,
        )
        if step.is_monitor or step.ignores_errors(session.client_class):
            return run, None
        return run, judging.fault_decision(step, run)
