"""REQUIRETLS (RFC 8689): offered under TLS, and only where every next hop has it behind TLS that was verified.

A link whose TLS was not verified counts as one without the keyword (`gateway.relay.link`), so it is no link for such a
message, whatever it was told at EHLO.
"""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension, Terms
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply, reply


class _RequireTls(Extension):
    keyword = "REQUIRETLS"
    mail = frozenset({"REQUIRETLS"})

    def offer(self, terms: Terms) -> str | None:
        return super().offer(terms) if terms.under_tls else None  # RFC 8689 2

    def check(self, parameter: Parameter, terms: Terms) -> Reply | None:
        del terms
        return None if parameter.value is None else reply(501, "5.5.4", "REQUIRETLS has no value")

    def not_offered(self) -> Reply:
        return reply(550, "5.7.30", "REQUIRETLS support required")  # RFC 8689 5


REQUIRETLS = _RequireTls()
