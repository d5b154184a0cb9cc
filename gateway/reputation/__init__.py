"""What `dnsbl`, `uribl`, `sanity` and `impersonation` share: lists in DNS, registrable domains, totals and thresholds."""

from gateway.reputation.codes import Weight
from gateway.reputation.generic import generic_name
from gateway.reputation.keys import (
    PRIVATE,
    Address,
    Key,
    Kind,
    address_key,
    domain_key,
    parse_address,
    plain_domain,
    plain_domains,
)
from gateway.reputation.likeness import KnownDomains, Person, addresses_within, bears_name, person
from gateway.reputation.lists import Answer, DnsList, ListOptions, ask_all, shown, watch
from gateway.reputation.seen import Seen
from gateway.reputation.signs import Cost, Sign, Signs, decide_signs, findings_of_signs
from gateway.reputation.suffixes import Suffixes, suffix_library
from gateway.reputation.verdicts import step_of, verdict_of
from gateway.reputation.weighing import Decided, Listings, Step, Thresholds, decide, evidence_of, findings_of, weigh

__all__ = [
    "PRIVATE",
    "Address",
    "Answer",
    "Cost",
    "Decided",
    "DnsList",
    "Key",
    "Kind",
    "KnownDomains",
    "ListOptions",
    "Listings",
    "Person",
    "Seen",
    "Sign",
    "Signs",
    "Step",
    "Suffixes",
    "Thresholds",
    "Weight",
    "address_key",
    "addresses_within",
    "ask_all",
    "bears_name",
    "decide",
    "decide_signs",
    "domain_key",
    "evidence_of",
    "findings_of",
    "findings_of_signs",
    "generic_name",
    "parse_address",
    "person",
    "plain_domain",
    "plain_domains",
    "shown",
    "step_of",
    "suffix_library",
    "verdict_of",
    "watch",
    "weigh",
]
