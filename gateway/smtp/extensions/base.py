"""What an extension is (RFC 5321 2.2): a keyword, the terms it is offered on, the parameters that belong to it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.relay.protocol import Capabilities
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply

ROOM = 16 * 1024
"""Octets kept free for the header fields that the gateway adds; SIZE is offered smaller by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What decides whether an extension is offered to this client now."""

    next_hops: Capabilities | None
    """What every next hop of this listener offers; None when one was never reached."""
    message_size: int
    """Our own limit in octets."""
    tls_ready: bool = False
    """A certificate is configured and the session is not under TLS."""
    answers_differ: bool = False
    """The client speaks SMTP, and recipients of one message may deserve different replies here."""


class Extension:
    """Base: offered when every next hop offers the keyword."""

    keyword = ""
    mail: frozenset[str] = frozenset()
    """Keywords of parameters of MAIL that belong to it."""
    rcpt: frozenset[str] = frozenset()

    def offer(self, terms: Terms) -> str | None:
        """The line of the EHLO reply, or None: not offered."""
        if terms.next_hops is not None and terms.next_hops.offers(self.keyword):
            return self.keyword
        return None

    def check(self, parameter: Parameter, terms: Terms) -> Reply | None:
        """The refusal of a parameter's value, or None: it is fine."""
        del parameter, terms
        return None

    def needs(self, parameter: Parameter) -> frozenset[str]:
        """Keywords that a link must offer for the parameter."""
        del parameter
        return frozenset({self.keyword})

    def onward(self, parameter: Parameter, theirs: Capabilities) -> bytes | None:
        """The parameter as it goes to a next hop that offers `theirs`; None: it is left out."""
        del theirs
        return parameter.octets
