"""docs/postfix.md, step by step: a real Postfix before a real Dovecot, the gateway put in front of it and taken out again."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.docs.blocks import of_page
from tests.integration.dovecot import DOMAIN, RealDovecot
from tests.integration.gateway_process import COMMAND
from tests.integration.postfix import RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]
PAGE = Path(__file__).parents[2] / "docs" / "postfix.md"


class Host:
    """The machine of the page: its Postfix, its service, its files."""

    def __init__(self, postfix: RealPostfix, folder: Path, ports: dict[str, int]) -> None:
        self.postfix = postfix
        self.folder = folder
        self.ports = ports
        self.service: subprocess.Popen[bytes] | None = None
        programs = {
            "postconf": f'exec /usr/sbin/postconf -c {postfix.config} "$@"',
            "postfix": f"kill -HUP {postfix.pid}",
            "mailgateway": f'exec {" ".join(COMMAND[:-1])} "{COMMAND[-1]}" "$@"',
        }
        (folder / "bin").mkdir()
        for name, script in programs.items():
            program = folder / "bin" / name
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)

    def put(self, text: str) -> str:
        """A text of the page with what is this host's own: places, ports, the domain."""
        changes = {
            "/etc/mailgateway": str(self.folder),
            "/var/lib/mailgateway": f"{self.folder}/var",
            "smtp/inet": f"127.0.0.1:{self.ports['25']}/inet",
            "smtp inet n - y": f"127.0.0.1:{self.ports['25']} inet n - n",
            "0.0.0.0:25": f"127.0.0.1:{self.ports['25']}",
            "inet n - y": "inet n - n",  # Debian's chroot is not set up here
            "2525": str(self.ports["2525"]),
            "2526": str(self.ports["2526"]),
            "example.org": DOMAIN,
        }
        for of_the_page, ours in changes.items():
            text = text.replace(of_the_page, ours)
        return text

    def run(self, command: str) -> str:
        """One line of the page; what it prints."""
        if command.startswith("systemctl "):
            getattr(self, command.split()[1])()
            return ""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"], "/usr/sbin"])
        done = subprocess.run(
            ["bash", "-c", command], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode in ({0, 24} if "nobody@" in command else {0}), f"{command}\n{done.stdout}\n{done.stderr}"
        time.sleep(0.1)
        return done.stdout

    def start(self) -> None:
        environment = {**os.environ, "MAILGATEWAY__ADMIN__BIND": "", "MAILGATEWAY__SERVER__WORKERS": "1"}
        config = str(self.folder / "config.toml")
        with (self.folder / "log").open("ab") as log:
            self.service = subprocess.Popen([*COMMAND, "run", "--config", config], stdout=log, stderr=log, env=environment)
        bind = re.search(r'^bind = "127\.0\.0\.1:(\d+)"', Path(config).read_text(), re.MULTILINE)
        assert bind is not None
        assert greets(int(bind[1])).startswith("mx.dove.test ESMTP mailgateway"), (self.folder / "log").read_text()

    def stop(self) -> None:
        if self.service is not None:
            self.service.send_signal(signal.SIGTERM)
            assert self.service.wait(30) == 0
            self.service = None

    def restart(self) -> None:
        self.stop()
        self.start()


def greets(port: int) -> str:
    """The greeting at a port, once there is one."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError), smtplib.SMTP(timeout=5) as client:
            return client.connect("127.0.0.1", port)[1].decode()
        time.sleep(0.1)
    return ""


def send(port: int, marker: str) -> bytes:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo("client.example.net")
        client.mail("you@example.net")
        code, text = client.rcpt(f"nobody@{DOMAIN}")
        assert code == 550
        assert client.rcpt(f"bob@{DOMAIN}")[0] == 250
        assert client.data(f"Subject: {marker}\r\n\r\nhello\r\n".encode())[0] == 250
        return text


@pytest.fixture
def host(dovecot: RealDovecot, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Host]:
    users = " ".join(f"{{{user}@{DOMAIN}=x}}" for user in ("alice", "bob"))
    delivers_to_dovecot = {
        "virtual_mailbox_domains": DOMAIN,
        "virtual_mailbox_maps": f"inline:{{{users}}}",
        "virtual_transport": f"lmtp:inet:127.0.0.1:{dovecot.port}",
    }
    with RealPostfix(settings=delivers_to_dovecot) as postfix:
        ports = {"25": postfix.port, "2525": free_port(), "2526": free_port()}
        there = Host(postfix, tmp_path, ports)
        try:
            yield there
        finally:
            if there.service is not None:
                there.service.kill()
                there.service.wait()


def test_in_and_out_again(host: Host, dovecot: RealDovecot, require: Callable[[str], str]) -> None:
    require("swaks")
    configuration = next(block.text for block in of_page(PAGE) if block.language == "toml")
    (host.folder / "config.toml").write_text(host.put(configuration))
    door, beside, switch, out = [
        [host.put(line.removeprefix("$ ")) for line in block.text.splitlines()]
        for block in of_page(PAGE)
        if block.language == "sh"
    ]
    bare = send(host.ports["25"], "before")
    assert "mailgateway" not in greets(host.ports["25"])

    for command in door:
        host.run(command)
    assert greets(host.ports["2526"]).startswith("postfix.test")
    send(host.ports["25"], "door")

    said = [host.run(command) for command in beside]
    assert re.search(r"250 2\.0\.0 Ok: queued as", said[2])
    assert "550 5.1.1" in said[3]
    assert "User unknown in virtual mailbox table" in said[3]  # Postfix's own words

    for command in switch:
        host.run(command)
    assert send(host.ports["25"], "switched") == bare
    # XCLIENT told Postfix the client's name for itself: its log has it, not the gateway's
    assert "helo=<client.example.net>" in host.postfix.log()
    with smtplib.SMTP("127.0.0.1", host.ports["25"], timeout=30) as client:  # monitor mode: it would have been held
        client.ehlo("client.example.net")
        client.mail("you@example.net")
        client.rcpt(f"alice@{DOMAIN}")
        attachment = 'Content-Type: application/octet-stream; name="run.exe"\r\n\r\nMZ\r\n'
        assert client.data(f"Subject: monitored\r\nMIME-Version: 1.0\r\n{attachment}".encode())[0] == 250
    found = host.run(f"mailgateway journal search --config {host.folder}/config.toml --to alice@{DOMAIN} --limit 1")
    identifier = re.search(r"\b1[0-9A-Z]{13}-\d+\b", found)
    assert identifier is not None, found
    assert "would" in host.run(f"mailgateway explain --config {host.folder}/config.toml {identifier[0]}")

    for command in out:
        host.run(command)
    assert "mailgateway" not in greets(host.ports["25"])
    assert send(host.ports["25"], "out") == bare

    wanted = ["before", "door", "switched", "out"]
    deadline = time.monotonic() + 20
    while any(dovecot.count(f"Subject: {marker}\n").get("bob") != 1 for marker in wanted) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {marker: dovecot.count(f"Subject: {marker}\n") for marker in wanted} == {marker: {"bob": 1} for marker in wanted}
    assert dovecot.count("Subject: monitored\n") == {"alice": 1}
