"""For tests of plugins: sessions, transactions and messages in one line, fake DNS and a name server, one plugin or a whole chain run."""

from typing import TYPE_CHECKING, Any

from gateway.testing.builders import a_message, a_recipient, a_session, a_transaction
from gateway.testing.context import Clock, FakeContext, ListLog, ListMetrics, MemoryStore
from gateway.testing.dns import TEMPFAIL, FakeResolver
from gateway.testing.run import Result, run_chain, run_plugin

if TYPE_CHECKING:
    from gateway.testing.dns_server import StubDnsServer

__all__ = [
    "TEMPFAIL",
    "Clock",
    "FakeContext",
    "FakeResolver",
    "ListLog",
    "ListMetrics",
    "MemoryStore",
    "Result",
    "StubDnsServer",
    "a_message",
    "a_recipient",
    "a_session",
    "a_transaction",
    "run_chain",
    "run_plugin",
]


def __getattr__(name: str) -> Any:
    """The name server brings dnspython with it, which a run of pytest that does not use it should not load."""
    if name == "StubDnsServer":
        from gateway.testing.dns_server import StubDnsServer

        return StubDnsServer
    raise AttributeError(name)
