"""DELIVERBY (RFC 2852): offered where the next hop has it, with its least time; BY= goes on as it came.

Nothing is taken off the time for our part: the content goes on while the client waits for the reply.
"""

from __future__ import annotations

from gateway.smtp.extensions.base import Extension


class _DeliverBy(Extension):
    keyword = "DELIVERBY"
    mail = frozenset({"BY"})
    has_values = True


DELIVERBY = _DeliverBy()
