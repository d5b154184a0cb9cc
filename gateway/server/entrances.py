"""What stands behind a listening socket: the protocol that the listener speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.smtp.arrival import protocols

if TYPE_CHECKING:
    from gateway.smtp.site import Door


def entrance(door: Door, loop: asyncio.AbstractEventLoop) -> Callable[[], asyncio.BaseProtocol]:
    """What a door makes for each connection."""
    if door.config.protocol == "policy":
        from gateway.policy.server import policy_protocols  # only where it is spoken

        return policy_protocols(door, loop)
    if door.config.protocol == "milter":
        from gateway.milter.server import milter_protocols  # only where it is spoken

        return milter_protocols(door, loop)
    return protocols(door, loop)
