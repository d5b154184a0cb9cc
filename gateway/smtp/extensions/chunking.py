"""CHUNKING (RFC 3030 2): by the gateway itself, since what comes in chunks of lines can go on after DATA.

Towards a next hop that has it, content goes in one chunk where DATA would change it: see `gateway.relay.handover`.
"""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension, Terms


class _Chunking(Extension):
    keyword = "CHUNKING"

    def offer(self, terms: Terms) -> str | None:
        del terms
        return self.keyword


CHUNKING = _Chunking()
"""Its one value."""
