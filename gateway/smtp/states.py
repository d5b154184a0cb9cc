"""The state machine of a session: RFC 5321 4.1.4 as a table.

GREETING  nothing but the greeting was said; EHLO, HELO and what needs no transaction may come.
READY     greeted by EHLO or HELO (in LMTP by LHLO, RFC 2033 4.1); MAIL may come.
MAIL      a reverse-path was accepted; RCPT may come.
RCPT      a recipient was accepted; more RCPT, or DATA, or the first BDAT.
BDAT      a chunk came that was not the last: more BDAT, or RSET (RFC 3030 2).
REFUSED   the session was refused in the greeting (554): QUIT is all it may say (RFC 5321 3.1).

`ALLOWED` holds the state after the verb succeeded; a verb that is missing there is out of order: 503 5.5.1.
A verb that is refused leaves the state as it was, save BDAT: behind a refused chunk nothing but chunks makes sense. Content is no state of this table: between 354 and the final
dot there are no commands.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from gateway.smtp.replies import Reply, reply


class State(Enum):
    """Where a session stands."""

    GREETING = "greeting"
    READY = "ready"
    MAIL = "mail"
    RCPT = "rcpt"
    BDAT = "bdat"
    REFUSED = "refused"

    __hash__ = object.__hash__  # each state is one object; Enum's own is Python code, run for every command


NEVER: Final = frozenset({"BURL", "TURN"})
"""Verbs that are known, to say clearly that they are not done: content from elsewhere (RFC 4468), turning round (RFC 5321 F.1)."""
_ALWAYS: Final = ("NOOP", "HELP", "VRFY", "EXPN", "QUIT", *sorted(NEVER))


def _staying(state: State, **moves: State) -> dict[str, State]:
    return {**dict.fromkeys(_ALWAYS, state), **moves, **({"LHLO": moves["EHLO"]} if "EHLO" in moves else {})}


ALLOWED: Final[dict[State, dict[str, State]]] = {
    State.GREETING: _staying(
        State.GREETING,
        EHLO=State.READY,
        HELO=State.READY,
        RSET=State.GREETING,
        XCLIENT=State.GREETING,
        XFORWARD=State.GREETING,
    ),
    State.READY: _staying(
        State.READY,
        EHLO=State.READY,
        HELO=State.READY,
        RSET=State.READY,
        AUTH=State.READY,
        ETRN=State.READY,
        MAIL=State.MAIL,
        STARTTLS=State.GREETING,
        XCLIENT=State.GREETING,
        XFORWARD=State.READY,
    ),
    State.MAIL: _staying(State.MAIL, EHLO=State.READY, HELO=State.READY, RSET=State.READY, RCPT=State.RCPT),
    State.RCPT: _staying(
        State.RCPT, EHLO=State.READY, HELO=State.READY, RSET=State.READY, RCPT=State.RCPT, DATA=State.READY, BDAT=State.BDAT
    ),
    State.BDAT: _staying(State.BDAT, EHLO=State.READY, HELO=State.READY, RSET=State.READY, BDAT=State.BDAT),
    State.REFUSED: {"QUIT": State.REFUSED},
}
AFTER_LAST: Final = State.READY
"""After BDAT with LAST, which ends the content as the dot does (RFC 3030 2)."""
VERBS: Final = frozenset(verb for row in ALLOWED.values() for verb in row)
SPOKEN: Final = {"smtp": VERBS - {"LHLO"}, "lmtp": VERBS - {"EHLO", "HELO"}}
"""The verbs of each protocol; the others are unknown to it (RFC 2033 4.1)."""

_WANTED: Final = {
    "MAIL": "send EHLO or HELO (in LMTP: LHLO) first, one MAIL at a time",
    "RCPT": "need MAIL command",
    "DATA": "need RCPT command",
    "AUTH": "AUTH comes after EHLO, outside of a transaction",
    "ETRN": "ETRN comes after EHLO, outside of a transaction",
    "BDAT": "need RCPT command",
    "XCLIENT": "XCLIENT comes outside of a transaction",
    "XFORWARD": "XFORWARD comes outside of a transaction",
    "STARTTLS": "STARTTLS comes after EHLO, outside of a transaction",
}


def advance(state: State, verb: str) -> State | Reply:
    """The state after the verb, or the 503 that says what is missing (RFC 5321 4.1.4)."""
    after = ALLOWED[state].get(verb)
    if after is not None:
        return after
    if state is State.REFUSED:
        return reply(503, "5.5.1", "Session refused; only QUIT is left")
    if state is State.BDAT:
        return reply(503, "5.5.1", "Bad sequence of commands: chunks are under way, send BDAT or RSET")
    return reply(503, "5.5.1", f"Bad sequence of commands: {_WANTED.get(verb, verb)}")
