"""A real c-icap of the tests' own: its echo, and its virus scan, which asks a clamd of the tests."""

from __future__ import annotations

import contextlib
import socket
import subprocess

from typing_extensions import override

from tests.integration.scanners import RealClamd, RealScanner

CONFIG = """
PidFile {here}/pid
CommandsSocket {here}/commands
StartServers 1
MaxServers 1
ThreadsPerChild 8
MinSpareThreads 1
MaxSpareThreads 8
Port 127.0.0.1:{port}
TmpDir {here}
ModulesDir /usr/lib/x86_64-linux-gnu/c_icap
ServicesDir /usr/lib/x86_64-linux-gnu/c_icap
TemplateDir /usr/share/c_icap/templates/
LoadMagicFile /etc/c-icap/c-icap.magic
ServerLog {here}/server.log
AccessLog {here}/access.log
Service echo srv_echo.so
Service antivirus_module virus_scan.so
ServiceAlias avscan virus_scan?allow204=on&sizelimit=off&mode=simple
virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE
virus_scan.MaxObjectSize 50M
virus_scan.SendPercentData 0
virus_scan.DefaultEngine clamd
Module common clamd_mod.so
clamd_mod.ClamdSocket {clamd}
"""


class RealCIcap(RealScanner):
    """One process with eight threads."""

    def __init__(self) -> None:
        super().__init__("c-icap")
        self.clamd = RealClamd()

    @override
    def launch(self) -> subprocess.Popen[bytes]:
        here = self._directory
        file = here / "c-icap.conf"
        file.write_text(CONFIG.format(here=here, port=self.port, clamd=self.clamd.unix.removeprefix("unix:")))
        return self.in_own_group(["c-icap", "-N", "-f", file])

    @override
    def start(self) -> None:
        if self.clamd._process is None:
            self.clamd.start()
        super().start()

    @override
    def close(self) -> None:
        super().close()
        self.clamd.close()

    @override
    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.settimeout(5)
            sock.sendall(b"OPTIONS icap://127.0.0.1/avscan ICAP/1.0\r\nHost: 127.0.0.1\r\nEncapsulated: null-body=0\r\n\r\n")
            return sock.recv(100).startswith(b"ICAP/1.0 200")
        return False
