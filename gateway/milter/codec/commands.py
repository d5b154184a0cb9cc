"""What an MTA sends (SMFIC_): one frozen value class a command. Strings are octets as they came, without their NUL."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self, TypeAlias

from gateway.milter.codec.errors import BadPacket, BadValue
from gateway.milter.codec.fields import check, check_number, exactly, joined, strings
from gateway.milter.codec.packet import Negotiate, Packet

INET, INET6, UNIX, UNKNOWN_FAMILY = b"4", b"6", b"L", b"U"
"""Families of the client's address (SMFIA_)."""
_FAMILIES = frozenset({INET, INET6, UNIX, UNKNOWN_FAMILY})
MAX_MACROS = 1000
"""Macros in one packet; Sendmail can send some 50."""


@dataclass(frozen=True, slots=True)
class Macros(Packet):
    """SMFIC_MACRO: values for the command with that letter, which follows (or is not sent, by agreement). Never answered."""

    letter = b"D"
    command: bytes
    """The letter of the command: `C` for Connect."""
    values: tuple[tuple[bytes, bytes], ...] = ()
    """In their order, names as sent: `i`, `{auth_authen}`. A name that comes again counts as it came last."""

    def __post_init__(self) -> None:
        if len(self.command) != 1:
            raise BadValue("Macros: the letter of a command is one octet")
        check("Macros", *(part for pair in self.values for part in pair))

    def payload(self) -> bytes:
        """The letter, then name, value, name, value."""
        return self.command + joined(part for pair in self.values for part in pair)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """An odd number of strings is none of the protocol."""
        if not payload:
            raise BadPacket("Macros: for no command")
        found = strings(payload[1:], "Macros")
        if len(found) % 2:
            raise BadPacket("Macros: a name without a value")
        if len(found) > 2 * MAX_MACROS:
            raise BadPacket(f"Macros: {len(found) // 2}, more than {MAX_MACROS}")
        return cls(payload[:1], tuple(zip(found[::2], found[1::2], strict=True)))


@dataclass(frozen=True, slots=True)
class Connect(Packet):
    """SMFIC_CONNECT: a client came. `hostname` is what the MTA found for its address, `[192.0.2.1]` or `unknown` if nothing."""

    letter = b"C"
    hostname: bytes
    family: bytes = UNKNOWN_FAMILY
    port: int = 0
    address: bytes = b""
    """As sent: `192.0.2.1`, `2001:db8::1` (some send it with `IPv6:` in front), or the path of a UNIX socket."""

    def __post_init__(self) -> None:
        check("Connect", self.hostname, self.address)
        check_number("Connect: the port", self.port, 0xFFFF)
        if self.family not in _FAMILIES:
            raise BadValue("Connect: a family of addresses that there is not")
        if self.family == UNKNOWN_FAMILY and (self.port or self.address):
            raise BadValue("Connect: an address of no family")

    @property
    def ip_address(self) -> str:
        """The client's IP address in its shortest form, `` if it has none or what was sent is none."""
        if self.family not in {INET, INET6}:
            return ""
        text = self.address.decode("latin-1")
        if text[:5].lower() == "ipv6:":
            text = text[5:]
        try:
            return "" if "%" in text else str(ipaddress.ip_address(text))
        except ValueError:
            return ""

    def payload(self) -> bytes:
        """A client of an unknown family has neither port nor address."""
        start = self.hostname + b"\0" + self.family
        return start if self.family == UNKNOWN_FAMILY else start + self.port.to_bytes(2, "big") + self.address + b"\0"

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Behind `U` nothing is looked at: some MTAs send a port and an empty address there, too."""
        hostname, nul, rest = payload.partition(b"\0")
        if not nul or not rest:
            raise BadPacket("Connect: cut off")
        family = rest[:1]
        if family not in _FAMILIES:
            raise BadPacket("Connect: a family of addresses that there is not")
        if family == UNKNOWN_FAMILY:
            return cls(hostname)
        if len(rest) < 4:
            raise BadPacket("Connect: cut off within the address")
        return cls(hostname, family, int.from_bytes(rest[1:3], "big"), exactly(rest[3:], 1, "Connect")[0])


@dataclass(frozen=True, slots=True)
class Helo(Packet):
    """SMFIC_HELO: the name behind EHLO or HELO."""

    letter = b"H"
    name: bytes

    def __post_init__(self) -> None:
        check("Helo", self.name)

    def payload(self) -> bytes:
        """The name."""
        return self.name + b"\0"

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """One string."""
        return cls(*exactly(payload, 1, "Helo"))


@dataclass(frozen=True, slots=True)
class _Path(Packet):
    path: bytes
    """With its angle brackets, as the client sent it."""
    parameters: tuple[bytes, ...] = ()
    """`SIZE=1000`, `BODY=8BITMIME`."""

    def __post_init__(self) -> None:
        check(type(self).__name__, self.path, *self.parameters)

    def payload(self) -> bytes:
        """The path, then the parameters."""
        return joined((self.path, *self.parameters))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """At least a path."""
        found = strings(payload, cls.__name__)
        if not found:
            raise BadPacket(f"{cls.__name__}: no path")
        return cls(found[0], tuple(found[1:]))


@dataclass(frozen=True, slots=True)
class Mail(_Path):
    """SMFIC_MAIL: a transaction begins."""

    letter = b"M"


@dataclass(frozen=True, slots=True)
class Rcpt(_Path):
    """SMFIC_RCPT: a recipient. With RCPT_REJ also one that the MTA refused: macro `{rcpt_mailer}` is `error` then."""

    letter = b"R"


@dataclass(frozen=True, slots=True)
class Data(Packet):
    """SMFIC_DATA (version 4): the client said DATA."""

    letter = b"T"


@dataclass(frozen=True, slots=True)
class Unknown(Packet):
    """SMFIC_UNKNOWN (version 3): a command that the MTA does not know, the whole line."""

    letter = b"U"
    line: bytes

    def __post_init__(self) -> None:
        check("Unknown", self.line)

    def payload(self) -> bytes:
        """The line."""
        return self.line + b"\0"

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """One string."""
        return cls(*exactly(payload, 1, "Unknown"))


@dataclass(frozen=True, slots=True)
class Header(Packet):
    """SMFIC_HEADER: one field. Its lines are parted by LF, and the space behind the colon is there with HDR_LEADSPC only."""

    letter = b"L"
    name: bytes
    value: bytes

    def __post_init__(self) -> None:
        check("Header", self.name, self.value)

    def payload(self) -> bytes:
        """Name and body."""
        return joined((self.name, self.value))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Two strings."""
        return cls(*exactly(payload, 2, "Header"))


@dataclass(frozen=True, slots=True)
class EndOfHeader(Packet):
    """SMFIC_EOH: all fields came."""

    letter = b"N"


@dataclass(frozen=True, slots=True)
class _Octets(Packet):
    chunk: bytes = b""

    def payload(self) -> bytes:
        """The octets as they are."""
        return self.chunk

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Whatever it is."""
        return cls(payload)


@dataclass(frozen=True, slots=True)
class Body(_Octets):
    """SMFIC_BODY: some of the body, lines ending in CRLF, cut anywhere."""

    letter = b"B"


@dataclass(frozen=True, slots=True)
class EndOfBody(_Octets):
    """SMFIC_BODYEOB: the message is whole; a last chunk may come with it. The answer is the verdict, edits in front of it."""

    letter = b"E"


@dataclass(frozen=True, slots=True)
class Abort(Packet):
    """SMFIC_ABORT: this transaction came to nothing. Never answered."""

    letter = b"A"


@dataclass(frozen=True, slots=True)
class Quit(Packet):
    """SMFIC_QUIT: the client is gone, and this connection ends. Never answered."""

    letter = b"Q"


@dataclass(frozen=True, slots=True)
class QuitNewConnection(Packet):
    """SMFIC_QUIT_NC (version 6): the client is gone, another will be told of on this connection. Never answered."""

    letter = b"K"


Command: TypeAlias = (
    Negotiate
    | Macros
    | Connect
    | Helo
    | Mail
    | Rcpt
    | Data
    | Unknown
    | Header
    | EndOfHeader
    | Body
    | EndOfBody
    | Abort
    | Quit
    | QuitNewConnection
)
COMMANDS: dict[bytes, type[Command]] = {
    one.letter: one
    for one in (
        Negotiate,
        Macros,
        Connect,
        Helo,
        Mail,
        Rcpt,
        Data,
        Unknown,
        Header,
        EndOfHeader,
        Body,
        EndOfBody,
        Abort,
        Quit,
        QuitNewConnection,
    )
}
"""Every command by its letter."""
