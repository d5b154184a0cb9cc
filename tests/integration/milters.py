"""Real milters of the tests' own: opendkim, opendmarc, and clamav-milter with a clamd that knows one signature."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from typing_extensions import override

from tests.integration.real_server import RealServer

EICAR = (r"X5O!P%@AP[4\PZX54(P^)7CC)7}" + "$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!$H+H*").encode()
"""What every scanner takes for a virus, and is none."""


class RealMilter(RealServer):
    """`with RealOpendkim() as milter: … milter.address …`."""

    start_limit = 30.0

    @property
    def address(self) -> str:
        """For the option `server`, and behind `inet:` for Postfix."""
        return f"127.0.0.1:{self.port}"

    @property
    def socket(self) -> str:
        """As libmilter writes it."""
        return f"inet:{self.port}@127.0.0.1"

    @override
    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @override
    def log(self) -> str:
        """They log to syslog."""
        return ""

    @override
    def end(self, process: subprocess.Popen[bytes]) -> None:
        """At once: libmilter looks for its end every five seconds."""
        self.send_signal(process, signal.SIGKILL)
        process.wait()

    def write(self, name: str, text: str) -> Path:
        """A file of its configuration."""
        file = self._directory / name
        file.write_text(text)
        file.chmod(0o600)
        return file


class RealOpendkim(RealMilter):
    """Signs what comes from this host for `client.test`, or with `verifies` looks at the signatures of everything."""

    def __init__(self, *, verifies: bool = False, key: Path | None = None) -> None:
        super().__init__("opendkim")
        self.key = key or self._directory / "s.private"
        if key is None:
            command = ["opendkim-genkey", "-b", "2048", "-s", "s", "-d", "client.test", "-D", str(self._directory)]
            subprocess.run(command, check=True, capture_output=True)
        self._verifies = verifies

    @override
    def launch(self) -> subprocess.Popen[bytes]:
        internal = self.write("internal", "192.0.2.9\n" if self._verifies else "127.0.0.1\n")
        zone = self.key.with_suffix(".txt").read_text()
        found = "".join(zone.split("(", 1)[1].rsplit(")", 1)[0].split('"')[1::2])
        data = self.write("dns", f"s._domainkey.client.test {found}\n")
        settings = {
            "Socket": self.socket,
            "Mode": "v" if self._verifies else "s",
            "Domain": "client.test",
            "Selector": "s",
            "KeyFile": str(self.key),
            "InternalHosts": str(internal),
            "Canonicalization": "relaxed/simple",
            "AuthservID": "mx.test",
            "AlwaysAddARHeader": "yes",
            "TestDNSData": f"file:{data}",
            "RequireSafeKeys": "no",
            "Background": "no",
            "Syslog": "no",
            "SoftwareHeader": "no",
        }
        file = self.write("opendkim.conf", "".join(f"{name} {value}\n" for name, value in settings.items()))
        return self.in_own_group(["/usr/sbin/opendkim", "-f", "-x", file])


class RealOpendmarc(RealMilter):
    """Says what DMARC comes to, and refuses what has no right From. DNS does not answer here."""

    def __init__(self) -> None:
        super().__init__("opendmarc")

    @override
    def launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "Socket": self.socket,
            "AuthservID": "mx.test",
            "IgnoreHosts": str(self.write("ignored", "192.0.2.9\n")),
            "RequiredHeaders": "true",
            "RejectMultiValueFrom": "true",
            "SoftwareHeader": "false",
            "SPFIgnoreResults": "true",
            "SPFSelfValidate": "false",
            "DNSTimeout": "1",
            "Background": "false",
            "Syslog": "false",
        }
        file = self.write("opendmarc.conf", "".join(f"{name} {value}\n" for name, value in settings.items()))
        return self.in_own_group(["/usr/sbin/opendmarc", "-f", "-c", file])


class RealClamav(RealMilter):
    """A clamd with one signature, and clamav-milter in front of it: refuses by name, and marks what is clean."""

    def __init__(self) -> None:
        super().__init__("clamav")
        self._clamd: subprocess.Popen[bytes] | None = None

    @override
    def launch(self) -> subprocess.Popen[bytes]:
        database = self._directory / "database"
        database.mkdir(exist_ok=True)
        (database / "local.ndb").write_text(f"Test.EICAR:0:*:{EICAR.hex()}\n")
        where = self._directory / "clamd"
        common = f"User {'root' if os.geteuid() == 0 else os.environ.get('USER', 'nobody')}\nForeground yes\n"
        clamd = self.write(
            "clamd.conf", f"{common}LocalSocket {where}\nDatabaseDirectory {database}\nTemporaryDirectory {self._directory}\n"
        )
        self._clamd = self.in_own_group(["/usr/sbin/clamd", "-c", clamd])
        deadline = time.monotonic() + self.start_limit
        while not _listens(where) and time.monotonic() < deadline:  # a milter that finds no clamd defers for a while
            time.sleep(0.02)
        settings = (
            f"MilterSocket {self.socket}\nClamdSocket unix:{where}\nOnInfected Reject\nOnFail Defer\n"
            f"RejectMsg Infected by %v\nAddHeader Replace\nReportHostname mx.test\nTemporaryDirectory {self._directory}\n"
        )
        file = self.write("clamav-milter.conf", common + settings)
        return self.in_own_group(["/usr/sbin/clamav-milter", "-c", file])

    @override
    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Both."""
        super().end(process)
        clamd, self._clamd = self._clamd, None
        if clamd is not None:
            super().end(clamd)


def _listens(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return True
    return False
