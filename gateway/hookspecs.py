"""The hooks, in the order of a session: this module is the reference of the plugin API.

Every hook may be `def` or `async def` and takes the arguments that it names, no others. Each docstring says: when it
runs, what it may read, what its answer does, what an error or a time-out costs, and the RFC section it belongs to.
`docs/plugins/hooks.md` is made from here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import pluggy

from gateway.context import Context
from gateway.edits import AddHeader, Edit
from gateway.findings import Finding, Score
from gateway.plugin import PROJECT
from gateway.session import Session
from gateway.transaction import Outcome, Recipient, Transaction
from gateway.verdict import (
    Accept,
    AddRecipient,
    Defer,
    Discard,
    Note,
    Redirect,
    Reject,
    UseForwardPath,
    UseReversePath,
    Verdict,
)

if TYPE_CHECKING:
    from gateway.message import Message

hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def startup(context: Context) -> None:
    """Get ready: open what the plugin needs, load tables, start background work.

    When: once in each worker, before it takes connections, in the order of the chain.
    Reads: `context`, which is also `self.context`.
    Answer: none.
    Error or time-out: the worker does not start; a reload keeps the generation before.
    RFC: none.
    """


@hookspec
def connect(session: Session) -> Reject | Defer | None:
    """Refuse a connection before the greeting.

    When: a connection was accepted and its PROXY header, if any, read.
    Reads: `session`: the client's address and class; HELO name and TLS are not known yet.
    Answer: reject makes the greeting 554, defer 421; the first answer counts.
    Error or time-out: `on_error = "defer"` makes the greeting 421, `"ignore"` goes on.
    RFC: 5321 3.1, 4.3.2.
    """


@hookspec
def helo(session: Session) -> Reject | Defer | None:
    """Refuse a HELO, EHLO or LHLO name.

    When: at each HELO, EHLO or LHLO with a right syntax.
    Reads: `session`: now with `helo`; after STARTTLS with `tls` too.
    Answer: reject or defer become the reply to the command; the first answer counts.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` goes on.
    RFC: 5321 4.1.1.1.
    """


@hookspec
def authenticated(session: Session) -> Reject | Defer | None:
    """Refuse a client although its credentials are right.

    When: the next hop accepted AUTH, before its 235 is passed on.
    Reads: `session`: now with `identity` and the class `authenticated`.
    Answer: reject or defer become the reply, and the link that was logged in is closed; the first answer counts.
    Error or time-out: `on_error = "defer"` makes the reply 454 or 451, `"ignore"` goes on.
    RFC: 4954 4, 6.
    """


@hookspec
def mail(transaction: Transaction) -> Reject | Defer | Discard | UseReversePath | None:
    """Judge the reverse-path, or send another one on.

    When: at MAIL, before the next hop is asked.
    Reads: `transaction`: reverse-path and parameters; no recipients yet.
    Answer: the first of reject, defer and discard decides the transaction; the first `use_reverse_path` is what the
    next hop sees.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` goes on.
    RFC: 5321 3.3, 4.1.1.2.
    """


@hookspec
def rcpt(
    transaction: Transaction, recipient: Recipient
) -> Accept | Reject | Defer | Discard | Redirect | UseForwardPath | AddRecipient | None:
    """Judge one recipient, send its mail elsewhere, or add another recipient.

    When: at each RCPT, after the relay rule and before the next hop is asked.
    Reads: `transaction` with the recipients accepted so far; `recipient`, the one asked about.
    Answer: the first verdict decides this recipient. `accept` spares it the judges and never overrides the relay rule or
    the next hop. The first `use_forward_path` counts; every `add_recipient` does.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` goes on.
    RFC: 5321 3.3, 4.1.1.3.
    """


@hookspec
def route(transaction: Transaction, recipient: Recipient) -> str | None:
    """Choose the route of a recipient.

    When: at each RCPT, after `rcpt`.
    Reads: `transaction` and `recipient`.
    Answer: the name of a `[[route]]`; the first answer counts. None: the configured routing.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` leaves the configured routing.
    RFC: 5321 3.6, 5.1.
    """


@hookspec
def policy_class(transaction: Transaction, recipient: Recipient) -> Hashable | None:
    """Say which recipients may have another fate than others, so that they come in separate transactions.

    When: at each RCPT of an unauthenticated client, after `route`.
    Reads: `transaction` and `recipient`.
    Answer: a str, an int or a tuple of them. The answers of all plugins together are the recipient's class; a recipient of
    another class than the first gets 452 4.5.3, which makes the client send to it separately.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` counts as no opinion.
    RFC: 5321 4.5.3.1.10.
    """


@hookspec
def data(transaction: Transaction) -> Reject | Defer | None:
    """Refuse before the content is sent.

    When: at DATA, before 354.
    Reads: `transaction` with all its recipients.
    Answer: reject or defer become the reply to DATA; the first answer counts.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` goes on.
    RFC: 5321 3.3, 4.1.1.4.
    """


@hookspec
def check(transaction: Transaction, message: Message) -> Finding | Iterable[Finding] | None:
    """Find something out about a message, and decide nothing.

    When: the whole content is in the spool. All checks run at once, save that one with `needs` waits for those that give
    what it needs.
    Reads: `transaction` with the findings given so far; `message`.
    Answer: findings, which judges, rules and other checks read. In monitor mode they count too: they are facts.
    Error or time-out: `on_error = "defer"` defers every undecided recipient (451), `"ignore"` goes on without a finding.
    RFC: 8601 for findings of the type `AuthResult`.
    """


@hookspec
def judge(transaction: Transaction, message: Message) -> Verdict | Note | Score | Sequence[Verdict | Note | Score] | None:
    """Decide about the recipients that nobody has decided yet.

    When: after every check; in the order of the chain, until no recipient is undecided.
    Reads: `transaction` with all findings; `transaction.undecided`; `message`.
    Answer: a verdict is for all undecided recipients, or for those it names (`verdict.only(…)`). The first verdict on a
    recipient decides that recipient. `redirect` is possible only while all recipients are undecided, and for all of them.
    Beside verdicts: `skip("dmarc")` (that plugin, later in the chain, does not judge this transaction), a `Score` for the
    judges that follow, and `would(verdict)`, which is written down only.
    Error or time-out: `on_error = "defer"` defers every undecided recipient (451), `"ignore"` counts as no opinion.
    RFC: 5321 4.2.5, 6.1.
    """


@hookspec
def rewrite(transaction: Transaction, message: Message) -> Edit | Sequence[Edit] | None:
    """Change header fields.

    When: something is to be forwarded or held; in the order of the chain.
    Reads: `transaction` with all findings and decisions; `message` as received.
    Answer: edits, made by `add_header`, `replace_header`, `remove_header` and `tag_subject`. They are for the message, not
    for one recipient.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` goes on without these edits.
    RFC: 5322 3.6, 5321 6.4.
    """


@hookspec
def sign(transaction: Transaction, message: Message) -> AddHeader | Finding | Sequence[AddHeader | Finding] | None:
    """Put signatures on top of the message as it will be sent.

    When: after every edit, Received and Authentication-Results are in place; in the order of the chain.
    Reads: `transaction`; `message`, now with the final octets.
    Answer: `add_header`; the field of a later plugin stands above that of an earlier one. A finding, such as why nothing is
    signed, goes into the record.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` sends without this signature.
    RFC: 6376 5.
    """


@hookspec
def done(transaction: Transaction, outcome: Outcome) -> None:
    """Learn how a transaction ended.

    When: the reply was sent, or the client left.
    Reads: `transaction` with everything; `outcome` with the fate of each recipient.
    Answer: none.
    Error or time-out: recorded; nobody's mail is touched.
    RFC: none.
    """


@hookspec
def disconnect(session: Session) -> None:
    """Learn that a session ended.

    When: the connection is closed, by whichever side.
    Reads: `session`.
    Answer: none.
    Error or time-out: recorded; nobody's mail is touched.
    RFC: 5321 4.1.1.10.
    """


@hookspec
def shutdown() -> None:
    """Put away what `startup` opened.

    When: once in each worker, after its last transaction; in the reverse order of the chain.
    Reads: `self` only.
    Answer: none.
    Error or time-out: recorded; the worker ends all the same.
    RFC: none.
    """
