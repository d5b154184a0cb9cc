"""What an extension is (RFC 5321 2.2): a keyword, the terms it is offered on, the parameters that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.relay.protocol import Capabilities
from gateway.smtp.paths import Parameter
from gateway.smtp.replies import Reply, reply

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
    may_introduce: bool = False
    """What the client says of others is believed."""
    under_tls: bool = False
    passed_commands: frozenset[str] = frozenset()
    """Of VRFY, EXPN and ETRN those that the next hop answers."""
    own_commands: frozenset[str] = frozenset()
    """Those that the gateway does by itself and tells of."""
    auth: tuple[str, ...] = ()
    """Mechanisms of AUTH that this client may use now."""
    several_routes: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    """By their names in RFC 9422: what a client is told."""
    domains: int = 0
    """Recipient domains that the next hop takes in one transaction; 0: as many as there are."""


UNKNOWN_PARAMETER = reply(555, "5.5.4", "Parameter not recognized or not supported")


class Extension:
    """Base: offered when every next hop offers the keyword."""

    keyword = ""
    mail: frozenset[str] = frozenset()
    """Keywords of parameters of MAIL that belong to it."""
    rcpt: frozenset[str] = frozenset()
    from_strangers = b""
    """What goes on in the place of its parameter from a client that has not authenticated."""
    has_values = False
    """The next hop's values are offered with the keyword."""

    def offer(self, terms: Terms) -> str | None:
        """The line of the EHLO reply, or None: not offered."""
        if terms.next_hops is not None and terms.next_hops.offers(self.keyword):
            return " ".join((self.keyword, *terms.next_hops.parameters(self.keyword))) if self.has_values else self.keyword
        return None

    def not_offered(self) -> Reply:
        """The refusal of its parameters where it was not offered (RFC 5321 4.1.1.11)."""
        return UNKNOWN_PARAMETER

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
