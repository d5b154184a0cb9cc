"""8BITMIME (RFC 6152): offered where the next hop has it; BODY= goes on as it came."""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension, Terms
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply, reply


class _EightBitMime(Extension):
    keyword = "8BITMIME"
    mail = frozenset({"BODY"})

    def check(self, parameter: Parameter, terms: Terms) -> Reply | None:
        del terms
        if (parameter.value or "").upper() not in {"7BIT", "8BITMIME"}:
            return reply(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
        return None


EIGHTBITMIME = _EightBitMime()
