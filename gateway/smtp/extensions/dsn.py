"""DSN (RFC 3461): offered where the next hop has it; RET, ENVID, NOTIFY and ORCPT go on octet for octet.

Their values are the next hop's to judge: it is the one that will write the notice.
"""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension


class _Dsn(Extension):
    keyword = "DSN"
    mail = frozenset({"RET", "ENVID"})
    rcpt = frozenset({"NOTIFY", "ORCPT"})


DSN = _Dsn()
