"""A plugin whose verdicts stand in what it is given: local parts, addresses and subjects say what it does."""

from __future__ import annotations

from collections.abc import Sequence

from gateway import (
    AddHeader,
    AddRecipient,
    Defer,
    Discard,
    Edit,
    Message,
    Plugin,
    Recipient,
    Redirect,
    Reject,
    Session,
    Transaction,
    UseForwardPath,
    UseReversePath,
    Verdict,
    add_header,
    add_recipient,
    defer,
    discard,
    hook,
    quarantine,
    redirect,
    reject,
    remove_header,
    replace_body,
    replace_header,
    tag_subject,
    use_forward_path,
    use_reverse_path,
)


class Says(Plugin):
    @hook
    async def connect(self, session: Session) -> Reject | Defer | None:
        if session.client_address == "192.0.2.66":
            return reject("Not you")
        return defer("Not now") if session.client_address == "192.0.2.44" else None

    @hook
    async def helo(self, session: Session) -> Reject | None:
        return reject("Bad name, 100%") if session.helo == "bad.test" else None

    @hook
    async def authenticated(self, session: Session) -> Reject | None:
        return reject("Not this user", code=535, enhanced="5.7.8") if session.identity == "mallory" else None

    @hook
    async def mail(self, transaction: Transaction) -> Reject | Discard | UseReversePath | None:
        match transaction.reverse_path.local_part:
            case "reject":
                return reject("No such sender")
            case "discard":
                return discard("unwanted")
            case "other":
                return use_reverse_path("changed@client.test")
            case _:
                return None

    @hook
    async def rcpt(self, recipient: Recipient) -> Reject | Defer | Discard | Redirect | UseForwardPath | AddRecipient | None:
        match recipient.forward_path.local_part:
            case "reject":
                return reject("No such user", code=550, enhanced="5.1.1")
            case "defer":
                return defer("Later, please")
            case "discard":
                return discard("nobody")
            case "rename":
                return use_forward_path("new@example.test")
            case "more":
                return add_recipient("extra@example.test")
            case "elsewhere":
                return redirect("default")
            case _:
                return None

    @hook
    async def policy_class(self, recipient: Recipient) -> str | None:
        return "strict" if recipient.forward_path.local_part == "strict" else None

    @hook
    async def data(self, transaction: Transaction) -> Reject | None:
        return reject("No content from you") if transaction.reverse_path.local_part == "nodata" else None

    @hook
    async def judge(self, transaction: Transaction, message: Message) -> Verdict | Sequence[Verdict] | None:
        found: list[Verdict] = []
        for one in transaction.recipients:
            word = one.forward_path.local_part.partition("-")[0]
            if word == "hold":
                found.append(quarantine("suspicious").only(one.mailbox))
            elif word == "refuse":
                found.append(reject("Not this message").only(one.mailbox))
            elif word == "drop":
                found.append(discard("junk").only(one.mailbox))
        if "two lines" in message.subject:
            return reject("First line 50%", code=554, enhanced="5.7.1")
        if "another way" in message.subject:
            return redirect("default")
        return found or None

    @hook
    async def rewrite(self, message: Message) -> Edit | Sequence[Edit] | None:
        if "another body" in message.subject:
            return replace_body(b"other words\r\n" * 10_000)
        if "edit" not in message.subject:
            return None
        return [
            add_header("X-First", "1"),
            add_header("X-Second", "two\r\n lines"),
            remove_header("X-Gone"),
            replace_header("X-Twice", "other", 1),
            tag_subject("[EXTERNAL]"),
        ]

    @hook
    async def sign(self, message: Message) -> AddHeader | None:
        return add_header("X-Signed", str(len(message.octets))) if "sign" in message.subject else None
