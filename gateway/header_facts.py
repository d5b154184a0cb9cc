"""What header fields say: addresses, subject, date, Message-ID (RFC 5322 3.6). The same for a message and for one inside it.

Read lazily and within bounds; never raises, whatever the octets are.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from gateway.authors import HeaderAddress, addresses, domain_of, named_addresses
from gateway.fields import MAX_VALUE, HeaderField, message_id_of, subject_of
from gateway.once import once

if TYPE_CHECKING:
    from gateway.mime import Bounds

_MONTHS = {
    name: number
    for number, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)
}
_DATE = re.compile(
    rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?([0-9]{{1,2}}) ({'|'.join(_MONTHS)}) ([1-9][0-9]{{3}}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"
)
ADDRESSES_CUT = "_addresses_cut"
"""What an object has where some field had more addresses than are read."""


def _usual_date(text: str) -> datetime | None:
    """A date as RFC 5322 3.3 has it and nearly everybody writes it; None for another. ValueError when there is no such date."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    day, month, year, hour, minute, second, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    zone = None if sign == "-" and not offset else timezone(-offset if sign == "-" else offset)  # -0000: none is known
    return datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=zone)


class HeaderFacts:
    """Facts of one header section; whoever derives from it has its `fields` and `bounds`."""

    bounds: Bounds
    _named: dict[str, list[HeaderField]] | None = None
    """The fields by their names in lower case, where somebody asked."""

    @property
    def fields(self) -> tuple[HeaderField, ...]:
        """All header fields, from the top."""
        raise NotImplementedError

    @property
    def _by_name(self) -> dict[str, list[HeaderField]]:
        if self._named is not None:
            return self._named
        result = self._named = {}
        for one in self.fields:
            name = one.name.lower()
            if name in result:
                result[name].append(one)
            else:
                result[name] = [one]
        return result

    def field(self, name: str) -> HeaderField | None:
        """The topmost field of this name, or None."""
        by_name = self._by_name
        if name not in by_name:  # in lower case more often than not
            name = name.lower()
        return by_name[name][0] if name in by_name else None

    def fields_named(self, name: str) -> tuple[HeaderField, ...]:
        """All fields of this name, from the top."""
        by_name = self._by_name
        if name not in by_name:
            name = name.lower()
        return tuple(by_name[name]) if name in by_name else ()

    @once
    def subject(self) -> str:
        """Decoded; `` when there is none."""
        found = self.field("subject")
        return subject_of(None if found is None else found.unfolded)

    @once
    def message_id(self) -> str:
        """With its angle brackets (RFC 5322 3.6.4); what stands there when it has none; `` when there is none."""
        found = self.field("message-id")
        return message_id_of(None if found is None else found.unfolded)

    @once
    def date(self) -> datetime | None:
        """Of the Date field; None when absent or unreadable."""
        found = self.field("date")
        if found is None:
            return None
        text = found.unfolded[:200]
        try:
            return _usual_date(text) or parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):  # email.utils on hostile input
            return None

    @property
    def date_seconds(self) -> float | None:
        """The Date field as seconds since the epoch; without a zone it is UTC. None as for `date`."""
        found = self.date
        if found is None:
            return None
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()

    @once
    def author_addresses(self) -> tuple[str, ...]:
        """Each address of each From field (RFC 5322 3.6.2), as written, in order."""
        result: dict[str, None] = {}
        size = 0
        for one in self.fields_named("from"):
            result.update(dict.fromkeys(addresses(one.unfolded, limit=self.bounds.addresses - len(result))))
            size += one.end - one.colon
            if size > MAX_VALUE:  # of all fields together: otherwise many of them take as long as they like
                break
        return tuple(result)

    @property
    def author_octets(self) -> int:
        """Octets of the bodies of all From fields; `author_addresses` looks no further than the field that exceeds 64 KiB."""
        return sum(one.end - one.colon for one in self.fields_named("from"))

    @once
    def author_domains(self) -> tuple[str, ...]:
        """The domains of `author_addresses` in lower case, each once."""
        return tuple(dict.fromkeys(filter(None, map(domain_of, self.author_addresses))))

    def addresses_in(self, name: str) -> tuple[HeaderAddress, ...]:
        """Each address of each field of this name, in order: at most 1,000, of those in From 100, and of 64 KiB."""
        limit = self.bounds.addresses if name.lower() == "from" else self.bounds.header_addresses
        result: dict[str, HeaderAddress] = {}
        size = 0
        for one in self.fields_named(name):
            for found in named_addresses(one.unfolded, limit=limit - len(result)):
                result.setdefault(found.address, found)
            size += one.end - one.colon
            if size > MAX_VALUE:
                break
        if len(result) >= limit or size > MAX_VALUE:
            self.__dict__[ADDRESSES_CUT] = True
        return tuple(result.values())

    @once
    def authors(self) -> tuple[HeaderAddress, ...]:
        """`author_addresses` with their display names."""
        return self.addresses_in("from")

    @once
    def sender(self) -> HeaderAddress | None:
        """Of the Sender field (RFC 5322 3.6.2): who sent it for the author."""
        return next(iter(self.addresses_in("sender")), None)

    @once
    def reply_to(self) -> tuple[HeaderAddress, ...]:
        """Where answers go."""
        return self.addresses_in("reply-to")

    @once
    def to(self) -> tuple[HeaderAddress, ...]:
        """Of To; the envelope's recipients are another thing."""
        return self.addresses_in("to")

    @once
    def cc(self) -> tuple[HeaderAddress, ...]:
        """Of Cc."""
        return self.addresses_in("cc")
