"""Run one plugin, or a chain of them, on one message, and look at what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from gateway.chain import Chain
from gateway.context import Context
from gateway.edits import AddHeader, Edit
from gateway.errors import PluginError
from gateway.findings import Finding
from gateway.message import Message
from gateway.offline import Walk, walk
from gateway.plugin import Plugin
from gateway.registration import new_manager, objections, steps_of
from gateway.runner import Runner
from gateway.session import Session
from gateway.testing.asserting import LATEST, trace_text
from gateway.testing.builders import a_message, a_transaction
from gateway.testing.context import FakeContext
from gateway.threads import Circuit, Threads
from gateway.trace import StepRecord, Trace
from gateway.transaction import Recipient, Transaction
from gateway.verdict import Decision, Verdict

FAULTS = frozenset(["error", "timeout", "circuit"])
"""Outcomes of a step that did not answer as a plugin must."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of running plugins on a message.

    Examples:
        >>> class Half(Plugin):
        ...     @hook
        ...     async def judge(self) -> Verdict:
        ...         return reject("Not for Bob").only("bob@example.org")
        >>> result = await run_plugin(Half(), transaction=a_transaction(recipients=["bob@example.org", "carol@example.org"]))
        >>> {mailbox: decision and decision.verdict.text for mailbox, decision in result.decisions.items()}
        {'bob@example.org': 'Not for Bob', 'carol@example.org': None}
        >>> [(step["stage"], step["outcome"]) for step in result.trace]
        [('judge', 'verdict')]
    """

    transaction: Transaction
    verdict: Verdict | None
    """Of the session or transaction when it was refused, else of the first recipient; None: nobody decided."""
    decision: Decision | None
    """The same with its author."""
    decisions: dict[str, Decision | None]
    """Of each recipient, by mailbox."""
    findings: tuple[Finding, ...]
    edits: tuple[Edit, ...]
    """Of `rewrite`."""
    signatures: tuple[AddHeader, ...]
    """Of `sign`."""
    recipients: tuple[Recipient, ...]
    """With routes, classes and sent paths; those that were refused at RCPT are among them."""
    would: tuple[Verdict, ...]
    """Verdicts that monitor mode held back."""
    trace: list[StepRecord]
    """All steps, those of the session first."""

    def explain(self) -> str:
        """The trace as `mailgateway check` prints it: each plugin, its answer, evidence and time."""
        return trace_text(self.trace)


async def run_plugin(
    plugin: Plugin[Any],
    *,
    message: Message | None = None,
    transaction: Transaction | None = None,
    session: Session | None = None,
    context: Context | None = None,
    start: bool = True,
    **settings: Any,
) -> Result:
    """Run all hooks of one plugin, in the order of a session, on one message.

    `start=False` leaves out `startup` and `shutdown`. PluginError when a hook raises, answers what it may not, or takes too
    long; with `on_error="defer"` or `"ignore"` the fault does what it does in the gateway. Further `settings`:
    `mode="monitor"`, `timeout` (seconds), `skip` (client classes).

    Examples:
        >>> class Sizes(Plugin):
        ...     @hook
        ...     async def judge(self, message: Message) -> Verdict | None:
        ...         return reject("Too large", code=552, enhanced="5.3.4") if message.size > 1_000 else None
        >>> (await run_plugin(Sizes(), message=a_message(body="x" * 2_000))).verdict.code
        552
        >>> (await run_plugin(Sizes(), message=a_message(body="x" * 2_000), mode="monitor")).verdict is None
        True
    """
    return await run_chain(
        [plugin], message=message, transaction=transaction, session=session, context=context, start=start, **settings
    )


async def run_chain(
    plugins: Sequence[Plugin[Any]],
    *,
    message: Message | None = None,
    transaction: Transaction | None = None,
    session: Session | None = None,
    context: Context | None = None,
    start: bool = True,
    on_error: str | None = None,
    **settings: Any,
) -> Result:
    """Run several plugins in order. Two objects of one class need different names. As `run_plugin` otherwise.

    Examples:
        >>> class Tag(Plugin):
        ...     @hook
        ...     async def check(self) -> Label:
        ...         return Label(name=self.name)
        >>> [label.name for label in (await run_chain([Tag(name="one"), Tag(name="other")])).findings]
        ['one', 'other']
    """
    surroundings: Context = FakeContext() if context is None else context
    if transaction is None:
        transaction = a_transaction(session=session)
    elif session is not None:
        transaction.session = session
    if transaction.trace is None:
        transaction.trace = Trace()
    threads = Threads(16)
    chain = build_chain(plugins, threads, context=surroundings, on_error=on_error, **settings)
    try:
        if start:
            await _call_all(chain, "startup", (surroundings,))
        result = await walk(chain, transaction, a_message() if message is None else message)
        if start:
            await _call_all(chain, "shutdown", ())
    finally:
        threads.close()
    found = _result(result, raises=on_error is None)
    LATEST[:] = [found]
    return found


def build_chain(
    plugins: Sequence[Plugin[Any]],
    threads: Threads,
    *,
    context: Context | None = None,
    on_error: str | None = None,
    mode: str = "enforce",
    timeout: float = 10.0,
    skip: Sequence[str] = (),
    **budgets: Any,
) -> Chain:
    """A chain of these plugins as they are. PluginError for a wrong hook or argument."""
    manager = new_manager()
    steps = []
    for plugin in plugins:
        for what, hint in objections(type(plugin)):
            raise PluginError(plugin.name, f"{what} (did you mean {hint!r}?)" if hint else what)
        if context is not None and not hasattr(plugin, "context"):
            plugin.context = context
        plugin.hook_limit = timeout
        everywhere = dict.fromkeys(("authenticated", "trusted", "stranger"), on_error or "defer")
        steps += steps_of(
            manager,
            plugin,
            timeout=timeout,
            is_monitor=mode == "monitor",
            on_error=everywhere,
            skip=frozenset(skip),
            circuit=Circuit(threads.bound),
        )
    return Chain(steps, Runner(threads), **budgets)


async def _call_all(chain: Chain, hook: str, facts: tuple[Any, ...]) -> None:
    for step in chain.steps[hook]:
        run = await chain.run_alone(step, facts)
        if run.fault:
            raise PluginError(step.plugin, f"{hook}: {run.evidence}")


def _result(done: Walk, *, raises: bool) -> Result:
    own = done.session.state.get("trace")
    trace = [*(own.step_records() if isinstance(own, Trace) else ()), *cast("Trace", done.transaction.trace).step_records()]
    for step in trace:
        if raises and step["outcome"] in FAULTS:
            error = PluginError(step["plugin"], f"{step['stage']}: {step['evidence']}")
            error.add_note(trace_text(trace))
            raise error
    everybody = [*done.transaction.recipients, *done.refused]
    decision = done.refusal or next((one.decision for one in everybody if one.decision is not None), None)
    steps = cast("Trace", done.transaction.trace).steps
    return Result(
        transaction=done.transaction,
        verdict=decision.verdict if decision is not None else None,
        decision=decision,
        decisions={one.mailbox: done.refusal or one.decision for one in everybody},
        findings=tuple(done.transaction.findings),
        edits=done.edits,
        signatures=done.signatures,
        recipients=tuple(everybody),
        would=tuple(step[7] for step in steps if step[2] and step[3] == "would" and step[7] is not None),
        trace=trace,
    )
