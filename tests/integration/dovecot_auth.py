"""A real Dovecot that only answers for passwords: what a Postfix asks over its auth protocol. On loopback, all of it in one directory."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

USER = "joe"
PASSWORD = "s3cret word"
START_LIMIT = 10.0

_CONFIG = """\
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/log
protocols =
ssl = no
auth_mechanisms = plain login cram-md5 scram-sha-256
disable_plaintext_auth = no
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = passwd-file
  args = {directory}/users
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


class DovecotAuth:
    """`with DovecotAuth() as dovecot: … dovecot.postfix_settings …`."""

    def __init__(self) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        self._directory = Path(tempfile.mkdtemp(prefix="mailgateway-auth-"))
        self._directory.chmod(0o755)  # Dovecot's own users look for their files in it
        (self._directory / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}:65534:65534::/nonexistent\n")
        (self._directory / "dovecot.conf").write_text(_CONFIG.format(directory=self._directory, port=self.port))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def postfix_settings(self) -> dict[str, str]:
        """main.cf of a server that lets nobody relay but those who authenticate, whatever their address."""
        return {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": f"inet:127.0.0.1:{self.port}",
            "smtpd_sasl_authenticated_header": "yes",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination",
            "mynetworks": "192.0.2.0/24",
        }

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["dovecot", "-F", "-c", str(self._directory / "dovecot.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self._directory / "log"
                said = log.read_text() if log.exists() else ""
                self.__exit__()
                msg = f"Dovecot does not answer\n{said}"
                raise TimeoutError(msg)
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                sock.settimeout(2)
                return sock.recv(100).startswith(b"VERSION")
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
