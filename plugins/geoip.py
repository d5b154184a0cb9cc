"""Where a client's address is registered, from a database of MaxMind's format (mmdb). Shows findings for rules, and a file read again."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from gateway import Context, Fact, Plugin, PluginOptions, Transaction, WatchedFile, hook, library

_COUNTRY = re.compile(r"[A-Z]{2}")
MAX_TEXT = 200


class Options(PluginOptions):
    """The databases, and the countries that are told apart."""

    files: tuple[str, ...] = Field(min_length=1, max_length=4)
    """mmdb files, of countries, cities or networks (ASN): each adds what it knows. Read again when another one takes its place."""
    deny: tuple[str, ...] = ()
    """Countries whose clients get the fact `geoip.listed` with the value `deny`: `["XX", "YY"]`."""
    allow: tuple[str, ...] = ()
    """The same with `allow`. Where this is given and `deny` is not, all other countries get `deny`."""

    @field_validator("deny", "allow")
    @classmethod
    def _are_countries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if not _COUNTRY.fullmatch(one):
                raise ValueError(f"found {one!r}; allowed: two capital letters (ISO 3166-1), such as NL")
        return value


class Geoip(Plugin[Options]):
    """Gives facts, and decides nothing."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library."""
        super().__init__(options, name=name, context=context)
        self._maxminddb: Any = library("maxminddb", extra="geoip")

    @hook
    async def startup(self, context: Context) -> None:
        """Open the files. What is wrong with one stops the start."""
        self._files = [
            WatchedFile(file, read=self._open, context=context, put_away=lambda reader: reader.close())
            for file in self.options.files
        ]
        for file in self._files:
            await file.load()

    @hook(cheap=True)
    def check(self, transaction: Transaction) -> list[Fact]:
        """`geoip.country` and so on, as far as the files know the address."""
        address = _address(transaction.session.client_address)
        if address is None:
            return []
        found: dict[str, str | int] = {}
        for file in self._files:
            try:
                found |= _facts(file.value.get(address))
            except ValueError as error:  # an IPv6 address and a file of IPv4 only, or octets that are no record
                found["geoip.problem"] = f"{file.path.name}: {error}"[:MAX_TEXT]
        listed = self._listed(str(found.get("geoip.country", "")))
        if listed:
            found["geoip.listed"] = listed
        return [Fact(name=name, value=value) for name, value in found.items()]

    @hook(cheap=True)
    def shutdown(self) -> None:
        """Close the files."""
        for file in self._files:
            file.value.close()

    def _listed(self, country: str) -> str:
        if not country:
            return ""
        if country in self.options.deny:
            return "deny"
        if country in self.options.allow:
            return "allow"
        return "deny" if self.options.allow and not self.options.deny else ""

    def _open(self, path: Path) -> Any:
        """In a thread. ValueError or OSError for what is no such file; one record is read, so that a torn file is seen now."""
        try:
            reader = self._maxminddb.open_database(str(path))
            reader.get("192.0.2.1")
        except self._maxminddb.InvalidDatabaseError as error:
            raise ValueError(f"{path}: {error}") from error
        return reader


def _address(text: str) -> str | None:
    """For the look-up: without a zone, and of an IPv4 address in IPv6 the IPv4 address."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _facts(record: Any) -> dict[str, str | int]:
    """Of a record of GeoLite2, GeoIP2, DB-IP or IPinfo: their keys differ a little, and a file may hold anything."""
    found: dict[str, str | int] = {}
    if not isinstance(record, dict):
        return found
    for place in ("country", "registered_country", "country_code"):
        inner = record.get(place)
        code = inner.get("iso_code") if isinstance(inner, dict) else inner
        if isinstance(code, str) and _COUNTRY.fullmatch(code.upper()):
            found.setdefault("geoip.country", code.upper())
    continent = record.get("continent")
    code = continent.get("code") if isinstance(continent, dict) else continent
    if isinstance(code, str) and _COUNTRY.fullmatch(code.upper()):
        found["geoip.continent"] = code.upper()
    number = record.get("autonomous_system_number")
    if isinstance(number, int) and 0 < number < 2**32:
        found["geoip.asn"] = number
    owner = record.get("autonomous_system_organization")
    if isinstance(owner, str):
        found["geoip.organization"] = "".join(c if c.isprintable() else "\ufffd" for c in owner[:MAX_TEXT])
    return found
