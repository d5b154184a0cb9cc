"""One Authentication-Results field on top (RFC 8601); those of strangers that claim our name are removed."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Literal

from gateway import (
    AuthResult,
    ClientClass,
    Edit,
    Message,
    Plugin,
    PluginOptions,
    Transaction,
    add_header,
    hook,
    remove_header,
)
from gateway.mailauth.results import FIELD, Names, remove_forged, render_results

_OF_THE_CLIENT = frozenset(["spf", "iprev"])
"""Methods that check the client's address."""


class Options(PluginOptions):
    """`[plugin.authres]`."""

    add: bool = True
    """Add the field; `false` only removes forged ones."""
    other_ids: tuple[str, ...] = ()
    """Further names that only we may write: former ones, those of other gateways of the site. `*.example.org` is every
    name below example.org."""
    remote_ip: bool = True
    """Write the client's address, `smtp.remote-ip`, beside the results of `spf` and `iprev`."""
    auth: Literal["identity", "result", "off"] = "identity"
    """What is written of a client that logged in: `auth=pass` with its identity, or without, or nothing."""
    remove_received_spf: bool = False
    """Remove every Received-SPF field (RFC 7208 9.1) that a message arrives with."""


class AuthRes(Plugin[Options]):
    """The plugin."""

    @cached_property
    def _names(self) -> Names:
        return Names((self.context.authserv_id, *self.options.other_ids))

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> Sequence[Edit]:
        """Cut the forged fields, put ours on top of everything else. ARC sets are somebody's signed words and stay."""
        removals, forged = remove_forged(message, self._names)
        if forged:
            self.context.metrics.count("forged_fields_removed", forged)
        edits: list[Edit] = [*removals]
        if self.options.remove_received_spf and message.field("received-spf") is not None:
            edits.append(remove_header("Received-SPF"))
        if self.options.add:
            results = self._results(transaction)
            utf8 = transaction.parameter("SMTPUTF8") is not None  # RFC 8616 3
            edits.append(add_header(FIELD, render_results(self.context.authserv_id, results, utf8=utf8)))
        return edits

    def _results(self, transaction: Transaction) -> list[AuthResult]:
        """What was found, and what the session itself says."""
        results: list[AuthResult] = []
        session = transaction.session
        if self.options.auth != "off" and session.client_class is ClientClass.AUTHENTICATED:
            shown = bool(session.identity) and self.options.auth == "identity"
            # RFC 8601 2.7.4
            properties = (("smtp.auth", session.identity),) if shown else ()
            results.append(AuthResult(method="auth", result="pass", properties=properties))
        address = _address(session.client_address) if self.options.remote_ip else ""
        for result in transaction.findings.of(AuthResult):
            if address and result.method in _OF_THE_CLIENT and _is_about_the_client(result):
                about = (*result.properties, ("smtp.remote-ip", address))
                results.append(AuthResult(method=result.method, result=result.result, reason=result.reason, properties=about))
            else:
                results.append(result)
        return results


def _is_about_the_client(result: AuthResult) -> bool:
    """Of the client as we see it; what a gateway in front told is about its own client."""
    return result.property("smtp.remote-ip") is None and result.property("policy.upstream") is None


@lru_cache(maxsize=1_000)
def _address(client: str) -> str:
    """As RFC 5952 and dotted quads have it, without a scope; `` when it is not known."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
