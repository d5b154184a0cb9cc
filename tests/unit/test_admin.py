"""/live, /ready, /services and /metrics: gateway.admin."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from gateway.admin.app import make_app
from gateway.admin.health import ANSWER_LIMIT, BEAT_LIMIT, Health
from gateway.server.slots import Slots, WorkerState


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slots(clock: Clock) -> Slots:
    """Two workers up, both routes answer."""
    slots = Slots(2, ["in", "out"], clock=clock)
    for slot in slots:
        slot.take(pid=1)
        slot.state = WorkerState.READY
        slot.note_sessions(2)
        slot.note_health("in", True)
    slots[1].note_health("out", True)
    return slots


def health(slots: Slots, **more: Any) -> Health:
    return Health(slots=slots, supervisor=77, **{"parent": lambda: 77, **more})


async def get(app: Starlette, path: str, method: str = "GET") -> tuple[int, str]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "root_path": "", "scheme": "http", "query_string": b"", "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


async def ready(slots: Slots, **more: Any) -> tuple[int, dict[str, Any]]:
    status, body = await get(make_app(health(slots, **more), Path("/nonexistent")), "/ready")
    return status, json.loads(body)


async def test_all_well(slots: Slots) -> None:
    status, report = await ready(slots)
    assert status == 200
    assert report == {
        "ready": True, "reasons": [], "warnings": [], "workers": 2, "workers_up": 2, "sessions": 4, "generation": 0, "routes": {"in": True, "out": True},
        "resting": {},
    }  # fmt: skip
    assert (await get(make_app(health(slots), Path()), "/live"))[0] == 200


async def test_draining_is_not_ready_but_alive(slots: Slots) -> None:
    slots.drain()
    status, report = await ready(slots)
    assert (status, report["reasons"]) == (503, ["draining"])
    slots[0].state = slots[1].state = WorkerState.DRAINING
    assert (await get(make_app(health(slots), Path()), "/live"))[0] == 200


async def test_a_silent_loop_is_not_up(slots: Slots, clock: Clock) -> None:
    clock.now += BEAT_LIMIT + 1
    slots[1].beat()
    status, report = await ready(slots)
    assert (status, report["workers_up"], report["sessions"]) == (200, 1, 2)  # one of two serves
    slots[1].state = WorkerState.STARTING
    status, report = await ready(slots)
    assert (status, report["reasons"]) == (503, ["no worker is up"])
    assert (await get(make_app(health(slots), Path()), "/live"))[0] == 503


async def test_most_workers_down_is_not_ready(clock: Clock) -> None:
    slots = Slots(3, clock=clock)
    slots[0].take(pid=1)
    slots[0].state = WorkerState.READY
    assert (await ready(slots))[1]["reasons"] == ["2 of 3 workers not up"]


async def test_a_route_without_an_answer_is_not_ready(slots: Slots, clock: Clock) -> None:
    slots[1].note_health("out", False)
    status, report = await ready(slots)
    assert (status, report["reasons"], report["routes"]) == (
        503,
        ["no next hop of route 'out' answers"],
        {"in": True, "out": False},
    )
    slots[0].note_health("out", True, 2)
    slots[1].note_health("out", True, 1)
    assert (await ready(slots))[1]["resting"] == {"out": 2}
    slots[1].note_health("out", False)
    assert (await ready(slots))[0] == 200
    clock.now += ANSWER_LIMIT + 1
    for slot in slots:
        slot.beat()
    assert len((await ready(slots))[1]["reasons"]) == 2


async def test_no_supervisor_no_life(slots: Slots) -> None:
    status, report = await ready(slots, parent=lambda: 1)
    assert (status, report["reasons"]) == (503, ["the supervisor has ended"])
    assert (await get(make_app(health(slots, parent=lambda: 1), Path()), "/live"))[0] == 503


async def test_ephemeral_state_is_told(slots: Slots) -> None:
    status, report = await ready(slots, state_warning="/var/x is on overlay")
    assert (status, report["warnings"]) == (200, ["/var/x is on overlay"])


async def test_nothing_else_is_there(slots: Slots) -> None:
    app = make_app(health(slots), Path())
    assert (await get(app, "/"))[0] == 404
    assert (await get(app, "/ready", "POST"))[0] == 405


async def test_metrics_are_sums_over_processes(slots: Slots, tmp_path: Path) -> None:
    code = (
        "from gateway import metrics as m; m.SESSIONS.inc(2); m.count_reply('RCPT', 550); m.count_reply('X' * 50, 250);"
        "m.count_reply('MAIL', 999); m.observe_run('spf', 'check', 'none', 0.02); m.count_transaction('held');"
        "[m.count_link_error(f'h{n}:25') for n in range(300)]; m.count_plugin_error('spf', 'timeout'); m.SESSIONS_OPEN.inc(3); m.flush(); m.flush()"
    )
    for _ in range(2):
        environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], env=environment, check=True)
    status, text = await get(make_app(health(slots), tmp_path), "/metrics")
    assert status == 200
    lines = text.splitlines()
    assert "mailgateway_sessions_total 4.0" in lines
    assert 'mailgateway_replies_total{code="550",command="RCPT"} 2.0' in lines
    assert 'mailgateway_replies_total{code="250",command="other"} 2.0' in lines
    assert 'mailgateway_replies_total{code="other",command="MAIL"} 2.0' in lines
    assert 'mailgateway_transactions_total{verdict="held"} 2.0' in lines
    assert 'mailgateway_plugin_errors_total{kind="timeout",plugin="spf"} 2.0' in lines
    assert 'mailgateway_link_errors_total{next_hop="other"} 200.0' in lines
    assert 'mailgateway_plugin_seconds_count{hook="check",plugin="spf"} 2.0' in lines
    assert "mailgateway_sessions_open 6.0" in lines
    assert "mailgateway_workers_up 2.0" in lines
    assert 'mailgateway_route_up{route="out"} 1.0' in lines
    assert sum(line.startswith("mailgateway_link_errors_total") for line in lines) == 201


async def test_services_of_plugins(slots: Slots, tmp_path: Path) -> None:
    code = (
        "from gateway.metrics import ServiceMeter as S; S('policy', '127.0.0.1:10023'); S('milter', '127.0.0.1:8891').failed('timeout', rests=False);"
        "S('clamav', 'unix:/run/clamd').failed('connect', rests=True)"
    )
    app = make_app(health(slots), tmp_path)
    assert await get(app, "/services") == (200, '{"services":[]}')
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], env=environment, check=True)
    status, body = await get(app, "/services")
    assert (status, json.loads(body)) == (
        503,
        {
            "services": [
                {"plugin": "clamav", "server": "unix:/run/clamd", "down": 1, "resting": 1},
                {"plugin": "milter", "server": "127.0.0.1:8891", "down": 1, "resting": 0},
                {"plugin": "policy", "server": "127.0.0.1:10023", "down": 0, "resting": 0},
            ]
        },
    )
