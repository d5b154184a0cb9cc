"""A real PostgreSQL of the tests' own: its data in one directory, on a free port of loopback. The system's is not touched."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
from pathlib import Path

from tests.integration.real_server import RealServer

PROGRAMS = Path("/usr/lib/postgresql")
PASSWORD = "s3cret"


def programs() -> Path | None:
    """The directory of the newest one that is installed."""
    found = sorted(PROGRAMS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class RealPostgreSQL(RealServer):
    """`with RealPostgreSQL() as postgresql: … postgresql.port …`; user `mail`, password `PASSWORD`, database `postgres`."""

    def __init__(self) -> None:
        super().__init__("PostgreSQL")
        self._data = self._directory / "data"
        self._data.mkdir()
        password = self._directory / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:  # it refuses to be root
            owner = pwd.getpwnam("postgres")
            for path in (self._directory, self._data, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        make = ["initdb", "--no-sync", "--username=mail", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        self._run(make[0], *make[1:], f"--pwfile={password}", f"--pgdata={self._data}")

    def launch(self) -> subprocess.Popen[bytes]:
        """Its first process, `postgres`."""
        settings = {"listen_addresses": self.host, "port": str(self.port), "unix_socket_directories": "", "fsync": "off"}
        chosen = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self.in_own_group(self._command("postgres", "-D", str(self._data), *chosen))

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """SIGINT: without waiting for its clients to leave."""
        process.send_signal(signal.SIGINT)
        super().end(process)

    def log(self) -> str:
        """It logs to stderr, which the directory keeps."""
        return ""

    def execute(self, statements: str) -> None:
        """By psql."""
        where = ["--host", self.host, "--port", str(self.port), "--username", "mail", "--dbname", "postgres"]
        self._run("psql", "--quiet", "--no-psqlrc", *where, "--command", statements)

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 0.2):
                pass
        except OSError:
            return False
        ready = ["--host", self.host, "--port", str(self.port), "--quiet"]
        return subprocess.run(self._command("pg_isready", *ready), check=False).returncode == 0

    def _command(self, program: str, *arguments: str) -> list[str]:
        folder = programs()
        assert folder is not None
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        return [*as_user, str(folder / program), *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(program, *arguments),
            env={**os.environ, "PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"},
            cwd="/",
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
