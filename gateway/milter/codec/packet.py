"""What every packet is: a frozen value with a letter, that knows its payload, and can be made of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from gateway.milter.codec.bits import Actions, MacroStage, Steps
from gateway.milter.codec.errors import BadPacket, BadValue
from gateway.milter.codec.fields import check, check_number, nothing, number


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet without payload; the others override both methods."""

    letter: ClassVar[bytes]

    def payload(self) -> bytes:
        """The octets behind the letter."""
        return b""

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """The packet of these octets. BadPacket."""
        nothing(payload, cls.__name__)
        return cls()


@dataclass(frozen=True, slots=True)
class Negotiate(Packet):
    """SMFIC_OPTNEG, both ways: what the MTA offers, then what the milter takes of it."""

    letter = b"O"
    version: int
    actions: Actions
    steps: Steps
    symbols: tuple[tuple[MacroStage, tuple[bytes, ...]], ...] = ()
    """Only from a milter, if SETSYMLIST was offered: the macros it wants for a stage, as `i`, `{auth_authen}`."""

    def __post_init__(self) -> None:
        for value in (self.version, self.actions, self.steps):
            check_number("Negotiate", value)
        for _, names in self.symbols:
            check_names(names)

    def payload(self) -> bytes:
        """Three numbers, then the lists."""
        numbers = b"".join(int(one).to_bytes(4, "big") for one in (self.version, self.actions, self.steps))
        return numbers + b"".join(stage.to_bytes(4, "big") + b" ".join(names) + b"\0" for stage, names in self.symbols)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """More than three numbers is a list of macros, stage by stage."""
        version, rest = number(payload, "Negotiate")
        actions, rest = number(rest, "Negotiate")
        steps, rest = number(rest, "Negotiate")
        symbols = []
        while rest:
            stage, names, rest = one_list(rest, "Negotiate")
            symbols.append((stage, names))
        return cls(version, Actions(actions), Steps(steps), tuple(symbols))


def check_names(names: tuple[bytes, ...]) -> None:
    """Names of macros stand in one string, parted by spaces. BadValue."""
    check("names of macros", *names)
    if any(not name or b" " in name or b"," in name for name in names):
        raise BadValue("names of macros: an empty one, or a space or comma within one")


def one_list(payload: bytes, what: str) -> tuple[MacroStage, tuple[bytes, ...], bytes]:
    """A stage, the names of macros for it, and what follows."""
    stage, rest = number(payload, what)
    if stage not in _STAGES:
        raise BadPacket(f"{what}: macros for stage {stage}, which there is not")
    names, nul, rest = rest.partition(b"\0")
    if not nul:
        raise BadPacket(f"{what}: a list of macros that does not end in NUL")
    return MacroStage(stage), tuple(name for name in names.replace(b",", b" ").split(b" ") if name), rest


_STAGES = frozenset(MacroStage)
