"""PIPELINING (RFC 2920): by the gateway itself, whatever the next hop can."""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension, Terms


class _Pipelining(Extension):
    keyword = "PIPELINING"

    def offer(self, terms: Terms) -> str | None:
        del terms
        return self.keyword


PIPELINING = _Pipelining()
