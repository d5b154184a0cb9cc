"""Addresses are reserved once and shared by workers: gateway.server.listeners."""

from __future__ import annotations

import errno
import socket

import pytest

from gateway.config.models import ListenerConfig
from gateway.server.listeners import BindError, listening_sockets, open_listening, reserve
from gateway.server.reserved import show_address


def listener(bind: str, name: str = "mx") -> ListenerConfig:
    return ListenerConfig(name=name, bind=bind)


def test_two_workers_share_a_reserved_port() -> None:
    (place,) = reserve([listener("127.0.0.1:0")])
    assert place.address[1] > 0
    assert str(place) == f"127.0.0.1:{place.address[1]}"
    one = listening_sockets([place])["mx"]
    two = listening_sockets([place])["mx"]
    place.held.close()
    try:
        assert one.getsockname() == two.getsockname() == place.address
        one.close()
        with socket.create_connection(place.address, timeout=5):
            two.setblocking(True)
            two.settimeout(5)
            two.accept()[0].close()
    finally:
        two.close()


def test_the_reserving_socket_takes_no_connections() -> None:
    (place,) = reserve([listener("127.0.0.1:0")])
    with place.held, pytest.raises(ConnectionRefusedError):
        socket.create_connection(place.address, timeout=5)


@pytest.mark.parametrize("share", [False, True])
def test_a_port_in_use_is_named(share: bool) -> None:
    with socket.socket() as other:
        if share:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = show_address(*other.getsockname())
        with pytest.raises(BindError) as caught:
            reserve([listener("127.0.0.1:0", "first"), listener(address)])
        assert str(caught.value) == f"cannot listen on {address} (listener 'mx'): another process listens there"
        with pytest.raises(BindError):
            open_listening(address, "[admin]")


def test_other_reasons_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BindError, match=r"192\.0\.2\.1:2525 .*Cannot assign requested address"):
        reserve([listener("192.0.2.1:2525")])
    denied = BindError("127.0.0.1:25", "listener 'mx'", OSError(errno.EACCES, "Permission denied"))
    assert "CAP_NET_BIND_SERVICE" in str(denied)


def test_ipv6() -> None:
    try:
        (place,) = reserve([listener("[::1]:0")])
    except BindError:
        pytest.skip("no IPv6 on this machine")
    with place.held, listening_sockets([place])["mx"] as sock:
        assert str(place) == f"[::1]:{sock.getsockname()[1]}"
