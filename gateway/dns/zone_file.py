"""A standard zone file (RFC 1035 5) as static answers, in the form of `[dns.zones]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.dns.zones import KINDS, Zones
from gateway.errors import ConfigError

LARGEST = 4_000_000
"""Octets of a zone file at most."""


class ZoneFileError(ValueError):
    """A file that is no zone; the text names it and says why."""


def read_zone(file: Path, origin: str = "") -> tuple[dict[str, dict[str, list[Any]]], list[str]]:
    """The records by name and kind, and what was passed over (kinds that the gateway never asks for). ZoneFileError.

    `origin`: the zone's name; without it the file needs `$ORIGIN`.
    """
    import dns.exception
    import dns.rdatatype
    import dns.zone

    try:
        with file.open("rb") as opened:
            octets = opened.read(LARGEST + 1)
        if len(octets) > LARGEST:
            raise ZoneFileError(f"{file}: larger than {LARGEST} octets")
        zone = dns.zone.from_text(
            octets.decode(), origin=origin or None, relativize=False, check_origin=False, allow_include=False
        )
    except OSError as error:
        raise ZoneFileError(f"{file}: {error.strerror}") from error
    except dns.zone.UnknownOrigin as error:
        raise ZoneFileError(f"{file}: no $ORIGIN in it; name the zone: example.test={file}") from error
    except (dns.exception.DNSException, ValueError) as error:
        raise ZoneFileError(f"{file}: {str(error) or type(error).__name__}") from error
    found: dict[str, dict[str, list[Any]]] = {}
    passed_over: list[str] = []
    for name, _, rdata in zone.iterate_rdatas():
        kind = dns.rdatatype.to_text(rdata.rdtype)
        text = name.to_text(omit_final_dot=True)
        if kind not in KINDS:
            passed_over.append(f"{text} {kind}")
            continue
        found.setdefault(text, {}).setdefault(kind, []).append(_value(kind, rdata))
    try:
        Zones(found)
    except ConfigError as error:
        raise ZoneFileError(f"{file}: {error}") from error
    return found, passed_over


def _value(kind: str, rdata: Any) -> Any:
    if kind == "TXT":
        return [one.decode("utf-8", "backslashreplace") for one in rdata.strings]
    if kind == "MX":
        return [int(rdata.preference), rdata.exchange.to_text(omit_final_dot=True) or "."]
    return str(rdata.to_text()).removesuffix(".")
