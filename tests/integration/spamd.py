"""A real spamd of the tests' own: local tests only, a rule file of a few lines, a TCP port and a UNIX socket."""

from __future__ import annotations

import contextlib
import socket
import subprocess

from typing_extensions import override

from tests.integration.scanners import RealScanner

RULES = """
clear_report_template
report Content analysis details:   (_SCORE_ points, _REQD_ required)
report
report " pts rule name              description"
report  ---- ---------------------- --------------------------------------------------
report _SUMMARY_
add_header all Status "_YESNO_, score=_SCORE_ required=_REQD_ tests=_TESTS_ autolearn=_AUTOLEARN_ version=_VERSION_"
add_header spam Flag _YESNOCAPS_
body OWN_WORD /unwanted words of the tests/
describe OWN_WORD Words that nobody wants
score OWN_WORD 3.5
header OWN_SUBJECT Subject =~ /free/i
describe OWN_SUBJECT Something is free
score OWN_SUBJECT 2.0
header OWN_CLIENT X-Spam-Relays-Untrusted =~ /^[^\\]]*ip=203\\.0\\.113\\.9 rdns=mail\\.client\\.example helo=client\\.example /
describe OWN_CLIENT Handed over by a client of the tests
score OWN_CLIENT 0.5
body GTUBE /XJS\\*C4JDBQADN1\\.NSBN3\\*2IDNEN\\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\\*C\\.34X/
score GTUBE 1000
"""


class RealSpamd(RealScanner):
    """Two children, no plugin but the one that runs rules."""

    def __init__(self) -> None:
        super().__init__("spamd")
        for name in ("rules", "site"):
            (self._directory / name).mkdir()
        (self._directory / "tmp").mkdir()
        (self._directory / "tmp").chmod(0o1777)  # it gives up root
        (self._directory / "rules" / "own.cf").write_text(RULES)
        (self._directory / "site" / "own.pre").write_text("loadplugin Mail::SpamAssassin::Plugin::Check\n")

    @override
    def launch(self) -> subprocess.Popen[bytes]:
        here = self._directory
        where = ["-i", f"127.0.0.1:{self.port}", f"--socketpath={here}/socket", f"--pidfile={here}/pid", "-s", "stderr"]
        rules = ["-C", str(here / "rules"), f"--siteconfigpath={here}/site"]
        return self.in_own_group(
            ["env", f"TMPDIR={here}/tmp", "spamd", "-L", "-x", "-m", "2", "--min-children=2", *rules, *where]
        )

    @override
    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.settimeout(5)
            sock.sendall(b"PING SPAMC/1.5\r\n\r\n")
            return sock.recv(100).startswith(b"SPAMD/1.5 0 PONG")
        return False
