"""LIMITS (RFC 9422): the smaller of ours and the next hop's; one domain in a transaction where routes differ by domain.

Offered where the next hop has it, or where there is more than one route: else a client learns nothing from it.
"""

from __future__ import annotations

from gateway.config.models import LimitsConfig
from gateway.relay.keyword_values import limit_words, limits_of, smaller_limits
from gateway.relay.protocol import Capabilities
from gateway.smtp.extensions.base import Extension, Terms

MOST = 999_999
"""A limit has at most six digits (RFC 9422 4.1 to 4.3)."""


def promised(next_hops: Capabilities | None, ours: LimitsConfig, *, several_routes: bool) -> dict[str, int]:
    """The limits a client of this listener is told and held to, by name."""
    kept = {"RCPTMAX": min(ours.recipients, MOST), "MAILMAX": min(ours.transactions, MOST)}
    if several_routes:
        kept["RCPTDOMAINMAX"] = 1
    return smaller_limits(kept, limits_of(next_hops.parameters("LIMITS")) if next_hops is not None else {})


class _Limits(Extension):
    keyword = "LIMITS"

    def offer(self, terms: Terms) -> str | None:
        theirs = terms.next_hops is not None and terms.next_hops.offers(self.keyword)
        if not theirs and not terms.several_routes:
            return None
        return " ".join((self.keyword, *limit_words(terms.limits)))


LIMITS = _Limits()
