"""PRDR (draft-hall-prdr): a reply for each recipient after the content, by the gateway itself; the next hop is not asked for it.

Offered where replies can differ: by a plugin that judges the content, or by a next hop that speaks LMTP.
"""

from __future__ import annotations

from gateway.relay.protocol import Capabilities
from gateway.smtp.extensions.base import Extension, Terms
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply, reply


class _Prdr(Extension):
    keyword = "PRDR"
    mail = frozenset({"PRDR"})

    def offer(self, terms: Terms) -> str | None:
        return self.keyword if terms.answers_differ else None

    def check(self, parameter: Parameter, terms: Terms) -> Reply | None:
        del terms
        return None if parameter.value is None else reply(501, "5.5.4", "PRDR has no value")

    def onward(self, parameter: Parameter, theirs: Capabilities) -> bytes | None:
        del parameter, theirs
        return None  # ours alone


PRDR = _Prdr()
