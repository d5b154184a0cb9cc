"""Steps: one hook of one plugin in a chain, with its settings, resolved once for each generation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gateway.answers import ARGUMENTS
from gateway.quiet import LONGEST, QuietRuns
from gateway.session import ClientClass
from gateway.threads import Circuit


class Kind(Enum):
    """Where a hook runs."""

    LOOP = "loop"
    """`async def`."""
    CHEAP = "cheap"
    """`def` marked cheap: called on the loop."""
    THREAD = "thread"
    """`def`: called in a thread."""


@dataclass(slots=True, kw_only=True)
class Step:
    """One hook of one plugin in a chain, resolved once for each generation."""

    plugin: str
    hook: str
    call: Callable[..., Any]
    kind: Kind
    pick: tuple[int, ...] | None
    """Which of the hook's arguments it takes; None: all of them, in order."""
    timeout: float = 10.0
    is_monitor: bool = False
    on_error: Mapping[str, str] = field(default_factory=dict)
    """Client class → `defer` or `ignore`; `defer` where nothing is said."""
    skip: frozenset[str] = frozenset()
    """Client classes it is not run for."""
    circuit: Circuit = field(default_factory=lambda: Circuit(16))
    gives: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    verifies: tuple[str, ...] = ()
    quiet: QuietRuns = field(default_factory=QuietRuns)
    is_async: bool = field(init=False)
    mode: str = field(init=False)
    """For the trace."""
    is_quick: bool = field(init=False)
    """It may be run in a row with others: on the loop, for every client, and what it says is done."""

    def __post_init__(self) -> None:
        self.is_async = self.kind is Kind.LOOP
        self.mode = "monitor" if self.is_monitor else "enforce"
        self.is_quick = self.kind is not Kind.THREAD and not (self.skip or self.is_monitor) and self.timeout > LONGEST

    def ignores_errors(self, client_class: ClientClass) -> bool:
        """True when an error for this class of clients counts as no opinion."""
        return self.on_error.get(client_class.value, "defer") == "ignore"


def make_step(plugin: str, hook: str, call: Callable[..., Any], *, takes: tuple[str, ...], **settings: Any) -> Step:
    """A step for a hook that takes these arguments."""
    arguments = ARGUMENTS[hook]
    pick = None if takes == arguments else tuple(arguments.index(name) for name in takes)
    return Step(plugin=plugin, hook=hook, call=call, kind=kind_of_call(call), pick=pick, **settings)


def kind_of_call(call: Callable[..., Any]) -> Kind:
    """Where a hook that is written so runs."""
    if inspect.iscoroutinefunction(call):
        return Kind.LOOP
    return Kind.CHEAP if getattr(call, "mailgateway_cheap", False) else Kind.THREAD
