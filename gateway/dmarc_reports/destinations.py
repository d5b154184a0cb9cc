"""Where a report may go: `rua` URIs, and the consent of others' domains (RFC 9990 2.5, 3).

A size behind a URI (`!10m`, RFC 7489 6.3) is read and ignored, as RFC 9989 wants it: what is too large, the destination refuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from gateway.context import Resolver
from gateway.dmarc_reports.organization import organizational_domain, records_at
from gateway.errors import DnsError

MAX_NAME = 253
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>[^!\s,;]+)(?:![0-9]{1,12}[kmgt]?)?", re.IGNORECASE)
_ATEXT = r"[A-Za-z0-9#$%&'*+/=?^_`{|}~-]+"  # no `!`: it begins the size
_MAILBOX = re.compile(
    rf"(?P<local>(?=.{{1,64}}@){_ATEXT}(?:\.{_ATEXT})*)@(?P<host>[A-Za-z0-9-]{{1,63}}(?:\.[A-Za-z0-9-]{{1,63}})+)"
)

Fault: TypeAlias = Literal["unsupported", "unauthorized", "dns"]


@dataclass(frozen=True, slots=True)
class Destination:
    """A mailbox that a report may be sent to."""

    mailbox: str
    """`local-part@domain`, plain ASCII without anything that SMTP or a header field would take for more; the domain in lower case."""

    @property
    def host(self) -> str:
        """RFC 9990 3, step 1: the destination host."""
        return self.mailbox.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class NotThere:
    """An address that gets no report, and why."""

    name: str
    """The mailbox, or the URI where it is none of a mailbox."""
    fault: Fault
    why: str


def parse_uri(uri: str) -> Destination | NotThere:
    """A reporting URI: `mailto:`, other schemes are not implemented and so ignored (RFC 9990 2.5). Octets may be percent-encoded."""
    found = _URI.fullmatch(uri.strip())
    if found is None:
        return NotThere(uri, "unsupported", "no URI")
    if found["scheme"].lower() != "mailto":
        return NotThere(uri, "unsupported", f"the scheme {found['scheme'].lower()}: is not mailto:")
    # RFC 6068 2: fields behind `?` are for a person's mail program
    octets = unquote_to_bytes(found["rest"].partition("?")[0])
    mailbox = _MAILBOX.fullmatch(octets.decode("ascii", "replace"))
    if mailbox is None or len(mailbox["host"]) > MAX_NAME:
        return NotThere(uri, "unsupported", "no plain mailbox")
    return Destination(f"{mailbox['local']}@{mailbox['host'].lower()}")


async def permitted(policy_domain: str, uris: Sequence[str], resolver: Resolver, *, most: int) -> list[Destination | NotThere]:
    """In the order of the record, each mailbox once, at most `most` of them; with those that get none, and why."""
    found: list[Destination | NotThere] = []
    mailboxes: set[str] = set()
    for uri in uris:
        parsed = parse_uri(uri)
        if isinstance(parsed, NotThere):
            found.append(parsed)
            continue
        if len(mailboxes) >= most:
            break
        for one in await _consented(policy_domain, parsed, resolver):
            if isinstance(one, NotThere):
                found.append(one)
            elif one.mailbox not in mailboxes and len(mailboxes) < most:
                mailboxes.add(one.mailbox)
                found.append(one)
    return found


async def _consented(policy_domain: str, wanted: Destination, resolver: Resolver) -> list[Destination | NotThere]:
    """RFC 9990 3: within one organization nothing is asked; elsewhere the destination host says whether, and where to."""
    host = wanted.host
    try:
        if host == policy_domain:
            return [wanted]
        organization = await organizational_domain(policy_domain, resolver)
        if organization == await organizational_domain(host, resolver):
            return [wanted]
        name = f"{policy_domain}._report._dmarc.{host}"
        if len(name) > MAX_NAME:  # step 4
            return [NotThere(wanted.mailbox, "unauthorized", f"{host} cannot agree: the name of its record would be too long")]
        records = await records_at(name, resolver)
    except DnsError as error:  # step 5: another time
        return [NotThere(wanted.mailbox, "dns", f"temporary failure of DNS for {error.name}")]
    if not records:  # step 7
        return [NotThere(wanted.mailbox, "unauthorized", f"{host} does not agree: no v=DMARC1 at {name}")]
    override = next((tags["rua"] for tags in records if tags.get("rua")), "")
    if not override:  # step 8
        return [wanted]
    instead = [parse_uri(one) for one in override.split(",")]
    if any(isinstance(one, Destination) and one.host != host for one in instead):
        # neither the original nor the other one (RFC 9990 3)
        return [NotThere(wanted.mailbox, "unauthorized", f"{name} leads on to another host")]
    return instead or [wanted]
