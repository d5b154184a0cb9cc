"""The private names of aiosmtpd and asyncio that `gateway.smtp.server` leans on are still what they were."""

import asyncio
import inspect
import re
from asyncio.sslproto import SSLProtocol
from asyncio.streams import FlowControlMixin
from collections import deque
from typing import Any

from aiosmtpd.smtp import SMTP

from gateway.smtp.border import Border
from gateway.smtp.settled import Prototype, Settled


def test_starttls_is_a_coroutine_that_pushes_once_and_swaps_the_transport() -> None:
    source = inspect.getsource(SMTP.smtp_STARTTLS)
    for name in (
        "self.push('220",
        "self._tls_protocol",
        "self._original_transport",
        "self.transport",
        "self.tls_context",
        "self.loop",
    ):
        assert name in source
    assert inspect.iscoroutinefunction(SMTP.smtp_STARTTLS)
    assert source.count("self.push('220") == 1


def test_flow_control_keeps_its_names() -> None:
    source = inspect.getsource(FlowControlMixin)
    for name in ("_paused", "_drain_helper", "_connection_lost", "pause_writing", "resume_writing"):
        assert name in source
    assert inspect.iscoroutinefunction(getattr(FlowControlMixin, "_drain_helper"))  # noqa: B009 - the stubs do not know it


async def test_a_connection_sets_what_flow_control_would_set() -> None:
    loop = asyncio.get_running_loop()
    made = vars(FlowControlMixin(loop))
    assert made == {"_loop": loop, "_paused": False, "_drain_waiters": deque(), "_connection_lost": False}
    assert set(made) <= set(vars(Border))
    assert "_drain_helper" not in vars(Border)  # a name that is only annotated there hides it from compiled code
    assert "_closed" not in vars(Border)  # all that `__del__` of StreamReaderProtocol looks at
    assert set(re.findall(r"self\.(\w+)", inspect.getsource(asyncio.StreamReaderProtocol.__del__))) <= {"_closed"}


async def test_what_the_prototype_shares_is_no_connections_own() -> None:
    made = SMTP(object(), hostname="x", loop=asyncio.get_running_loop())
    assert {"_original_transport", "_tls_protocol", "tls_context", "hostname", "transport", "_handler_coroutine"} <= set(
        made.__dict__
    )
    assert made._original_transport is None
    assert made.transport is None


async def test_settings_are_the_class_and_what_a_connection_has_is_its_own() -> None:
    """`transport` of one connection in the dictionary of all would send replies to somebody else."""
    Prototype("x", asyncio.get_running_loop())
    assert vars(Settled)["hostname"] == "x"
    assert isinstance(vars(Settled)["_auth_callback"], staticmethod)
    assert {"transport", "_original_transport", "_handler_coroutine", "loop", "_loop"} <= set(vars(Border))
    kind: Any = Border
    one, other = kind.__new__(kind), kind.__new__(kind)
    for name in ("_tls_protocol", "session", "envelope"):
        setattr(one, name, one)
        assert getattr(other, name) is None


def test_those_who_wait_for_a_slow_client_may_be_a_list() -> None:
    source = inspect.getsource(FlowControlMixin)
    used = set(re.findall(r"_drain_waiters\.(\w+)", source))
    assert used <= set(dir([]))
    assert "append" in used


def test_the_methods_that_are_replaced_exist() -> None:
    for name in ("connection_made", "data_received", "eof_received", "connection_lost", "push"):
        assert callable(getattr(SMTP, name))
        assert name in Border.__dict__


async def test_tls_that_begins_at_once_is_made_as_aiosmtpd_makes_it() -> None:
    """`gateway.smtp.tls_layer` makes asyncio's SSLProtocol itself: the session must hear of it when there is TLS, and not before."""
    source = inspect.getsource(SMTP.smtp_STARTTLS)
    assert "sslproto.SSLProtocol(" in source
    parameters = inspect.signature(SSLProtocol.__init__).parameters
    assert list(parameters)[:5] == ["self", "loop", "app_protocol", "sslcontext", "waiter"]
    assert parameters["call_connection_made"].default is True
    assert {"server_side", "ssl_handshake_timeout"} <= set(parameters)
    assert issubclass(SSLProtocol, asyncio.BufferedProtocol)


async def test_who_waits_for_a_slow_client_goes_on_waiting_when_it_stops_again() -> None:
    shared = Prototype("x", asyncio.get_running_loop())
    kind: Any = Border
    one, other = kind.__new__(kind), kind.__new__(kind)
    for server in (one, other):
        server.loop, server._paused = shared.loop, False
        server.pause_writing()
    waiting = shared.loop.create_task(one._drain_helper())
    await asyncio.sleep(0)
    assert other._drain_waiters == []
    one.resume_writing()
    one.pause_writing()  # before the waiter has left the list
    await waiting
    assert one._drain_waiters == []
