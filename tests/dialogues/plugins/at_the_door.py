"""Turns clients away at connect, HELO, AUTH or never: the option says where."""

from __future__ import annotations

from gateway import Plugin, PluginOptions, Session, Verdict, defer, hook, reject


class Options(PluginOptions):
    refuse: str = ""
    """`connect`, `connect-later`, a client's address, `helo`, or `auth`: Joe for good, others for now."""


class AtTheDoor(Plugin[Options]):
    @hook
    async def connect(self, session: Session) -> Verdict | None:
        if self.options.refuse == "connect":
            return reject("We do not know you", reason="stranger")
        if self.options.refuse == session.client_address:
            return reject("We do not know you", reason="stranger")
        return defer("Come back later", reason="busy") if self.options.refuse == "connect-later" else None

    @hook
    async def helo(self, session: Session) -> Verdict | None:
        return reject("Nobody is called so", reason="odd-name") if self.options.refuse == "helo" else None

    @hook
    async def authenticated(self, session: Session) -> Verdict | None:
        if self.options.refuse != "auth":
            return None
        return reject("Joe is on leave", reason="leave") if session.identity == "joe" else defer("Not now", reason="busy")
