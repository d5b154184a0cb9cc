"""The hooks of one stage, asked in turn for one session or transaction: those that have no opinion at once in a row (`quiet`)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from gateway import judging
from gateway.dns_account import ACCOUNT
from gateway.quiet import Begun, run_quiet
from gateway.runner import Run

if TYPE_CHECKING:
    from gateway.chain import Chain
    from gateway.session import Session
    from gateway.steps import Step
    from gateway.transaction import Transaction
    from gateway.verdict import Decision

SAID_NOTHING: Final = Run()
"""Of a hook that was passed over, or had no opinion."""


class Asking:
    """One stage under way. `at` is the number of the hook that is next."""

    __slots__ = ("_about", "_chain", "_end", "_facts", "_session", "_stage", "_steps", "_transaction", "at")

    def __init__(  # noqa: PLR0917 - made in a row, always with the same ones
        self,
        chain: Chain,
        stage: str,
        facts: tuple[Any, ...],
        session: Session,
        transaction: Transaction | None,
        end: float,
        about: str = "",
    ) -> None:
        """`end`: loop time at which the stage must have ended; `about`: the recipient, for the trace."""
        self._chain = chain
        self._stage = stage
        self._steps = chain.steps[stage]
        self._facts = facts
        self._session = session
        self._transaction = transaction
        self._end = end
        self._about = about
        self.at = 0

    async def next(self, *, one: bool = False) -> tuple[Step, Run, Decision | None] | None:
        """The next hook that says something, fails or is passed over; with `one` the very next. None: there is no other."""
        first, count = self.at, len(self._steps)
        if first >= count:
            return None
        begun = self.pass_quiet(first + 1 if one else count)
        if self.at > first and one:
            return self._steps[first], SAID_NOTHING, None
        if self.at >= count:
            return None
        step = self._steps[self.at]
        self.at += 1
        run, fault = await self._chain.ask(step, self._facts, self._session, self._transaction, self._end, self._about, begun)
        return step, run, fault

    def pass_quiet(self, upto: int) -> Begun | None:
        """Go past the hooks that have no opinion at once, with one row of the trace for all; what the first other one began."""
        at = self.at
        if not self._steps[at].is_quick:
            return None
        trace = judging.trace_of(self._session, self._transaction)
        account = judging.account_of(trace)
        began = time.perf_counter()
        stop = began + self._end - asyncio.get_running_loop().time()
        before = ACCOUNT.get()
        if before is account:
            self.at, begun = run_quiet(self._steps, at, upto, self._facts, stop)
        else:
            ACCOUNT.set(account)
            try:
                self.at, begun = run_quiet(self._steps, at, upto, self._facts, stop)
            finally:
                ACCOUNT.set(before)
        if self.at > at:
            names = self._chain.names.get((self._stage, at, self.at))
            if names is None:
                names = ", ".join(step.plugin for step in self._steps[at : self.at])
                self._chain.names[self._stage, at, self.at] = names
            spent = time.perf_counter() - began - (0.0 if begun is None else begun.seconds)
            trace.quiet(self._stage, names, spent, self._about)
        if account.refused:
            judging.tell_budget(trace, account)
        return begun
