"""What `dnsbl`, `uribl`, `sanity` and `impersonation` share: lists in DNS, registrable domains, totals and thresholds."""

from gateway.reputation.codes import Weight
from gateway.reputation.hosts import mailto_addresses, url_host
from gateway.reputation.keys import Address, Key, Kind, address_key, domain_key, parse_address, plain_domain
from gateway.reputation.lists import Answer, DnsList, ListOptions, ask_all, shown, watch
from gateway.reputation.suffixes import Suffixes, suffix_library
from gateway.reputation.weighing import Decided, ListFinding, Step, Thresholds, decide, findings_of, weigh

__all__ = [
    "Address",
    "Answer",
    "Decided",
    "DnsList",
    "Key",
    "Kind",
    "ListFinding",
    "ListOptions",
    "Step",
    "Suffixes",
    "Thresholds",
    "Weight",
    "address_key",
    "ask_all",
    "decide",
    "domain_key",
    "findings_of",
    "mailto_addresses",
    "parse_address",
    "plain_domain",
    "shown",
    "suffix_library",
    "url_host",
    "watch",
    "weigh",
]
