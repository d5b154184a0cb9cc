"""One file a verb: parse, ask the chain, ask the next hop, change the transaction, return a reply.

Only `server` writes to the socket; a verb returns a Reply, or Pending while the next hop still owes it. Where it has to wait
for something else (a plugin, a database) it returns a coroutine that ends so; what needs no waiting costs no task.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from gateway.smtp.conversation import Conversation, Pending
from gateway.smtp.protocol import Command
from gateway.smtp.replies import Reply
from gateway.smtp.verbs.asking import etrn, expn, vrfy
from gateway.smtp.verbs.auth import auth
from gateway.smtp.verbs.bdat import bdat
from gateway.smtp.verbs.data import data
from gateway.smtp.verbs.hello import hello
from gateway.smtp.verbs.introducing import xclient, xforward
from gateway.smtp.verbs.mail import mail
from gateway.smtp.verbs.rcpt import rcpt
from gateway.smtp.verbs.simple import help_, never, noop, quit_, rset, starttls

Result = Reply | Pending | Coroutine[Any, Any, Reply | Pending]
Verb = Callable[[Conversation, Command], Result]

VERBS: dict[str, Verb] = {
    "EHLO": hello,
    "HELO": hello,
    "LHLO": hello,
    "MAIL": mail,
    "RCPT": rcpt,
    "DATA": data,
    "BDAT": bdat,
    "XCLIENT": xclient,
    "XFORWARD": xforward,
    "RSET": rset,
    "NOOP": noop,
    "VRFY": vrfy,
    "EXPN": expn,
    "HELP": help_,
    "BURL": never,
    "TURN": never,
    "STARTTLS": starttls,
    "AUTH": auth,
    "ETRN": etrn,
    "QUIT": quit_,
}
MAY_FOLLOW_PENDING = frozenset({"RCPT"})
"""Verbs that are handled while replies to earlier ones are still owed: they go out pipelined (RFC 2920 3.1)."""
AT_ONCE = frozenset({"MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"})
"""Verbs that are tried without the session's task, as those of HELLO are; of the others none is said by every client."""
HELLO = frozenset({"EHLO", "HELO", "LHLO"})
WITH_ARGUMENT = frozenset({"MAIL", "RCPT"}) | HELLO
"""Of these the ones that have an argument."""
