"""Real scanners of the tests' own: a clamd with the signatures of a test file, and an rspamd with a configuration of a few lines."""

from __future__ import annotations

import contextlib
import os
import shutil
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


_RSPAMD = """
options {{
  pidfile = "{directory}/pid";
  filters = "";
  explicit_modules = ["none"];
  disable_hyperscan = true;
  dns {{ nameserver = ["127.255.255.254"]; timeout = 0.1s; retransmits = 1; }}
  url_tld = "{directory}/domains";
  control_socket = "{directory}/control mode=0600";
  cache_file = "{directory}/symbols"; history_file = "{directory}/history"; stats_file = "{directory}/stats";
  hs_cache_dir = "{directory}"; tempdir = "{directory}";
}}
lang_detection {{ languages = "{directory}/languages"; }}
logging {{ type = "file"; filename = "{directory}/log"; level = "info"; }}
actions {{ reject = 15; rewrite_subject = 8; add_header = 6; greylist = 4; subject = "[SPAM] %s"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; bind_socket = "{directory}/socket mode=0666"; count = 1; }}
lua = "{directory}/rules.lua";
"""
_RULES = """
-- a word in the subject is a symbol with a score, and may want something done
local function word(text, symbol, score, wish)
  rspamd_config:register_symbol{ name = symbol, score = score, callback = function(task)
    if not string.find(task:get_header("Subject") or "", text, 1, true) then return false end
    if wish then wish(task) end
    return true, 1.0, text
  end }
end

word("pills", "TEST_PILLS", 20)
word("offer", "TEST_OFFER", 6.5)
word("urgent", "TEST_URGENT", 9)
word("grey", "TEST_GREY", 4.5)
word("friend", "TEST_FRIEND", -3)
word("later", "TEST_LATER", 0.1, function(task) task:set_pre_result("soft reject", "come back in an hour") end)
word("why", "TEST_WHY", 20, function(task) task:set_pre_result("reject", "because of the pills") end)
word("fields", "TEST_FIELDS", 0.1, function(task)
  task:set_milter_reply{
    add_headers = {
      ["X-Plain"] = "plain",
      ["X-Top"] = { value = "on top", order = 1 },
      ["X-Second"] = { value = "behind one", order = 2 },
      ["X-Twice"] = { { value = "one", order = 0 }, "two" },
      ["X-Folded"] = "a\\r\\n\\tb",
    },
    remove_headers = { ["X-Old"] = 0, ["X-Some"] = 2 },
  }
end)
word("held", "TEST_HELD", 20, function(task) task:set_milter_reply{ reject = "quarantine" } end)
word("marked", "TEST_MARKED", 6.5, function(task) task:set_milter_reply{ spam_header = { ["X-Junk"] = "very" } } end)
word("nothing", "TEST_NOTHING", 20, function(task) task:set_milter_reply{ no_action = true } end)
word("told", "TEST_TOLD", 0.1, function(task)
  local told = {
    tostring(task:get_ip()), task:get_helo() or "-", task:get_hostname() or "-", task:get_user() or "-", task:get_queue_id(),
    (task:get_from("smtp") or {{}})[1].addr or "-",
  }
  for _, one in ipairs(task:get_recipients("smtp") or {}) do table.insert(told, one.addr) end
  for _, name in ipairs{ "MTA-Name", "TLS-Version", "TLS-Cipher", "Settings-ID", "Deliver-To" } do
    table.insert(told, tostring(task:get_request_header(name) or "-"))
  end
  task:insert_result("TEST_TOLD_ALL", 0.0, table.concat(told, " "))
end)
"""


class RealRspamd(RealScanner):
    """Goes by words of the subject: see `_RULES`."""

    def __init__(self) -> None:
        super().__init__("rspamd")
        (self._directory / "domains").write_text("com\norg\nexample\ntest\n")
        (self._directory / "languages").mkdir()
        for file in ("en.json", "stop_words"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"/usr/share/rspamd/languages/{file}", self._directory / "languages")
        (self._directory / "rules.lua").write_text(_RULES)
        (self._directory / "rspamd.conf").write_text(_RSPAMD.format(directory=self._directory, port=self.port))

    @override
    def launch(self) -> subprocess.Popen[bytes]:
        owner = ["-u", "root", "-g", "root", "-i"] if os.geteuid() == 0 else []
        return self.in_own_group(["/usr/bin/rspamd", "-f", *owner, "-c", self._directory / "rspamd.conf"])

    @override
    def log(self) -> str:
        """What it logs."""
        file = self._directory / "log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    @override
    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.settimeout(5)
            sock.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
            return sock.recv(15).startswith(b"HTTP/1.1 200")
        return False
