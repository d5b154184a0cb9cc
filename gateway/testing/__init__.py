"""For tests of plugins: sessions, transactions and messages in one line, fake DNS and a name server, one plugin or a whole chain run."""

from gateway.testing.builders import a_message, a_recipient, a_session, a_transaction
from gateway.testing.context import Clock, FakeContext, ListLog, ListMetrics, MemoryStore
from gateway.testing.dns import TEMPFAIL, FakeResolver
from gateway.testing.dns_server import StubDnsServer
from gateway.testing.run import Result, run_chain, run_plugin

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
