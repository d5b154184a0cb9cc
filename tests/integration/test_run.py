"""The real command: start, probes, ports in use, drain, workers that die or block."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import COMMAND, Gateway, listening_inodes

Start = Callable[..., Any]


def healthcheck(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "healthcheck", "--config", str(gateway.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_it_starts_tells_where_it_is_and_ends(start: Start) -> None:
    with start() as gateway:
        assert gateway.greeting()[:1] in b"24"
        assert gateway.get("/live") == (200, "alive\n")
        status, body = gateway.get("/ready")
        assert status == 200
        assert json.loads(body)["routes"] == {"default": True}
        metrics = gateway.get("/metrics")[1]
        assert "mailgateway_workers 2.0" in metrics
        found = healthcheck(gateway)
        assert (found.returncode, found.stdout) == (0, "ready\n")
        said = gateway.out.read_text()
        assert f"127.0.0.1:{gateway.smtp}" in said
        assert f"nc 127.0.0.1 {gateway.smtp}" in said
        assert f"swaks --server 127.0.0.1:{gateway.smtp}" in said
        assert str(gateway.state / "inbox") in said
        gateway.process.terminate()
        assert gateway.process.wait(10) == 0
        assert list((gateway.state / "run").iterdir()) == []
        assert not listening_inodes(gateway.smtp)
        found = healthcheck(gateway)
        assert found.returncode == 1
        assert "no answer" in found.stderr


@pytest.mark.parametrize("which", ["smtp", "admin"])
def test_a_port_in_use_is_one_clear_line(start: Start, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with start(ready=False, **{which: port}) as gateway:
            assert gateway.process.wait(20) == 2
            lines = gateway.log.read_text().splitlines()
            purpose = {"smtp": "listener 'mx'", "admin": "[admin]"}[which]
            assert lines == [f"mailgateway: cannot listen on 127.0.0.1:{port} ({purpose}): another process listens there"]


def test_a_second_gateway_does_not_share_the_port(start: Start) -> None:
    with start(workers=1) as first, start(ready=False, smtp=first.smtp) as second:
        assert second.process.wait(20) == 2
        assert f"127.0.0.1:{first.smtp} (listener 'mx'): another process" in second.log.read_text()
        assert first.is_ready()


def test_config_mistakes_are_all_told(start: Start) -> None:
    with start(ready=False, more='bnd = "x"\n[limits]\nmessage_size = "huge"\n') as gateway:
        assert gateway.process.wait(20) == 2
        text = gateway.log.read_text()
        assert "bnd" in text
        assert "message_size" in text


def test_a_killed_worker_is_replaced(start: Start) -> None:
    with start(workers=2) as gateway:
        before = gateway.until(lambda: found if len(found := gateway.worker_pids()) == 2 else None)
        os.kill(before[0], signal.SIGKILL)
        gateway.until(lambda: len(set(gateway.worker_pids()) - set(before)) == 1 and len(gateway.worker_pids()) == 2)
        gateway.until(gateway.is_ready)
        assert before[1] in gateway.worker_pids()
        (event,) = gateway.events("process.ended")
        assert (event["pid"], event["how"]) == (before[0], "signal SIGKILL")
        assert 'mailgateway_workers_ended_total{reason="killed"} 1.0' in gateway.get("/metrics")[1]


def test_a_supervisor_of_one_worker_begins_anew_and_knows_its_children(start: Start) -> None:
    with start(workers=1) as gateway:
        (before,) = gateway.until(gateway.worker_pids)
        maps = Path(f"/proc/{gateway.process.pid}/maps").read_text()
        assert "python" in maps
        assert "pydantic" not in maps
        os.kill(before, signal.SIGKILL)
        gateway.until(lambda: gateway.worker_pids() not in ([], [before]))
        gateway.until(gateway.is_ready)
        assert gateway.greeting()[:1] in b"24"
        (event,) = gateway.events("process.ended")
        assert (event["pid"], event["how"]) == (before, "signal SIGKILL")
        children = gateway.children()
        assert len(children) == 3
        gateway.process.kill()
        gateway.process.wait()
        _all_have_ended(children)


def test_a_worker_whose_loop_stands_still_is_replaced(start: Start) -> None:
    with start(workers=2) as gateway:
        gateway.until(lambda: gateway.workers_up() == 2)
        before = gateway.worker_pids()
        os.kill(before[1], signal.SIGSTOP)
        gateway.until(lambda: gateway.events("worker.blocked"))
        gateway.until(lambda: len(set(gateway.worker_pids()) - set(before)) == 1)
        assert gateway.events("worker.blocked")[0]["pid"] == before[1]
        assert gateway.greeting()


def test_the_other_processes_are_replaced_too(start: Start) -> None:
    with start(workers=1) as gateway:
        beside = set(gateway.children()) - set(gateway.worker_pids())
        assert len(beside) == 2
        for pid in beside:
            os.kill(pid, signal.SIGKILL)
        gateway.until(lambda: len(gateway.events("process.ended")) == 2)
        gateway.until(gateway.is_ready)
        assert {event["child"] for event in gateway.events("process.ended")} == {"admin", "inbox"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_drain(start: Start, number: signal.Signals) -> None:
    with start() as gateway:
        gateway.process.send_signal(number)
        assert gateway.process.wait(10) == 0
        assert gateway.events("gateway.draining")[0]["signal"] == number.name
        assert gateway.events("process.ended") == []


def test_it_is_not_ready_while_it_drains(start: Start) -> None:
    environment = {"MAILGATEWAY__SERVER__LOOP_LIMIT": "60s"}  # longer than the drain: the worker is not replaced
    with start(workers=1, environment=environment) as gateway:
        (worker,) = gateway.until(gateway.worker_pids)
        os.kill(worker, signal.SIGSTOP)  # a session that does not end
        gateway.process.terminate()
        gateway.until(lambda: gateway.get("/ready")[0] == 503)
        assert "draining" in json.loads(gateway.get("/ready")[1])["reasons"]
        found = healthcheck(gateway)
        assert found.returncode == 1
        assert "draining" in found.stderr
        gateway.process.terminate()  # asked twice: at once
        assert gateway.process.wait(5) == 0


def test_nothing_outlives_a_killed_supervisor(start: Start) -> None:
    with start(workers=2) as gateway:
        children = gateway.until(lambda: found if len(found := gateway.children()) == 4 else None)
        gateway.process.kill()
        gateway.process.wait()
        _all_have_ended(children)


def _all_have_ended(children: list[int]) -> None:
    deadline = time.monotonic() + 5
    while any(_runs(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in children)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_probes_that_connect_and_leave_make_no_log_line(start: Start) -> None:
    with start(workers=1) as gateway:
        gateway.until(lambda: gateway.events("gateway.listening"))
        before = gateway.log.read_text()
        for _ in range(20):
            socket.create_connection(("127.0.0.1", gateway.smtp), timeout=5).close()
            assert gateway.get("/live")[0] == 200
        time.sleep(0.5)
        assert gateway.log.read_text() == before


def test_the_lines_to_paste_deliver_a_message(start: Start, require: Callable[[str], str]) -> None:
    with start(workers=2) as gateway:
        said = gateway.until(lambda: text if "swaks" in (text := gateway.out.read_text()) else "").splitlines()
        for program in ("nc", "swaks"):
            require(program)
            line = next(line.strip() for line in said if f"| {program}" in line or line.strip().startswith(program))
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=False)
            assert "250 2.0.0 Ok" in done.stdout, done.stdout
        arrived = [file.read_bytes() for file in (gateway.state / "inbox" / "alice" / "new").iterdir()]
        assert len(arrived) == 2
        assert any(octets.endswith(b"From: you@good.demo.test\r\nSubject: hello\r\n\r\nHello.\r\n") for octets in arrived)
        for counted in (
            'mailgateway_transactions_total{verdict="delivered"} 2.0',
            'mailgateway_replies_total{code="354",command="DATA"} 2.0',
            'mailgateway_replies_total{code="250",command="RCPT"} 2.0',
            'mailgateway_replies_total{code="250",command="CONTENT"} 2.0',
            "mailgateway_transaction_seconds_count 2.0",
        ):
            gateway.until(lambda line=counted: line in gateway.get("/metrics")[1].splitlines())


def test_unknown_recipients_and_other_domains_are_refused(start: Start) -> None:
    with start(workers=1) as gateway, smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=10) as client:
        client.ehlo("client.example")
        assert client.mail("me@example.org")[0] == 250
        assert client.rcpt("carol@inbox.test") == (550, b"5.1.1 <carol@inbox.test>: no such mailbox at inbox.test")
        assert client.rcpt("someone@elsewhere.test")[0] in (550, 554)


def test_a_transaction_under_way_ends_in_the_drain(start: Start) -> None:
    with start(workers=1) as gateway, ExitStack() as undo:
        client = smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=10)
        undo.callback(client.close)
        idle = smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=10)
        undo.callback(idle.close)
        client.ehlo("client.example")
        client.mail("me@example.org")
        client.rcpt("alice@inbox.test")
        assert client.docmd("DATA")[0] == 354
        gateway.process.terminate()
        assert idle.getreply()[0] == 421
        idle.close()
        gateway.until(lambda: not listening_inodes(gateway.smtp))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", gateway.smtp), timeout=5)
        assert gateway.get("/ready")[0] == 503
        client.send(b"Subject: late\r\n\r\nBut whole.\r\n.\r\n")
        assert client.getreply()[0] == 250
        assert gateway.process.wait(10) == 0
        (file,) = (gateway.state / "inbox" / "alice" / "new").iterdir()
        assert file.read_bytes().endswith(b"Subject: late\r\n\r\nBut whole.\r\n")


BLOCKS = """
import time
from gateway import Message, Plugin, Verdict, hook

class Blocks(Plugin):
    @hook
    async def judge(self, message: Message) -> Verdict | None:
        if message.subject == "block":
            time.sleep(600)
        return None
"""


def test_a_plugin_that_blocks_the_loop_costs_its_worker_and_no_mail(start: Start, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "blocks.py").write_text(BLOCKS)
    chain = f'plugin_path = ["{tmp_path}/site"]\nplugins = ["blocks"]'
    with start(workers=2, chain=chain) as gateway:
        acknowledged: list[str] = []

        def send(subject: str, limit: float) -> bool:
            content = f"Subject: {subject}\r\n\r\nx\r\n"
            try:
                with smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=limit) as client:
                    client.sendmail("me@example.org", ["bob@inbox.test"], content)
            except (OSError, smtplib.SMTPException):
                return False
            acknowledged.append(content)
            return True

        for number in range(5):
            assert send(f"before {number}", 10)
        blocked = threading.Thread(target=send, args=("block", 30))
        blocked.start()
        gateway.until(lambda: gateway.events("loop.blocked"))
        assert gateway.events("loop.blocked")[0]["plugin"] == "blocks"
        assert any(send(f"meanwhile {number}", 0.15) for number in range(12))  # the kernel picks the worker
        gateway.until(lambda: gateway.events("worker.blocked"))
        assert gateway.events("worker.blocked")[0]["plugin"] == "blocks"
        gateway.until(lambda: len(gateway.worker_pids()) == 2)
        blocked.join(20)
        assert all(send(f"after {number}", 10) for number in range(5))
        arrived = [file.read_text() for file in (gateway.state / "inbox" / "bob" / "new").iterdir()]
        for content in acknowledged:
            assert sum(text.endswith(content.replace("\r\n", "\n")) for text in arrived) == 1
        assert not any("Subject: block\n" in text for text in arrived)
        assert len(acknowledged) >= 10
