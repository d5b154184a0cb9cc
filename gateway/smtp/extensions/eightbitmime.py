"""8BITMIME (RFC 6152): offered where the next hop has it; BODY= goes on as it came.

BODY=BINARYMIME is BINARYMIME's (RFC 3030 3).
"""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension, Terms
from gateway.smtp.extensions.binarymime import BINARYMIME, NEEDED, is_binary
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply, reply


class _EightBitMime(Extension):
    keyword = "8BITMIME"
    mail = frozenset({"BODY"})

    def check(self, parameter: Parameter, terms: Terms) -> Reply | None:
        if is_binary((parameter,)):
            offered = BINARYMIME.offer(terms) is not None
            return None if offered else reply(555, "5.5.4", "BODY=BINARYMIME is not offered")
        if (parameter.value or "").upper() not in {"7BIT", "8BITMIME"}:
            return reply(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
        return None

    def needs(self, parameter: Parameter) -> frozenset[str]:
        return NEEDED if is_binary((parameter,)) else super().needs(parameter)


EIGHTBITMIME = _EightBitMime()
