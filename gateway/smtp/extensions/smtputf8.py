"""SMTPUTF8 (RFC 6531): offered where the next hop has it; the parameter has no value."""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension, Terms
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply, reply


class _SmtpUtf8(Extension):
    keyword = "SMTPUTF8"
    mail = frozenset({"SMTPUTF8"})

    def check(self, parameter: Parameter, terms: Terms) -> Reply | None:
        del terms
        return None if parameter.value is None else reply(501, "5.5.4", "SMTPUTF8 has no value")


SMTPUTF8 = _SmtpUtf8()
