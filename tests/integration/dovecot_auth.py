"""A real Dovecot that only answers for passwords: what a Postfix asks over its auth protocol. On loopback, all of it in one directory."""

from __future__ import annotations

import subprocess

from tests.integration.real_server import RealServer

USER = "joe"
PASSWORD = "s3cret word"

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


class DovecotAuth(RealServer):
    """`with DovecotAuth() as dovecot: … dovecot.postfix_settings …`."""

    greeting = b"VERSION"

    def __init__(self) -> None:
        super().__init__("Dovecot")
        (self._directory / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}:65534:65534::/nonexistent\n")
        (self._directory / "dovecot.conf").write_text(_CONFIG.format(directory=self._directory, port=self.port))

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

    def log(self) -> str:
        """Its log."""
        file = self._directory / "log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def launch(self) -> subprocess.Popen[bytes]:
        """Its master."""
        return self.in_own_group(["dovecot", "-F", "-c", self._directory / "dovecot.conf"])
