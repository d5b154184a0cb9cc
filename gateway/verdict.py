"""Verdicts: what a plugin decides about recipients of a message.

Values that cannot be wrong: codes, enhanced codes and texts are checked when a verdict is made.
`text` is for the peer, `reason` for log, journal and metrics; the two are never mixed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}")  # RFC 3463 2
_REASON = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX_TEXT = 400


def _check_text(text: str) -> None:
    if not text or len(text) > _MAX_TEXT:
        msg = f"the text of a reply has 1 to {_MAX_TEXT} characters, not {len(text)}"
        raise ValueError(msg)
    if any(not (" " <= c <= "~") for c in text):
        msg = f"the text of a reply is printable ASCII (RFC 5321 4.2): {text!r}"
        raise ValueError(msg)


def _check_codes(code: int, enhanced: str, first: int) -> None:
    if not first * 100 <= code <= first * 100 + 99:
        msg = f"code {code} is not {first}xx"
        raise ValueError(msg)
    found = _ENHANCED.fullmatch(enhanced)
    if found is None:
        msg = f"enhanced code {enhanced!r} is not of the form class.subject.detail (RFC 3463 2)"
        raise ValueError(msg)
    if int(found[1]) != first:
        msg = f"code {code} and enhanced code {enhanced} differ in class"
        raise ValueError(msg)


def _slug(text: str) -> str:
    """A stable word for log and metrics, made of the first words of a text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48].strip("-") or "unspecified"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    reason: str = ""
    """Stable word for logs, metrics, journal: `spf-fail`. At most 64 of `a-z 0-9 . _ -`."""
    evidence: str = ""
    """Free text for the operator; never shown to the peer."""
    recipients: frozenset[str] | None = None
    """Forward-paths (mailboxes as received) it is for; None: all that are undecided."""

    def __post_init__(self) -> None:
        if self.reason and not _REASON.fullmatch(self.reason):
            msg = f"reason {self.reason!r} is not one word of at most 64 of a-z 0-9 . _ -"
            raise ValueError(msg)

    def only(self, *recipients: str) -> Self:
        """The same verdict for these recipients (mailboxes as in `recipient.mailbox`) only."""
        return replace(self, recipients=frozenset(recipients))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept(_Verdict):
    """This recipient needs no further judge.

    Examples:
        >>> accept("partner").reason
        'partner'
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(_Verdict):
    """Refused for good: 5xx. With `keep` a copy is kept as evidence for the operator.

    Examples:
        >>> verdict = reject("No such mailbox here", enhanced="5.1.1", reason="unknown-recipient")
        >>> (verdict.code, verdict.enhanced, verdict.reason)
        (550, '5.1.1', 'unknown-recipient')
        >>> reject("No", code=451)
        Traceback (most recent call last):
        ValueError: code 451 is not 5xx
    """

    text: str
    code: int = 550
    enhanced: str = "5.7.1"
    keep: bool = False

    def __post_init__(self) -> None:
        _Verdict.__post_init__(self)
        _check_codes(self.code, self.enhanced, 5)
        _check_text(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer(_Verdict):
    """Refused for now: 4xx.

    Examples:
        >>> defer("Try again in an hour", reason="greylisted")
        Defer(reason='greylisted', evidence='', recipients=None, text='Try again in an hour', code=451, enhanced='4.7.1')
    """

    text: str
    code: int = 451
    enhanced: str = "4.7.1"

    def __post_init__(self) -> None:
        _Verdict.__post_init__(self)
        _check_codes(self.code, self.enhanced, 4)
        _check_text(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine(_Verdict):
    """Accepted, and held by us in a box.

    Examples:
        >>> quarantine("executable-attachment", box="malware").box
        'malware'
    """

    box: str = "default"

    def __post_init__(self) -> None:
        _Verdict.__post_init__(self)
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", self.box):
            msg = f"quarantine box {self.box!r} is not a word of at most 32 of a-z 0-9 _ -"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard(_Verdict):
    """Accepted and thrown away; its record in the journal is committed before the reply.

    Examples:
        >>> discard("loop").only("bob@example.org").recipients
        frozenset({'bob@example.org'})
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect(_Verdict):
    """To another route, by its name; at judge only for all recipients at once.

    Examples:
        >>> redirect("archive").next_hop
        'archive'
    """

    next_hop: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """Answer at `judge` beside a verdict: these plugins, later in the chain, do not judge this transaction.

    Examples:
        >>> skip("dmarc", "spf", reason="forwarder").plugins
        ('dmarc', 'spf')
    """

    plugins: tuple[str, ...]
    reason: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Would:
    """Answer at `judge` that is only written down: what a part of a plugin in monitor mode would have decided.

    Examples:
        >>> would(reject("No"), evidence="a rule in monitor mode").verdict.code
        550
    """

    verdict: Verdict | None = None
    """None: it would have done something else than decide."""
    reason: str = ""
    evidence: str = ""


Note: TypeAlias = Skip | Would
"""Answers at `judge` that decide nothing by themselves.

Examples:
    >>> notes: list[Note] = [skip("dmarc", reason="forwarder"), would(reject("No"))]
"""
Verdict: TypeAlias = Accept | Reject | Defer | Quarantine | Discard | Redirect
"""What becomes of a recipient: one of six.

Examples:
    >>> def say(verdict: Verdict) -> str:
    ...     match verdict:
    ...         case Reject(text=text) | Defer(text=text):
    ...             return text
    ...         case _:
    ...             return type(verdict).__name__
    >>> say(reject("Not here")), say(accept())
    ('Not here', 'Accept')
"""


def accept(reason: str = "", *, evidence: str = "") -> Accept:
    """No further judge is asked about these recipients.

    Examples:
        >>> class Partners(Plugin):
        ...     @hook
        ...     async def rcpt(self, transaction: Transaction) -> Accept | None:
        ...         return accept("partner") if transaction.reverse_path.domain_key == "partner.example" else None
        >>> (await run_plugin(Partners(), transaction=a_transaction(reverse_path="a@partner.example"))).verdict
        Accept(reason='partner', evidence='', recipients=None)
    """
    return Accept(reason=reason, evidence=evidence)


def reject(
    text: str,
    *,
    code: int = 550,
    enhanced: str = "5.7.1",
    reason: str | None = None,
    evidence: str = "",
    keep: bool = False,
) -> Reject:
    """Refuse for good with this text to the peer. ValueError for codes or text that cannot be.

    Examples:
        >>> reject("Executables are not accepted", keep=True).reason
        'executables-are-not-accepted'
    """
    return Reject(
        text=text, code=code, enhanced=enhanced, keep=keep, evidence=evidence, reason=_slug(text) if reason is None else reason
    )


def defer(text: str, *, code: int = 451, enhanced: str = "4.7.1", reason: str | None = None, evidence: str = "") -> Defer:
    """Refuse for now: the sender keeps the message and tries again.

    Examples:
        >>> defer("Try again later", code=421).reason
        'try-again-later'
    """
    return Defer(text=text, code=code, enhanced=enhanced, evidence=evidence, reason=_slug(text) if reason is None else reason)


def quarantine(reason: str, *, box: str = "default", evidence: str = "") -> Quarantine:
    """Accept and hold. A reason of several words becomes a word and is kept whole as evidence.

    Examples:
        >>> quarantine("executable attachment invoice.EXE")
        Quarantine(reason='executable-attachment-invoice-exe', evidence='executable attachment invoice.EXE', recipients=None, box='default')
    """
    if _REASON.fullmatch(reason):
        return Quarantine(reason=reason, box=box, evidence=evidence)
    return Quarantine(reason=_slug(reason), box=box, evidence=evidence or reason)


def discard(reason: str, *, evidence: str = "") -> Discard:
    """Accept and throw away.

    Examples:
        >>> discard("mail of the monitoring").reason
        'mail-of-the-monitoring'
    """
    if _REASON.fullmatch(reason):
        return Discard(reason=reason, evidence=evidence)
    return Discard(reason=_slug(reason), evidence=evidence or reason)


def redirect(next_hop: str, *, reason: str = "", evidence: str = "") -> Redirect:
    """Send to the route of this name instead.

    Examples:
        >>> redirect("large", reason="size")
        Redirect(reason='size', evidence='', recipients=None, next_hop='large')
    """
    return Redirect(next_hop=next_hop, reason=reason, evidence=evidence)


def skip(*plugins: str, reason: str = "", evidence: str = "") -> Skip:
    """Let the plugins of these names, later in the chain, not judge this transaction. ValueError without a name.

    Examples:
        >>> skip("dmarc", reason="trusted-forwarder")
        Skip(plugins=('dmarc',), reason='trusted-forwarder', evidence='')
    """
    if not plugins:
        raise ValueError("skip names at least one plugin")
    return Skip(plugins=plugins, reason=reason, evidence=evidence)


def would(verdict: Verdict | None, *, reason: str = "", evidence: str = "") -> Would:
    """Write down what would have been decided, and decide nothing.

    Examples:
        >>> class Careful(Plugin):
        ...     @hook
        ...     async def judge(self) -> Would:
        ...         return would(reject("No"), evidence="not sure yet")
        >>> result = await run_plugin(Careful())
        >>> (result.verdict, [verdict.text for verdict in result.would])
        (None, ['No'])
    """
    return Would(verdict=verdict, reason=reason, evidence=evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class UseReversePath:
    """Answer at `mail`: send this reverse-path to the next hop (`""` is the null reverse-path).

    Examples:
        >>> UseReversePath(path="").path  # the null reverse-path
        ''
    """

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UseForwardPath:
    """Answer at `rcpt`: send this forward-path to the next hop instead of the client's.

    Examples:
        >>> UseForwardPath(path="bob@internal.example.org").path
        'bob@internal.example.org'
    """

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddRecipient:
    """Answer at `rcpt`: one more recipient, known to the next hop only.

    Examples:
        >>> AddRecipient(path="archive@example.org").path
        'archive@example.org'
    """

    path: str


def use_reverse_path(path: str) -> UseReversePath:
    """Send another reverse-path on.

    Examples:
        >>> use_reverse_path("bounces+17@example.org")
        UseReversePath(path='bounces+17@example.org')
    """
    return UseReversePath(path=path)


def use_forward_path(path: str) -> UseForwardPath:
    """Send another forward-path on.

    Examples:
        >>> class Alias(Plugin):
        ...     @hook
        ...     async def rcpt(self, recipient: Recipient) -> UseForwardPath | None:
        ...         return use_forward_path("robert@example.org") if recipient.mailbox == "bob@example.org" else None
        >>> [recipient.sent_path for recipient in (await run_plugin(Alias())).recipients]
        [b'<robert@example.org>']
    """
    return UseForwardPath(path=path)


def add_recipient(path: str) -> AddRecipient:
    """Add a recipient that the client did not name.

    Examples:
        >>> class Archive(Plugin):
        ...     @hook
        ...     async def rcpt(self, recipient: Recipient) -> AddRecipient:
        ...         return add_recipient(f"archive@{recipient.domain}")
        >>> [recipient.mailbox for recipient in (await run_plugin(Archive())).recipients]
        ['bob@example.org', 'archive@example.org']
    """
    return AddRecipient(path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict with its author, as the chain hands it on: a plugin cannot sign for another.

    Examples:
        >>> class Closed(Plugin):
        ...     @hook
        ...     async def data(self) -> Defer:
        ...         return defer("Closed for today")
        >>> decision = (await run_plugin(Closed(name="closed"))).decision
        >>> (decision.plugin, decision.hook, decision.verdict.reason)
        ('closed', 'data', 'closed-for-today')
    """

    verdict: Verdict
    plugin: str
    hook: str
    duration: float = field(default=0.0, compare=False)
    """Seconds the hook took."""
