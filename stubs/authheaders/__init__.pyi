from collections.abc import Callable
from typing import Any

from authheaders import dmarc_lookup as dmarc_lookup

def check_dmarc(
    msg: bytes,
    spf_result: Any = None,
    dkim_result: Any = None,
    dnsfunc: Callable[..., Any] | None = None,
    psddmarc: bool = False,
    dmarcbis: bool = False,
) -> Any: ...
