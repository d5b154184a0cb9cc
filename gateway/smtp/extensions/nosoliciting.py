"""NO-SOLICITING (RFC 3865): offered where the next hop has it, with its keywords; SOLICIT= goes on as it came."""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension


class _NoSoliciting(Extension):
    keyword = "NO-SOLICITING"
    mail = frozenset({"SOLICIT"})
    has_values = True


NO_SOLICITING = _NoSoliciting()
