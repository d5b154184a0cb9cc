"""What a milter answers (SMFIR_): verdicts, which end the wait for an answer, and edits, which stand in front of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeAlias

from gateway.milter.codec.bits import MacroStage
from gateway.milter.codec.errors import BadPacket, BadValue
from gateway.milter.codec.fields import check, check_number, exactly, joined, number, strings
from gateway.milter.codec.packet import Negotiate, Packet, check_names, one_list


@dataclass(frozen=True, slots=True)
class Continue(Packet):
    """SMFIR_CONTINUE: go on; at the end of a message: the edits said before are all."""

    letter = b"c"


@dataclass(frozen=True, slots=True)
class Accept(Packet):
    """SMFIR_ACCEPT: no more questions about this message; at Connect or Helo: about this client."""

    letter = b"a"


@dataclass(frozen=True, slots=True)
class Reject(Packet):
    """SMFIR_REJECT: the MTA says 550 5.7.1 in words of its own."""

    letter = b"r"


@dataclass(frozen=True, slots=True)
class Tempfail(Packet):
    """SMFIR_TEMPFAIL: the MTA says 451 4.7.1 in words of its own."""

    letter = b"t"


@dataclass(frozen=True, slots=True)
class Discard(Packet):
    """SMFIR_DISCARD: the MTA takes the message and throws it away. Not at Connect or Helo."""

    letter = b"d"


@dataclass(frozen=True, slots=True)
class Skip(Packet):
    """SMFIR_SKIP (version 6): enough of the body was seen."""

    letter = b"s"


@dataclass(frozen=True, slots=True)
class ConnectionFailed(Packet):
    """SMFIR_CONN_FAIL: the MTA drops the client's connection."""

    letter = b"f"


@dataclass(frozen=True, slots=True)
class Shutdown(Packet):
    """SMFIR_SHUTDOWN: the MTA says 421 and ends the session."""

    letter = b"4"


@dataclass(frozen=True, slots=True)
class ReplyCode(Packet):
    """SMFIR_REPLYCODE: the MTA says this reply. `text` is as sent: lines parted by CRLF, `%` doubled."""

    letter = b"y"
    text: bytes

    def __post_init__(self) -> None:
        check("ReplyCode", self.text)

    @classmethod
    def of(cls, code: int, enhanced: str, *lines: bytes) -> Self:
        """A reply of so many lines. BadValue where Sendmail or Postfix would not take it: they want 4xx or 5xx, and no control characters."""
        if not 400 <= code <= 599 or not enhanced.isascii() or (enhanced and enhanced[0] != str(code)[0]):
            raise BadValue(f"ReplyCode: {code} {enhanced} is none that a milter may give")
        texts = lines or (b"",)
        if any(octet < 0x20 or octet == 0x7F for line in texts for octet in line):
            raise BadValue("ReplyCode: a control character within a line")
        front = f"{enhanced} ".encode() if enhanced else b""
        said = [b"%d%s%s%s" % (code, b"-" if n < len(texts) else b" ", front, line) for n, line in enumerate(texts, 1)]
        return cls(b"\r\n".join(said).replace(b"%", b"%%"))

    def lines(self) -> list[bytes]:
        """The lines as the client is to see them: `%%` is one `%`, and a single `%`, which means nothing, is left out as Postfix does."""
        text = self.text.replace(b"%%", b"\0").replace(b"%", b"").replace(b"\0", b"%")
        return [line.rstrip(b"\r") for line in text.rstrip(b"\r\n").split(b"\n")]

    @property
    def code(self) -> int:
        """400 to 599. BadPacket where the text does not begin so."""
        first = self.text[:3]
        if len(first) < 3 or not first.isdigit() or first[:1] not in {b"4", b"5"} or self.text[3:4] not in {b" ", b"-", b""}:
            raise BadPacket("ReplyCode: begins with no code of 4xx or 5xx")
        return int(first)

    def payload(self) -> bytes:
        """The text."""
        return self.text + b"\0"

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Some milters leave the NUL out; Postfix takes that, too."""
        text = payload.rstrip(b"\0")
        if b"\0" in text:
            raise BadPacket("ReplyCode: a NUL within the text")
        return cls(text)


@dataclass(frozen=True, slots=True)
class Progress(Packet):
    """SMFIR_PROGRESS: still at it; the MTA's time limit for the answer begins anew."""

    letter = b"p"


@dataclass(frozen=True, slots=True)
class _Field(Packet):
    name: bytes
    value: bytes
    """Lines parted by LF; without the space behind the colon, unless HDR_LEADSPC was agreed."""

    def __post_init__(self) -> None:
        check(type(self).__name__, self.name, self.value)
        if not self.name:
            raise BadValue(f"{type(self).__name__}: a field without a name")

    def payload(self) -> bytes:
        """Name and body."""
        return joined((self.name, self.value))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Two strings, the first not empty."""
        name, value = exactly(payload, 2, cls.__name__)
        if not name:
            raise BadPacket(f"{cls.__name__}: a field without a name")
        return cls(name, value)


@dataclass(frozen=True, slots=True)
class AddHeader(_Field):
    """SMFIR_ADDHEADER: a field behind the others."""

    letter = b"h"


@dataclass(frozen=True, slots=True)
class _IndexedField(Packet):
    index: int
    name: bytes
    value: bytes

    def __post_init__(self) -> None:
        check(type(self).__name__, self.name, self.value)
        check_number(f"{type(self).__name__}: the index", self.index)
        if not self.name:
            raise BadValue(f"{type(self).__name__}: a field without a name")

    def payload(self) -> bytes:
        """The number in front."""
        return self.index.to_bytes(4, "big") + joined((self.name, self.value))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """A number and two strings."""
        index, rest = number(payload, cls.__name__)
        name, value = exactly(rest, 2, cls.__name__)
        if not name:
            raise BadPacket(f"{cls.__name__}: a field without a name")
        return cls(index, name, value)


@dataclass(frozen=True, slots=True)
class ChangeHeader(_IndexedField):
    """SMFIR_CHGHEADER: the field of that name that is the index-th of them, from 1, gets another body; an empty one removes it."""

    letter = b"m"


@dataclass(frozen=True, slots=True)
class InsertHeader(_IndexedField):
    """SMFIR_INSHEADER: a field at a place among all of them; 0 is the top."""

    letter = b"i"


@dataclass(frozen=True, slots=True)
class _Recipient(Packet):
    path: bytes

    def __post_init__(self) -> None:
        check(type(self).__name__, self.path)

    def payload(self) -> bytes:
        """The path."""
        return self.path + b"\0"

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """One string."""
        return cls(*exactly(payload, 1, cls.__name__))


@dataclass(frozen=True, slots=True)
class AddRecipient(_Recipient):
    """SMFIR_ADDRCPT: another recipient."""

    letter = b"+"


@dataclass(frozen=True, slots=True)
class DeleteRecipient(_Recipient):
    """SMFIR_DELRCPT: one recipient less; the path must be as it came in Rcpt."""

    letter = b"-"


@dataclass(frozen=True, slots=True)
class _PathWithParameters(Packet):
    path: bytes
    parameters: bytes = b""
    """ESMTP parameters in one string, parted by spaces."""

    def __post_init__(self) -> None:
        check(type(self).__name__, self.path, self.parameters)

    def payload(self) -> bytes:
        """The second string only if there is something in it."""
        return joined((self.path, self.parameters) if self.parameters else (self.path,))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """One string or two."""
        found = strings(payload, cls.__name__)
        if len(found) not in {1, 2}:
            raise BadPacket(f"{cls.__name__}: {len(found)} strings instead of 1 or 2")
        return cls(*found)


@dataclass(frozen=True, slots=True)
class AddRecipientWithParameters(_PathWithParameters):
    """SMFIR_ADDRCPT_PAR (version 6): another recipient, with parameters."""

    letter = b"2"


@dataclass(frozen=True, slots=True)
class ChangeFrom(_PathWithParameters):
    """SMFIR_CHGFROM (version 6): another reverse-path."""

    letter = b"e"


@dataclass(frozen=True, slots=True)
class ReplaceBody(Packet):
    """SMFIR_REPLBODY: a part of the new body; the parts make it whole, and the old one is gone with the first."""

    letter = b"b"
    chunk: bytes = b""

    def payload(self) -> bytes:
        """The octets as they are."""
        return self.chunk

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Whatever it is."""
        return cls(payload)


@dataclass(frozen=True, slots=True)
class Quarantine(Packet):
    """SMFIR_QUARANTINE: the MTA puts the message into its own hold queue."""

    letter = b"q"
    reason: bytes = b""

    def __post_init__(self) -> None:
        check("Quarantine", self.reason)

    def payload(self) -> bytes:
        """The reason."""
        return self.reason + b"\0"

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """One string; Postfix takes it without its NUL, too."""
        if b"\0" in payload.rstrip(b"\0"):
            raise BadPacket("Quarantine: a NUL within the reason")
        return cls(payload.rstrip(b"\0"))


@dataclass(frozen=True, slots=True)
class SetMacros(Packet):
    """SMFIR_SETSYMLIST: macros wanted for a stage. libmilter puts these lists into the negotiation instead: see Negotiate."""

    letter = b"l"
    stage: MacroStage
    names: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        check_names(self.names)

    def payload(self) -> bytes:
        """A number and a string."""
        return self.stage.to_bytes(4, "big") + b" ".join(self.names) + b"\0"

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """One list and no more."""
        stage, names, rest = one_list(payload, "SetMacros")
        if rest:
            raise BadPacket("SetMacros: more than one list")
        return cls(stage, names)


Verdict: TypeAlias = Continue | Accept | Reject | Tempfail | Discard | Skip | ConnectionFailed | Shutdown | ReplyCode
"""Ends the wait for an answer."""
Edit: TypeAlias = (
    AddHeader
    | ChangeHeader
    | InsertHeader
    | AddRecipient
    | AddRecipientWithParameters
    | DeleteRecipient
    | ChangeFrom
    | ReplaceBody
    | Quarantine
)
"""Only in front of the answer to EndOfBody, if its action was agreed."""
Answer: TypeAlias = Negotiate | Verdict | Edit | Progress | SetMacros
ANSWERS: dict[bytes, type[Answer]] = {
    one.letter: one
    for one in (
        Negotiate,
        Continue,
        Accept,
        Reject,
        Tempfail,
        Discard,
        Skip,
        ConnectionFailed,
        Shutdown,
        ReplyCode,
        Progress,
        AddHeader,
        ChangeHeader,
        InsertHeader,
        AddRecipient,
        AddRecipientWithParameters,
        DeleteRecipient,
        ChangeFrom,
        ReplaceBody,
        Quarantine,
        SetMacros,
    )
}
"""Every answer by its letter."""
