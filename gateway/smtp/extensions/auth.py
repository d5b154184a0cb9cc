"""AUTH (RFC 4954): the mechanisms of the listener's `auth_route` that can pass. AUTH= at MAIL is believed of nobody unknown."""

from __future__ import annotations

import re

from gateway.relay.protocol import Capabilities
from gateway.smtp.extensions.base import Extension, Terms
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply, reply

_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 3461 4


class _Auth(Extension):
    keyword = "AUTH"
    mail = frozenset({"AUTH"})
    from_strangers = b"AUTH=<>"  # RFC 4954 5

    def offer(self, terms: Terms) -> str | None:
        return " ".join((self.keyword, *terms.auth)) if terms.auth else None

    def check(self, parameter: Parameter, terms: Terms) -> Reply | None:
        del terms
        value = parameter.octets.partition(b"=")[2]
        if not _XTEXT.fullmatch(value):
            return reply(501, "5.5.4", "AUTH= is a mailbox in xtext, or <>")
        return None

    def onward(self, parameter: Parameter, theirs: Capabilities) -> bytes | None:
        return parameter.octets if theirs.offers("AUTH") else None


AUTH = _Auth()
