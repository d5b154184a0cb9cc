"""Is the gateway alive, is it ready, and why not: read from the shared slots. Nothing is asked over the network here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from gateway.server.slots import Slots, WorkerState

BEAT_LIMIT = 5.0
"""A worker whose loop has been silent for longer is not counted as up."""
ANSWER_LIMIT = 60.0
"""A next hop that was last seen to answer longer ago than this is not counted as up."""


class Report(TypedDict):
    """The body of `/ready`."""

    ready: bool
    reasons: list[str]
    """Why it is not ready."""
    warnings: list[str]
    workers: int
    workers_up: int
    sessions: int
    generation: int
    """Number of the configuration in force: 1 at the start."""
    routes: dict[str, bool]
    resting: dict[str, int]
    """Servers of a route that rest after a failure, in the worker that knows of most; routes without any are left out."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the answers are made from."""

    slots: Slots
    supervisor: int
    """Process id; when it is not our parent any more, the gateway is gone."""
    state_warning: str = ""
    """Where and why what is written to the state directory may not be kept; ``."""
    parent: Callable[[], int] = os.getppid

    def live(self) -> bool:
        """The supervisor is there and at least one worker's loop turns."""
        return self.parent() == self.supervisor and bool(self.slots.beating(BEAT_LIMIT))

    def report(self) -> Report:
        """Ready or not, with the reasons."""
        up = [slot for slot in self.slots.beating(BEAT_LIMIT) if slot.state == WorkerState.READY]
        reasons = []
        if self.slots.draining:
            reasons.append("draining")
        if self.parent() != self.supervisor:
            reasons.append("the supervisor has ended")
        if not up:
            reasons.append("no worker is up")
        elif len(up) < len(self.slots):
            starting = len(self.slots) - len(up)
            reasons += [f"{starting} of {len(self.slots)} workers not up"] if starting * 2 > len(self.slots) else []
        routes = {}
        for route in self.slots.routes:
            answers = (slot.answered(route) for slot in up)
            routes[route] = any(age is not None and age <= ANSWER_LIMIT for age in answers)
            if up and not routes[route]:
                reasons.append(f"no next hop of route {route!r} answers")
        refusal = self.slots.refusal
        return Report(
            ready=not reasons,
            reasons=reasons,
            warnings=list(filter(None, (self.state_warning, refusal and f"the last reload was refused: {refusal}"))),
            workers=len(self.slots),
            workers_up=len(up),
            generation=self.slots.generation,
            sessions=sum(slot.sessions for slot in up),
            routes=routes,
            resting={
                route: most for route in self.slots.routes if (most := max((slot.resting(route) for slot in up), default=0))
            },
        )
