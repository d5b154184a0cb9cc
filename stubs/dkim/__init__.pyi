from collections.abc import Callable, Mapping

class DKIMException(Exception): ...
class ValidationError(DKIMException): ...

def validate_signature_fields(sig: Mapping[bytes, bytes], mandatory_fields: list[bytes] = ..., arc: bool = ...) -> None: ...
def sign(
    message: bytes,
    selector: bytes,
    domain: bytes,
    privkey: bytes,
    identity: bytes | None = ...,
    canonicalize: tuple[bytes, bytes] = ...,
    signature_algorithm: bytes = ...,
    include_headers: list[bytes] | None = ...,
    length: bool = ...,
    logger: object = ...,
    linesep: bytes = ...,
    tlsrpt: bool = ...,
) -> bytes: ...

class DKIM:
    def __init__(self, message: bytes, logger: object = ...) -> None: ...
    def verify(self, idx: int = ..., dnsfunc: Callable[..., bytes | None] = ...) -> bool: ...

def arc_sign(
    message: bytes,
    selector: bytes,
    domain: bytes,
    privkey: bytes,
    srv_id: bytes,
    signature_algorithm: bytes = ...,
    include_headers: list[bytes] | None = ...,
    timestamp: int | None = ...,
    logger: object = ...,
    standardize: bool = ...,
    linesep: bytes = ...,
) -> list[bytes]: ...
def arc_verify(
    message: bytes, logger: object = ..., dnsfunc: object = ..., minkey: int = ..., timeout: int = ...
) -> tuple[bytes | None, list[dict[str, object]], str]: ...
