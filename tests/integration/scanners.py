"""Real scanners of the tests' own: a clamd with the signatures of a test file, and an rspamd with a configuration of a few lines."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess

from typing_extensions import override

from tests.integration.milters import EICAR
from tests.integration.real_server import RealServer

STREAM_LIMIT = 2_000_000
"""StreamMaxLength of the clamd."""


class RealScanner(RealServer):
    """`with RealClamd() as scanner: … scanner.address … scanner.unix …`."""

    @property
    def address(self) -> str:
        """Its TCP port, for the option `server`."""
        return f"127.0.0.1:{self.port}"

    @property
    def unix(self) -> str:
        """Its UNIX socket, for the option `server`."""
        return f"unix:{self._directory}/socket"

    @override
    def log(self) -> str:
        """What it logs."""
        return self._said()

    def pause(self) -> None:
        """Stop it in the middle of whatever it does: connections are still accepted, by the kernel."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """At once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._process = None

    def _signal(self, what: signal.Signals) -> None:
        if self._process is not None:
            self.send_signal(self._process, what)


class RealClamd(RealScanner):
    """Knows EICAR, and a word that is an unwanted program; tells of encrypted archives."""

    def __init__(self) -> None:
        super().__init__("clamd")
        database = self._directory / "database"
        database.mkdir()
        (database / "test.ndb").write_text(f"Test.EICAR:0:*:{EICAR.hex()}\n")
        (database / "test.ldb").write_text(
            f"PUA.Test.Word;Engine:51-255,Target:0;0;{b'an unwanted program of the tests'.hex()}\n"
        )

    @override
    def launch(self) -> subprocess.Popen[bytes]:
        user = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
        settings = (
            f"User {user}\nForeground yes\nLocalSocket {self._directory}/socket\nTCPSocket {self.port}\nTCPAddr 127.0.0.1\n"
            f"DatabaseDirectory {self._directory}/database\nTemporaryDirectory {self._directory}\nStreamMaxLength {STREAM_LIMIT}\n"
            "AlertEncrypted yes\nDetectPUA yes\nExtendedDetectionInfo yes\nMaxThreads 4\n"
        )
        file = self._directory / "clamd.conf"
        file.write_text(settings)
        return self.in_own_group(["/usr/sbin/clamd", "-c", file])

    @override
    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.settimeout(5)
            sock.sendall(b"zPING\0")
            return sock.recv(100) == b"PONG\0"
        return False
