"""LIMITS (RFC 9422): the smaller of ours and the next hop's; one domain in a transaction where routes differ by domain.

Offered where the next hop has it, or where there is more than one route: else a client learns nothing from it.
"""

from __future__ import annotations

from gateway.relay.keyword_values import limit_words, limits_of, smaller_limits
from gateway.relay.protocol import Capabilities
from gateway.smtp.extensions.base import Extension, Terms


def promised(next_hops: Capabilities | None, *, recipients: int, several_routes: bool) -> dict[str, int]:
    """The limits a client of this listener is told and held to, by name."""
    ours = {"RCPTMAX": recipients}
    if several_routes:
        ours["RCPTDOMAINMAX"] = 1
    return smaller_limits(ours, limits_of(next_hops.parameters("LIMITS")) if next_hops is not None else {})


class _Limits(Extension):
    keyword = "LIMITS"

    def offer(self, terms: Terms) -> str | None:
        theirs = terms.next_hops is not None and terms.next_hops.offers(self.keyword)
        if not theirs and not terms.several_routes:
            return None
        return " ".join((self.keyword, *limit_words(terms.limits)))


LIMITS = _Limits()
