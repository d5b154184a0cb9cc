"""The hooks, in the order of a session: this module is the reference of the plugin API.

Every hook may be `def` or `async def` and takes the arguments that it names, no others. Each docstring says: when it
runs, what it may read, what its answer does, what an error or a time-out costs, the RFC section it belongs to, and an example.
`docs/plugins/hooks.md` is made from here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import pluggy

from gateway.context import Context
from gateway.edits import AddHeader, Edit
from gateway.findings import Finding, Label, Score
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
    Would,
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

    Examples:
        >>> class Table(Plugin):
        ...     @hook
        ...     async def startup(self, context: Context) -> None:
        ...         self.addresses = frozenset(["bob@example.org"])
        ...     @hook
        ...     async def rcpt(self, recipient: Recipient) -> Reject | None:
        ...         return None if recipient.mailbox in self.addresses else reject("No such mailbox", enhanced="5.1.1")
        >>> (await run_plugin(Table())).verdict is None
        True
    """


@hookspec
def connect(session: Session) -> Reject | Defer | None:
    """Refuse a connection before the greeting.

    When: a connection was accepted and its PROXY header, if any, read.
    Reads: `session`: the client's address and class; HELO name and TLS are not known yet.
    Answer: reject makes the greeting 554, defer 421; the first answer counts.
    Error or time-out: `on_error = "defer"` makes the greeting 421, `"ignore"` goes on.
    RFC: 5321 3.1, 4.3.2.

    Examples:
        >>> class Closed(Plugin):
        ...     @hook(cheap=True)
        ...     def connect(self, session: Session) -> Reject | None:
        ...         return reject("Go away", code=554) if session.client_address == "192.0.2.66" else None
        >>> (await run_plugin(Closed(), session=a_session(client_address="192.0.2.66"))).verdict.code
        554
    """


@hookspec
def helo(session: Session) -> Reject | Defer | None:
    """Refuse a HELO, EHLO or LHLO name.

    When: at each HELO, EHLO or LHLO with a right syntax.
    Reads: `session`: now with `helo`; after STARTTLS with `tls` too.
    Answer: reject or defer become the reply to the command; the first answer counts.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` goes on.
    RFC: 5321 4.1.1.1.

    Examples:
        >>> class Literals(Plugin):
        ...     @hook(cheap=True)
        ...     def helo(self, session: Session) -> Reject | None:
        ...         return reject("A name, please", enhanced="5.5.2") if session.helo.startswith("[") else None
        >>> (await run_plugin(Literals(), session=a_session(helo="[192.0.2.1]"))).verdict.enhanced
        '5.5.2'
    """


@hookspec
def authenticated(session: Session) -> Reject | Defer | None:
    """Refuse a client although its credentials are right.

    When: the next hop accepted AUTH, before its 235 is passed on.
    Reads: `session`: now with `identity` and the class `authenticated`.
    Answer: reject or defer become the reply, and the link that was logged in is closed; the first answer counts.
    Error or time-out: `on_error = "defer"` makes the reply 454 or 451, `"ignore"` goes on.
    RFC: 4954 4, 6.

    Examples:
        >>> class Suspended(Plugin):
        ...     @hook
        ...     async def authenticated(self, session: Session) -> Reject | None:
        ...         return reject("Ask the help desk", code=535, enhanced="5.7.8") if session.identity == "mallory" else None
        >>> (await run_plugin(Suspended(), session=a_session(identity="mallory"))).verdict.code
        535
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

    Examples:
        >>> class Bounces(Plugin):
        ...     @hook
        ...     async def mail(self, transaction: Transaction) -> UseReversePath | None:
        ...         path = transaction.reverse_path
        ...         return None if path.is_null else use_reverse_path(f"bounces+{path.local_part}@example.org")
        >>> (await run_plugin(Bounces())).transaction.sent_reverse_path
        b'<bounces+alice@example.org>'
    """


@hookspec
def rcpt(
    transaction: Transaction, recipient: Recipient
) -> (
    Accept
    | Reject
    | Defer
    | Discard
    | Redirect
    | UseForwardPath
    | AddRecipient
    | Would
    | Sequence[Accept | Reject | Defer | Discard | Redirect | UseForwardPath | AddRecipient | Would]
    | None
):
    """Judge one recipient, send its mail elsewhere, or add another recipient.

    When: at each RCPT, after the relay rule and before the next hop is asked.
    Reads: `transaction` with the recipients accepted so far; `recipient`, the one asked about.
    Answer: the first verdict decides this recipient. `accept` spares it the judges and never overrides the relay rule or
    the next hop. The first `use_forward_path` counts, and the plugins that follow see it (`recipient.onward_path`); every
    `add_recipient` does. `would(verdict)` is written down only.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` goes on.
    RFC: 5321 3.3, 4.1.1.3.

    Examples:
        >>> class Former(Plugin):
        ...     @hook
        ...     async def rcpt(self, recipient: Recipient) -> Reject | None:
        ...         gone = recipient.mailbox.startswith("former.")
        ...         return reject("No longer with us", enhanced="5.1.6") if gone else None
        >>> two = a_transaction(recipients=["bob@example.org", "former.carol@example.org"])
        >>> {mailbox: decision is None for mailbox, decision in (await run_plugin(Former(), transaction=two)).decisions.items()}
        {'bob@example.org': True, 'former.carol@example.org': False}
    """


@hookspec
def route(transaction: Transaction, recipient: Recipient) -> str | None:
    """Choose the route of a recipient.

    When: at each RCPT, after `rcpt`.
    Reads: `transaction` and `recipient`.
    Answer: the name of a `[[route]]`; the first answer counts. None: the configured routing.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` leaves the configured routing.
    RFC: 5321 3.6, 5.1.

    Examples:
        >>> class Lists(Plugin):
        ...     @hook
        ...     async def route(self, recipient: Recipient) -> str | None:
        ...         return "lists" if recipient.domain == "lists.example.org" else None
        >>> [one.route for one in (await run_plugin(Lists(), transaction=a_transaction(recipients=["a@lists.example.org"]))).recipients]
        ['lists']
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

    Examples:
        >>> class Strictness(Plugin):
        ...     @hook
        ...     async def policy_class(self, recipient: Recipient) -> str:
        ...         return "strict" if recipient.mailbox == "ceo@example.org" else "usual"
        >>> [one.policy_class for one in (await run_plugin(Strictness())).recipients]
        [('usual',)]
    """


@hookspec
def data(transaction: Transaction) -> Reject | Defer | None:
    """Refuse before the content is sent.

    When: at DATA, before 354.
    Reads: `transaction` with all its recipients.
    Answer: reject or defer become the reply to DATA; the first answer counts.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` goes on.
    RFC: 5321 3.3, 4.1.1.4.

    Examples:
        >>> class Crowd(Plugin):
        ...     @hook
        ...     async def data(self, transaction: Transaction) -> Reject | None:
        ...         return reject("Too many at once", enhanced="5.5.3") if len(transaction.recipients) > 2 else None
        >>> many = a_transaction(recipients=[f"user{n}@example.org" for n in range(3)])
        >>> (await run_plugin(Crowd(), transaction=many)).verdict.text
        'Too many at once'
    """


@hookspec
def check(transaction: Transaction, message: Message) -> Finding | Iterable[Finding] | None:
    """Find something out about a message, and decide nothing.

    When: the whole content is in the spool; a check that does not take `message` begins with the content (354), and its
    look-ups are under way while the octets arrive. All checks run at once, save that one with `needs` waits for those that
    give what it needs.
    Reads: `transaction` with the findings given so far; `message`.
    Answer: findings, which judges, rules and other checks read. In monitor mode they count too: they are facts.
    Error or time-out: `on_error = "defer"` defers every undecided recipient (451), `"ignore"` goes on without a finding.
    RFC: 8601 for findings of the type `AuthResult`.

    Examples:
        >>> class Lists(Plugin):
        ...     @hook
        ...     async def check(self, message: Message) -> Label | None:
        ...         field = message.field("List-Id")
        ...         return Label(name="mailing-list", evidence=field.value) if field else None
        >>> (await run_plugin(Lists(), message=a_message(headers=[("List-Id", "<talk.example.net>")]))).findings
        (Label(name='mailing-list', evidence='<talk.example.net>'),)
    """


@hookspec
def judge(
    transaction: Transaction, message: Message
) -> Verdict | Note | Score | Label | Sequence[Verdict | Note | Score | Label] | None:
    """Decide about the recipients that nobody has decided yet.

    When: after every check; in the order of the chain, until no recipient is undecided.
    Reads: `transaction` with all findings; `transaction.undecided`; `message`.
    Answer: a verdict is for all undecided recipients, or for those it names (`verdict.only(…)`). The first verdict on a
    recipient decides that recipient. `redirect` is possible only while all recipients are undecided, and for all of them.
    Beside verdicts: `skip("dmarc")` (that plugin, later in the chain, does not judge this transaction), a `Score` or a
    `Label` for the judges that follow, and `would(verdict)`, which is written down only.
    Error or time-out: `on_error = "defer"` defers every undecided recipient (451), `"ignore"` counts as no opinion.
    RFC: 5321 4.2.5, 6.1.

    Examples:
        >>> class Executables(Plugin):
        ...     @hook
        ...     async def judge(self, message: Message) -> Verdict | None:
        ...         names = [part.filename for part in message.attachments if part.filename.lower().endswith(".exe")]
        ...         return quarantine("executable", evidence=", ".join(names)) if names else None
        >>> (await run_plugin(Executables(), message=a_message(attach="invoice.EXE"))).verdict.evidence
        'invoice.EXE'
    """


@hookspec
def rewrite(transaction: Transaction, message: Message) -> Edit | Sequence[Edit] | None:
    """Change header fields, or the body.

    When: something is to be forwarded or held; in the order of the chain.
    Reads: `transaction` with all findings and decisions; `message` as received.
    Answer: edits, made by `add_header`, `insert_header`, `replace_header`, `remove_header`, `tag_subject`, `replace_part`, `remove_part` and `replace_body`.
    They are for the message, not for one recipient. A part that is replaced gives way to a new body; both break signatures of others.
    Error or time-out: `on_error = "defer"` makes the reply 451, `"ignore"` goes on without these edits.
    RFC: 5322 3.6, 5321 6.4.

    Examples:
        >>> class Tidy(Plugin):
        ...     @hook
        ...     async def rewrite(self, message: Message) -> list[Edit]:
        ...         return [remove_header("X-Internal"), tag_subject("[EXTERNAL]")] if message.field("X-Internal") else []
        >>> len((await run_plugin(Tidy(), message=a_message(headers=[("X-Internal", "1")]))).edits)
        2
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

    Examples:
        >>> from hashlib import sha256
        >>> class Sum(Plugin):
        ...     @hook
        ...     async def sign(self, message: Message) -> AddHeader:
        ...         return add_header("X-Body-Sum", sha256(message.octets[message.body_offset :]).hexdigest()[:8])
        >>> (await run_plugin(Sum(), message=a_message(body="Hello"))).signatures[0].value
        '185f8db3'
    """


@hookspec
def done(transaction: Transaction, outcome: Outcome) -> None:
    """Learn how a transaction ended.

    When: the reply was sent, or the client left.
    Reads: `transaction` with everything; `outcome` with the fate of each recipient.
    Answer: none.
    Error or time-out: recorded; nobody's mail is touched.
    RFC: none.

    Examples:
        >>> class Count(Plugin):
        ...     @hook
        ...     async def done(self, transaction: Transaction, outcome: Outcome) -> None:
        ...         for mailbox, fate in outcome.fates:
        ...             self.context.metrics.count("mail", fate=fate)
        >>> context = FakeContext()
        >>> _ = await run_plugin(Count(), context=context)
        >>> context.metrics.values
        [('mail', 1, {'fate': 'delivered'})]
    """


@hookspec
def disconnect(session: Session) -> None:
    """Learn that a session ended.

    When: the connection is closed, by whichever side.
    Reads: `session`.
    Answer: none.
    Error or time-out: recorded; nobody's mail is touched.
    RFC: 5321 4.1.1.10.

    Examples:
        >>> class Manners(Plugin):
        ...     @hook(cheap=True)
        ...     def disconnect(self, session: Session) -> None:
        ...         if session.unknown_recipients > 5:
        ...             self.context.log.info("guessing", client=session.client_address)
        >>> context = FakeContext()
        >>> _ = await run_plugin(Manners(), session=a_session(unknown_recipients=6), context=context)
        >>> context.log.lines
        [('info', 'guessing', {'client': '192.0.2.1'})]
    """


@hookspec
def shutdown() -> None:
    """Put away what `startup` opened.

    When: once in each worker, after its last transaction; in the reverse order of the chain.
    Reads: `self` only.
    Answer: none.
    Error or time-out: recorded; the worker ends all the same.
    RFC: none.

    Examples:
        >>> class Files(Plugin):
        ...     @hook
        ...     def startup(self) -> None:
        ...         import tempfile
        ...         self.file = tempfile.TemporaryFile()
        ...     @hook
        ...     def shutdown(self) -> None:
        ...         self.file.close()
        >>> plugin = Files()
        >>> _ = await run_plugin(plugin)
        >>> plugin.file.closed
        True
    """
