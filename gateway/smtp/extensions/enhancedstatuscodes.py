"""ENHANCEDSTATUSCODES (RFC 2034): every reply of ours bears one; a next hop's without gets x.0.0."""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension, Terms


class _EnhancedStatusCodes(Extension):
    keyword = "ENHANCEDSTATUSCODES"

    def offer(self, terms: Terms) -> str | None:
        del terms
        return self.keyword


ENHANCEDSTATUSCODES = _EnhancedStatusCodes()
