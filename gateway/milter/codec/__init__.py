"""The milter protocol of Sendmail 8 (versions 2 to 6), both sides, without I/O. Public API beside `gateway`.

| module | what |
|---|---|
| `commands` | what an MTA sends: one frozen value class each |
| `answers` | what a milter answers: verdicts, edits, signs of life |
| `wire` | `write(*packets) -> octets`, and `Reader`: octets cut anywhere in, packets out, bounded |
| `bits` | actions, steps and stages, and which version has which |
| `negotiation` | `offer`, `take`, `agree`: what both sides keep to, an `Agreement` |
| `states` | which packet may come when, the same table for both sides |

There is no RFC: the facts are those of libmilter's headers, Sendmail's and Postfix's own code. The codec reads what real MTAs and
milters send and writes what they take; what it cannot read is `BadPacket`, what it is asked to write and cannot be said `BadValue`.

    reader = read_answers()
    for answer in reader.feed(octets):
        state = after_answer(state, EndOfBody, answer, agreed)
"""

from gateway.milter.codec.answers import (
    Accept,
    AddHeader,
    AddRecipient,
    AddRecipientWithParameters,
    Answer,
    ChangeFrom,
    ChangeHeader,
    ConnectionFailed,
    Continue,
    DeleteRecipient,
    Discard,
    Edit,
    InsertHeader,
    Progress,
    Quarantine,
    Reject,
    ReplaceBody,
    ReplyCode,
    SetMacros,
    Shutdown,
    Skip,
    Tempfail,
    Verdict,
)
from gateway.milter.codec.bits import NEWEST, OLDEST, Actions, MacroStage, Steps
from gateway.milter.codec.commands import (
    INET,
    INET6,
    UNIX,
    UNKNOWN_FAMILY,
    Abort,
    Body,
    Command,
    Connect,
    Data,
    EndOfBody,
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
from gateway.milter.codec.errors import BadPacket, BadValue, CodecError
from gateway.milter.codec.negotiation import Agreement, agree, offer, take
from gateway.milter.codec.packet import Negotiate, Packet
from gateway.milter.codec.states import State, after_answer, after_command, is_last
from gateway.milter.codec.wire import LONGEST, Reader, chunks, read_answers, read_commands, write

__all__ = [
    "INET",
    "INET6",
    "LONGEST",
    "NEWEST",
    "OLDEST",
    "UNIX",
    "UNKNOWN_FAMILY",
    "Abort",
    "Accept",
    "Actions",
    "AddHeader",
    "AddRecipient",
    "AddRecipientWithParameters",
    "Agreement",
    "Answer",
    "BadPacket",
    "BadValue",
    "Body",
    "ChangeFrom",
    "ChangeHeader",
    "CodecError",
    "Command",
    "Connect",
    "ConnectionFailed",
    "Continue",
    "Data",
    "DeleteRecipient",
    "Discard",
    "Edit",
    "EndOfBody",
    "EndOfHeader",
    "Header",
    "Helo",
    "InsertHeader",
    "MacroStage",
    "Macros",
    "Mail",
    "Negotiate",
    "Packet",
    "Progress",
    "Quarantine",
    "Quit",
    "QuitNewConnection",
    "Rcpt",
    "Reader",
    "Reject",
    "ReplaceBody",
    "ReplyCode",
    "SetMacros",
    "Shutdown",
    "Skip",
    "State",
    "Steps",
    "Tempfail",
    "Unknown",
    "Verdict",
    "after_answer",
    "after_command",
    "agree",
    "chunks",
    "is_last",
    "offer",
    "read_answers",
    "read_commands",
    "take",
    "write",
]
