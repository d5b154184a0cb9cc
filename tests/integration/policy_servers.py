"""Real policy servers of the tests' own: postgrey, and policyd-spf as Postfix's spawn(8) runs it, with DNS from a table."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from typing_extensions import override

from tests.integration.real_server import RealServer


class RealPostgrey(RealServer):
    """`with RealPostgrey(delay=1) as postgrey: … postgrey.address …`."""

    def __init__(self, *, delay: int) -> None:
        super().__init__("postgrey")
        self._delay = delay
        owner = pwd.getpwnam("nobody")
        database = self._directory / "db"
        database.mkdir()
        os.chown(database, owner.pw_uid, owner.pw_gid)
        (self._directory / "known").write_text("known.example\n")

    @property
    def address(self) -> str:
        """For the option `server`."""
        return f"127.0.0.1:{self.port}"

    @override
    def launch(self) -> subprocess.Popen[bytes]:
        known = f"--whitelist-clients={self._directory}/known"
        where = [f"--inet=127.0.0.1:{self.port}", f"--dbdir={self._directory}/db", "--user=nobody", "--group=nogroup"]
        return self.in_own_group(["/usr/sbin/postgrey", *where, f"--delay={self._delay}", known, "--auto-whitelist-clients=0"])

    @override
    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @override
    def log(self) -> str:
        """It logs to syslog."""
        return ""


_DNS = """\
import json, os
import spf

ZONES = json.loads(os.environ["TEST_ZONES"])


def look_up(name, qtype, *args, **kwargs):
    found = ZONES.get(str(name).rstrip(".").lower(), {}).get(qtype, [])
    return [((name, qtype), [one.encode()] if qtype in {"TXT", "SPF"} else one) for one in found]


spf.DNSLookup = look_up
"""


@contextlib.contextmanager
def policyd_spf(folder: Path, zones: Mapping[str, Mapping[str, list[str]]]) -> Iterator[str]:
    """A UNIX socket at which each connection gets a policyd-spf of its own; the address for the option `server`."""
    (folder / "sitecustomize.py").write_text(_DNS)
    settings = folder / "policyd-spf.conf"
    settings.write_text("debugLevel = 0\nTestOnly = 1\nHELO_reject = False\nMail_From_reject = Fail\n")
    environment = {**os.environ, "PYTHONPATH": str(folder), "TEST_ZONES": json.dumps(zones)}
    started: list[subprocess.Popen[bytes]] = []
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "spf"))
    listening.listen()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    command = ["/usr/bin/python3", "/usr/bin/policyd-spf", str(settings)]
                    started.append(
                        subprocess.Popen(command, stdin=connection.fileno(), stdout=connection.fileno(), env=environment)
                    )

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"unix:{folder}/spf"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for process in started:
            process.terminate()
            process.wait(10)
