from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

DNSLookup: Any
MAX_VOID_LOOKUPS: int

class TempError(Exception):
    def __init__(self, msg: str) -> None: ...
    msg: str

class PermError(Exception):
    msg: str

class query:
    c: str
    d: str
    i: str
    l: str
    o: str
    s: str
    v: str
    A: str
    ipaddr: IPv4Address | IPv6Address
    cidrmax: int
    lookups: int
    mechanism: str | None
    cache: dict[tuple[str, str], list[Any]]
    def __init__(
        self,
        i: str,
        s: str,
        h: str,
        local: str | None = ...,
        receiver: str | None = ...,
        strict: bool = ...,
        timeout: float = ...,
        verbose: bool = ...,
        querytime: float = ...,
    ) -> None: ...
    def check(self, spf: str | None = ...) -> tuple[str, int, str]: ...
    def check1(self, spf: str | None, domain: str, recursion: int) -> tuple[str, int, str]: ...
    def check_lookups(self) -> None: ...
    def cidrmatch(self, ipaddrs: Iterable[Any], n: int) -> bool: ...
    def dns(self, name: str, qtype: str, cnames: dict[str, str] | None = ..., ignore_void: bool = ...) -> list[Any]: ...
    def dns_a(self, domainname: str, A: str = ...) -> list[str]: ...
    def dns_mx(self, domainname: str) -> Iterable[str]: ...
    def dns_spf(self, domain: str) -> str | None: ...
    def expand_domain(self, arg: str) -> str: ...
    def getp(self) -> str: ...
    def validate_mechanism(self, mech: str) -> Iterable[Any]: ...
    def validated_ptrs(self) -> list[str]: ...
