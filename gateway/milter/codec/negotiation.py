"""What comes first: the MTA offers a version, actions and steps, the milter takes some, and both keep to that."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.milter.codec.bits import ACTIONS_OF, CHUNK, NEWEST, OLDEST, STEPS_OF, Actions, MacroStage, Steps
from gateway.milter.codec.commands import (
    Abort,
    Body,
    Command,
    Connect,
    Data,
    EndOfHeader,
    Header,
    Helo,
    Macros,
    Mail,
    Quit,
    QuitNewConnection,
    Rcpt,
    Unknown,
)
from gateway.milter.codec.errors import BadPacket
from gateway.milter.codec.packet import Negotiate

_LEFT_OUT: dict[type[Command], Steps] = {
    Connect: Steps.NOCONNECT,
    Helo: Steps.NOHELO,
    Mail: Steps.NOMAIL,
    Rcpt: Steps.NORCPT,
    Data: Steps.NODATA,
    Unknown: Steps.NOUNKNOWN,
    Header: Steps.NOHDRS,
    EndOfHeader: Steps.NOEOH,
    Body: Steps.NOBODY,
}
_NOT_ANSWERED: dict[type[Command], Steps] = {
    Connect: Steps.NR_CONN,
    Helo: Steps.NR_HELO,
    Mail: Steps.NR_MAIL,
    Rcpt: Steps.NR_RCPT,
    Data: Steps.NR_DATA,
    Unknown: Steps.NR_UNKN,
    Header: Steps.NR_HDR,
    EndOfHeader: Steps.NR_EOH,
    Body: Steps.NR_BODY,
}
_NO_ACTIONS, _NO_STEPS = Actions(0), Steps(0)
_SILENT: frozenset[type[Command]] = frozenset({Macros, Abort, Quit, QuitNewConnection})
_SINCE: dict[type[Command], int] = {Unknown: 3, Data: 4, QuitNewConnection: 6}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides keep to on a connection."""

    version: int = NEWEST
    actions: Actions = _NO_ACTIONS
    steps: Steps = _NO_STEPS
    symbols: tuple[tuple[MacroStage, tuple[bytes, ...]], ...] = ()

    def is_sent(self, command: type[Command]) -> bool:
        """The MTA sends this command."""
        return self.version >= _SINCE.get(command, 0) and not self.steps & _LEFT_OUT.get(command, _NO_STEPS)

    def is_answered(self, command: type[Command]) -> bool:
        """The milter answers this command, and the MTA waits for it."""
        return command not in _SILENT and not self.steps & _NOT_ANSWERED.get(command, _NO_STEPS)

    @property
    def chunk(self) -> int:
        """Octets of payload that either side may put into a packet."""
        if self.steps & Steps.MDS_1M:
            return 1024 * 1024 - 1
        return 256 * 1024 - 1 if self.steps & Steps.MDS_256K else CHUNK

    def macros(self, stage: MacroStage) -> tuple[bytes, ...] | None:
        """The macros that the milter named for a stage; None: it named none at all, and gets the MTA's own choice."""
        if not self.symbols:
            return None
        return next((names for one, names in reversed(self.symbols) if one is stage), ())


def offer(actions: Actions, steps: Steps, version: int = NEWEST) -> Negotiate:
    """An MTA's first packet: no more than that version has."""
    return Negotiate(version, actions & ACTIONS_OF[version], steps & STEPS_OF[version])


def take(
    offered: Negotiate,
    actions: Actions,
    steps: Steps,
    symbols: tuple[tuple[MacroStage, tuple[bytes, ...]], ...] = (),
) -> Negotiate:
    """A milter's answer: of what it would like, what was offered. BadPacket for a version without a common one."""
    if offered.version < OLDEST:
        raise BadPacket(f"version {offered.version} of the protocol; known are {OLDEST} to {NEWEST}")
    version = min(offered.version, NEWEST)
    # Not cut down to what the version has: Postfix offers NR_HDR with any (`no_header_reply`), and what was offered is known.
    taken = actions & offered.actions
    named = symbols if offered.actions & Actions.SETSYMLIST else ()
    taken = taken | Actions.SETSYMLIST if named else taken & ~Actions.SETSYMLIST
    return Negotiate(version, taken, _one_size(steps & offered.steps), named)


def _one_size(steps: Steps) -> Steps:
    """The larger of two sizes of packets; both at once mean nothing."""
    return steps & ~Steps.MDS_256K if steps & Steps.MDS_1M else steps


def agree(offered: Negotiate, taken: Negotiate) -> Agreement:
    """What follows from both, the same on both sides. BadPacket where the milter took what was not offered."""
    if not OLDEST <= taken.version <= offered.version:
        raise BadPacket(f"the milter wants version {taken.version} of the protocol; offered was {offered.version}")
    # As plain numbers: the complement of a flag knows of no bits beyond its names.
    if actions := int(taken.actions) & ~int(offered.actions):
        raise BadPacket(f"the milter wants actions {actions:#x}, which were not offered")
    if steps := int(taken.steps) & int(_MATTERS) & ~int(offered.steps):
        raise BadPacket(f"the milter wants steps {steps:#x}, which were not offered")
    return Agreement(taken.version, taken.actions, taken.steps & offered.steps, taken.symbols)


_MATTERS = STEPS_OF[NEWEST] & ~(Steps.NOUNKNOWN | Steps.NODATA | Steps.RCPT_REJ | Steps.SKIP)
"""Steps that lead to a misunderstanding if only one side keeps to them. The others ask for less than the MTA can do anyway."""
