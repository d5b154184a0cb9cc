"""UNIX sockets to listen on: owner, mode, what may stand in their place, and that nobody else's file is removed."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from gateway.config.models import ListenerConfig
from gateway.server.listeners import BindError, listening_sockets, reserve
from gateway.server.sockets import SocketError, identity, listen, remove


def listener(path: Path, **settings: str) -> ListenerConfig:
    return ListenerConfig.model_validate({"name": "mx", "bind": f"unix:{path}", **settings})


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_reserved_shared_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (place,) = reserve([listener(path)])
    assert (str(place), mode_of(path)) == (f"unix:{path}", 0o660)
    sock = listening_sockets([place])["mx"]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        sock.setblocking(True)
        sock.settimeout(5)
        sock.accept()[0].close()
    place.close()
    assert not path.exists()
    place.close()


@pytest.mark.parametrize("mode", ["0600", "660", "0666"])
def test_mode_and_owner(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "s"
    owner = "nobody:nogroup" if os.geteuid() == 0 else ""
    listen(str(path), listener(path, socket_mode=mode, socket_owner=owner), 1).close()
    assert mode_of(path) == int(mode, 8)
    if owner:
        assert (path.lstat().st_uid, path.lstat().st_gid) == (65534, 65534)


def test_a_stale_socket_is_removed_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = listen(str(path), listener(path), 1)
    before = identity(str(path))
    with pytest.raises(BindError) as caught:
        reserve([listener(path)])
    assert str(caught.value) == f"cannot listen on unix:{path} (listener 'mx'): another process listens there"
    assert identity(str(path)) == before
    first.close()  # as when its process was killed: the file stays
    second = listen(str(path), listener(path), 1)
    remove(str(path), before)
    assert path.exists(), "another one's file is not removed"
    second.close()


def test_two_listeners_at_one_place(tmp_path: Path) -> None:
    path = tmp_path / "s"
    other = listener(path).model_copy(update={"name": "other"})
    with pytest.raises(BindError, match="listener 'other'"):
        reserve([listener(path), other])
    assert not path.exists(), "what was made before the mistake is gone"


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(SocketError, match="no socket"):
        listen(str(path), listener(path), 1)
    assert path.read_text() == "precious"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SocketError, match="no socket"):
        listen(str(path), listener(path), 1)
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(SocketError, match="another kind"):
            listen(str(path), listener(path), 1)


def test_other_reasons_are_told_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match="No such file or directory"):
        listen(str(tmp_path / "missing" / "s"), listener(tmp_path / "s"), 1)
    path = tmp_path / "s"
    for owner in ("no-such-user", ":no-such-group"):
        with pytest.raises(SocketError, match="no-such"):
            listen(str(path), listener(path, socket_owner=owner), 1)
        assert not path.exists()


@pytest.mark.parametrize("bind", ["unix:", "unix:run/x", "unix:/", "unix:/" + "x" * 107, "unix:/a\0b"])
def test_what_is_no_place_for_a_socket(bind: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        ListenerConfig(bind=bind)


@pytest.mark.parametrize("settings", [{"socket_mode": "rw"}, {"socket_mode": "1777"}, {"socket_owner": "a:b:c"}])
def test_settings_that_say_nothing(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"octal|user:group"):
        ListenerConfig.model_validate({"bind": "unix:/run/x", **settings})
