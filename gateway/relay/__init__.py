"""The next-hop side: an engine without I/O, links on aiosmtplib, a pool for each server, and one `Handover` a transaction.

`gateway.relay.pool.Relay` is what a worker makes; `Relay.handover` is what a transaction asks for. Nothing here judges a
message or keeps one: a reply of the next hop goes back word for word, everything about our own link becomes `LinkError`
(RFC 5321 3.7, 4.2, 4.5.4).
"""

from gateway.relay.protocol import Capabilities
from gateway.relay.routes import RouteTable, Server, parse_server

__all__ = ["Capabilities", "RouteTable", "Server", "parse_server"]
