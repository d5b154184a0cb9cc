"""MT-PRIORITY (RFC 6710): offered where the next hop has it, with its profile; the priority is the next hop's to grant."""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension


class _MtPriority(Extension):
    keyword = "MT-PRIORITY"
    mail = frozenset({"MT-PRIORITY"})
    has_values = True


MT_PRIORITY = _MtPriority()
