"""Verdicts by name, for dialogues: `reject-…`, `defer-…`, `hold-…`, `drop-…`, `keep-…` and `redirect-ROUTE` as local part of a path, or as Subject."""

from __future__ import annotations

from gateway import Message, Plugin, Recipient, Transaction, Verdict, defer, discard, hook, quarantine, redirect, reject


def _verdict(name: str) -> Verdict | None:
    match name.partition("-")[0]:
        case "reject":
            return reject("Not wanted here", reason="by-name")
        case "keep":
            return reject("Not wanted here", reason="by-name", keep=True)
        case "defer":
            return defer("Not now", reason="by-name")
        case "hold":
            return quarantine("by-name")
        case "drop":
            return discard("by-name")
        case "redirect":
            return redirect(name.partition("-")[2])
        case _:
            return None


class ByName(Plugin):
    @hook
    async def mail(self, transaction: Transaction) -> Verdict | None:
        name = transaction.reverse_path.local_part
        return None if name.startswith(("hold", "keep")) else _verdict(name)

    @hook
    async def rcpt(self, recipient: Recipient) -> Verdict | None:
        local_part = recipient.forward_path.local_part
        return _verdict(local_part.removesuffix("-at-rcpt")) if local_part.endswith("-at-rcpt") else None

    @hook
    async def data(self, transaction: Transaction) -> Verdict | None:
        return reject("Not even the content", reason="by-name") if transaction.reverse_path.local_part == "data-refused" else None

    @hook
    async def judge(self, message: Message, transaction: Transaction) -> Verdict | list[Verdict] | None:
        whole = _verdict(message.subject)
        if whole is not None:
            return whole
        named = [(recipient, _verdict(recipient.forward_path.local_part)) for recipient in transaction.recipients]
        return [verdict.only(recipient.mailbox) for recipient, verdict in named if verdict is not None] or None
