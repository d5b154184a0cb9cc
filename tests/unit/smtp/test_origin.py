"""Where a session comes from: it is made field by field, so a field that `Session` gets has to be set there too."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gateway.session import Session
from gateway.smtp.origin import Origin
from gateway.smtp.site import Door
from gateway.testing.in_process import InProcessGateway
from tests.unit.smtp.test_server_endings import config


async def test_a_session_has_every_field_as_its_constructor_sets_it(tmp_path: Path) -> None:
    async with InProcessGateway(config(tmp_path), directory=tmp_path) as gateway:
        door: Door = next(iter(gateway._doors.values()))[0]
        origin = Origin(address="192.0.2.1", port=4242, server_address="192.0.2.2", server_port=25)
        made = origin.session(door)
    told = {
        name: getattr(made, name)
        for name in (
            "id",
            "listener",
            "client_address",
            "client_port",
            "server_address",
            "server_port",
            "started",
            "client_class",
        )
    }
    assert made == Session(**told)
    assert [field.name for field in dataclasses.fields(Session) if not hasattr(made, field.name)] == []
    assert made.state is not origin.session(door).state
