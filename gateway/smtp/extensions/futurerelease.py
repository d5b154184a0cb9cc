"""FUTURERELEASE (RFC 4865): offered where the next hop has it, with its bounds; it is the one that holds the message."""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension


class _FutureRelease(Extension):
    keyword = "FUTURERELEASE"
    mail = frozenset({"HOLDFOR", "HOLDUNTIL"})
    has_values = True


FUTURERELEASE = _FutureRelease()
