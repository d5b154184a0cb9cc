"""STARTTLS (RFC 3207): offered when a certificate is configured and the session is not under TLS yet."""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension, Terms


class _StartTls(Extension):
    keyword = "STARTTLS"

    def offer(self, terms: Terms) -> str | None:
        return self.keyword if terms.tls_ready else None


STARTTLS = _StartTls()
