"""The base of `errors`, by itself: the supervisor needs no more of them."""

from __future__ import annotations


class GatewayError(Exception):
    """Base of every error the gateway raises on purpose."""
