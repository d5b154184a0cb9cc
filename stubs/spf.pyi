from typing import Any

class TempError(Exception):
    msg: str

class PermError(Exception):
    msg: str

class query:
    l: str
    o: str
    d: str
    i: str
    A: str
    cidrmax: int
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
    def set_default_explanation(self, exp: str) -> None: ...
    def dns(self, name: str, qtype: str, cnames: dict[str, str] | None = ..., ignore_void: bool = ...) -> list[Any]: ...
    def dns_a(self, domainname: str, A: str = ...) -> list[str]: ...
    def dns_ptr(self, i: str) -> list[str]: ...
    def cidrmatch(self, ipaddrs: list[str], n: int) -> bool: ...
    def validated_ptrs(self) -> list[str]: ...
