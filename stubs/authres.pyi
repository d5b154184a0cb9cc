from collections.abc import Sequence

class AuthenticationResultProperty:
    type: str
    name: str
    value: str

class AuthenticationResult:
    method: str
    result: str
    reason: str | None
    properties: Sequence[AuthenticationResultProperty]

class AuthenticationResultsHeader:
    authserv_id: str
    results: Sequence[AuthenticationResult]
    @classmethod
    def parse(cls, string: str) -> AuthenticationResultsHeader: ...

class SPFAuthenticationResult:
    def __init__(self, result: str = ..., smtp_mailfrom: str = ...) -> None: ...

class DKIMAuthenticationResult:
    def __init__(self, result: str = ..., header_d: str = ...) -> None: ...
