"""For tests of plugins: sessions, transactions and messages in one line, fake DNS and servers, a plugin, a chain or the whole gateway run."""

from typing import TYPE_CHECKING, Any

from gateway.testing.asserting import assert_finding, assert_verdict, trace_text
from gateway.testing.builders import a_message, a_recipient, a_session, a_signed_message, a_transaction, signing_zone
from gateway.testing.context import Clock, FakeContext, ListLog, ListMetrics, MemoryStore
from gateway.testing.dns import TEMPFAIL, FakeResolver
from gateway.testing.run import Result, run_chain, run_plugin
from gateway.testing.scanner import FakeScanner
from gateway.testing.sessions import play_session, recorded_sessions

if TYPE_CHECKING:
    from gateway.testing.dns_server import StubDnsServer
    from gateway.testing.end_to_end import EndToEnd, Sent
    from gateway.testing.next_hop import ScriptedNextHop

__all__ = [
    "TEMPFAIL",
    "Clock",
    "EndToEnd",
    "FakeContext",
    "FakeResolver",
    "FakeScanner",
    "ListLog",
    "ListMetrics",
    "MemoryStore",
    "Result",
    "ScriptedNextHop",
    "Sent",
    "StubDnsServer",
    "a_message",
    "a_recipient",
    "a_session",
    "a_signed_message",
    "a_transaction",
    "assert_finding",
    "assert_verdict",
    "play_session",
    "recorded_sessions",
    "run_chain",
    "run_plugin",
    "signing_zone",
    "trace_text",
]


_HEAVY = {
    "EndToEnd": "gateway.testing.end_to_end",
    "ScriptedNextHop": "gateway.testing.next_hop",
    "Sent": "gateway.testing.end_to_end",
    "StubDnsServer": "gateway.testing.dns_server",
}
"""They bring servers, SQLAlchemy or dnspython with them, which a run of pytest that does not use them should not load."""


def __getattr__(name: str) -> Any:
    """What is in `_HEAVY`, when it is asked for."""
    if name in _HEAVY:
        import importlib

        return getattr(importlib.import_module(_HEAVY[name]), name)
    raise AttributeError(name)
