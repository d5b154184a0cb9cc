"""For dialogues: changes the reverse-path `old…`, and fails at `fail…`."""

from __future__ import annotations

from gateway import Plugin, Transaction, UseReversePath, hook, use_reverse_path


class AtMail(Plugin):
    @hook
    async def mail(self, transaction: Transaction) -> UseReversePath | None:
        name = transaction.reverse_path.local_part
        if name.startswith("fail"):
            raise RuntimeError(name)
        return use_reverse_path("new@example.test") if name.startswith("old") else None
