"""The version of the plugin API: what `gateway`, `gateway.testing` and the hooks promise. docs/api-stability.md says what follows from it."""

from __future__ import annotations

from typing import Final

API_VERSION: Final = (1, 1)
"""(major, minor): the minor number grows with what is added, the major one with what is taken away or means something else.

Examples:
    >>> API_VERSION >= (1, 0)
    True
"""
