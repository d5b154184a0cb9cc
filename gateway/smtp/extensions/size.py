"""SIZE (RFC 1870): the smaller of our limit and the next hop's, less the room for the fields we add."""

from __future__ import annotations

from gateway.relay.protocol import Capabilities
from gateway.smtp.extensions.base import ROOM, Extension, Terms
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply, reply


def limit(terms: Terms) -> int:
    """Octets a message may have; the next hop's 0 means that it has no fixed limit (RFC 1870 4)."""
    theirs = terms.next_hops.size if terms.next_hops is not None else None
    if theirs:
        return max(1, min(terms.message_size, theirs - ROOM))
    return terms.message_size


class _Size(Extension):
    keyword = "SIZE"
    mail = frozenset({"SIZE"})

    def offer(self, terms: Terms) -> str | None:
        return f"SIZE {limit(terms)}"

    def check(self, parameter: Parameter, terms: Terms) -> Reply | None:
        value = parameter.value or ""
        if not value.isdigit() or len(value) > 20:  # RFC 1870 5
            return reply(501, "5.5.4", "SIZE is a number of octets")
        if int(value) > limit(terms):
            return reply(552, "5.3.4", f"Message size exceeds the limit of {limit(terms)} octets")  # RFC 1870 6.1
        return None

    def onward(self, parameter: Parameter, theirs: Capabilities) -> bytes | None:
        if not theirs.offers("SIZE"):
            return None
        return b"SIZE=%d" % (int(parameter.value or "0") + ROOM)


SIZE = _Size()
