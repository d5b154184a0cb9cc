"""For dialogues: every recipient takes the route `other`."""

from __future__ import annotations

from gateway import Plugin, Recipient, hook


class LedAstray(Plugin):
    @hook
    async def route(self, recipient: Recipient) -> str | None:
        del recipient
        return "other"
