"""What checking the sender costs: the gateway beside Postfix with its filters and Haraka, the same message and the same name server.

A signed message of 5 KB whose SPF, DKIM and DMARC pass goes again and again over 20 kept connections. Before anything is measured one goes
through each way, and a way that has not written its results into it is left out. The CPU is that of all processes of the way with its filters,
without name server, load and sink.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.bars import CHECKS, CHECKS_AND_RULES, HARAKA_DKIM, MILTERS, RSPAMD
from benchmarks.dialogue import latency
from benchmarks.mail_servers import haraka, postfix, postfix_with_milters, postfix_with_rspamd
from benchmarks.results import WITH_CORE, if_built
from benchmarks.run import Run, Work
from benchmarks.signed import Signer, in_base64, text
from benchmarks.spaces import HOST, name_server
from benchmarks.ways import Failed, Load, Way, free_port, gateway, program, running, send, use, wait_for

QUEUE_ONLY = "Postfix alone, no checks"
CHECKS_TWO = "gateway, 2 workers"
PLUGINS = '"spf", "dkim", "dmarc", "authres"'
PACES = {QUEUE_ONLY: 0.5, MILTERS: 0.3, RSPAMD: 0.4, HARAKA_DKIM: 0.4}
ALL_THREE = ("dkim=pass", "spf=pass", "dmarc=pass")
RULES = "".join(
    f"[[rule]]\nname = \"rule {number}\"\nwhen = '{when}'\nthen = {{ score = 1.0 }}\n"
    for number, when in enumerate(
        [
            'auth.dmarc == "fail" && reverse_path.domain == "partner.example"',
            'auth.spf == "fail" || auth.spf == "softfail"',
            'auth.dkim != "pass" && has_header("List-Unsubscribe")',
            '!client.is_authenticated && reverse_path.domain == "sink.test"',
            'message.subject.contains("invoice") && auth.dmarc != "pass"',
            'message.subject.matches(r"(?i)urgent|wire transfer")',
            'in_network(client.address, "192.0.2.0/24")',
            'client.helo == "localhost"',
            "reverse_path.is_null && size(recipients) > 1",
            "size(recipients) > 50",
            "message.size > 20000000",
            'attachments.exists(a, a.extension in [".exe", ".js", ".scr"])',
            'attachments.exists(a, a.type == "application/x-dosexec")',
            '!(reverse_path.domain in message.author_domains) && auth.dmarc != "pass"',
            'has_header("X-Spam") || has_header("X-Virus")',
            '!has_header("Message-ID")',
            "!message.has_date",
            'reverse_path.local_part.startsWith("bounce")',
            'client.helo.endsWith(".invalid")',
            "score.total >= 6.0",
        ]
    )
)


class Sender:
    """The domain whose mail is checked: its key, and a name server that has its records."""

    def __init__(self) -> None:
        self._signer: Signer | None = None
        self._is_known = False

    def signer(self, run: Run, work: str) -> Signer | None:
        """None where there can be no name server, which is told once."""
        if not self._is_known:
            self._is_known = True
            with run.attempt(work, "name server"):
                signer = Signer()
                name_server(run.stack, run.folder, signer.records)
                self._signer = signer
        return self._signer


class Checks(Work):
    """SPF, DKIM and DMARC of a message of 5 KB."""

    name = "checks"

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._message: Path | None = None
        self._ways: list[Way] = []

    def round(self, run: Run) -> None:
        """Through each way that checks: as fast as it can, then one after the other on one session."""
        if self._message is None:
            signer = self._sender.signer(run, self.name)
            if signer is None:
                return
            self._message = signer.write(run.folder / "signed.eml", text(4_400))
            self._begin(run, self._message)
        content = self._message.read_bytes().replace(b"\n", b"\r\n") + b".\r\n"
        load = Load(20, self._message.stat().st_size, run.scaled(2_000), kept=True)
        turned = run.turn % max(1, len(self._ways))
        for way in self._ways[turned:] + self._ways[:turned]:
            used = run.use(self.name, way, load, self._message)
            if used is None:
                continue
            figures = {"rate": used.count / used.seconds, "cpu": 1000 * used.cpu / used.count}
            with run.attempt(self.name, way.name):
                found = latency(way, content, run.scaled(100))
                figures |= {name: found[name] for name in ("dot_p50", "dot_p99")}
            run.results.note(self.name, way.name, **figures)

    def _begin(self, run: Run, message: Path) -> None:
        """Each way is started before a sink that keeps what arrives, which then gives its port to one that does not."""
        arrived, sink = run.folder / "arrived", free_port()
        arrived.mkdir()
        arrived.chmod(0o777)
        stack, folder = run.stack, run.folder
        ours = {"host": HOST, "dns": ""}
        with_rules = partial(gateway, stack, folder, sink, workers=1, plugins=f'[{PLUGINS}, "rules"]', more=RULES, **ours)
        rules_with_core = if_built(CHECKS_AND_RULES + WITH_CORE)
        makers = {
            QUEUE_ONLY: partial(postfix, stack, folder, sink, name=QUEUE_ONLY, host=HOST),
            MILTERS: partial(postfix_with_milters, stack, folder, sink, name=MILTERS, host=HOST),
            RSPAMD: partial(postfix_with_rspamd, stack, folder, sink, name=RSPAMD, host=HOST, workers=2),
            HARAKA_DKIM: partial(haraka, stack, folder, sink, name=HARAKA_DKIM, host=HOST, plugins="dkim\n"),
            CHECKS: partial(gateway, stack, folder, sink, name=CHECKS, workers=1, plugins=f"[{PLUGINS}]", **ours),
            **{name: partial(with_rules, name=name) for name in (CHECKS_AND_RULES, *rules_with_core)},
            CHECKS_TWO: partial(gateway, stack, folder, sink, name=CHECKS_TWO, workers=2, plugins=f"[{PLUGINS}]", **ours),
        }
        with running([program("smtp-sink"), "-u", "nobody", "-d", f"{arrived}/%M%S.", f"127.0.0.1:{sink}", "1000"]):
            wait_for(sink)
            for name, make in makers.items():
                with run.attempt(self.name, name):
                    way = make()
                    way.pace = PACES.get(name, 1.0)
                    way.promises = () if name == QUEUE_ONLY else ("dkim=pass",) if name == HARAKA_DKIM else ALL_THREE
                    _verify(way, arrived, message)
                    self._ways.append(way)
        stack.enter_context(running([program("smtp-sink"), "-u", "nobody", "-c", f"127.0.0.1:{sink}", "1000"]))
        wait_for(sink)
        for way in list(self._ways):
            with run.attempt(self.name, way.name):
                send(way, Load(20, 0, 200, kept=True), message)


def _verify(way: Way, arrived: Path, message: Path) -> None:
    """One message: what arrives has to say that the checks were made."""
    send(way, Load(1, 0, 1, kept=False), message)
    files = list(arrived.iterdir())
    header = b"".join(file.read_bytes() for file in files).partition(b"\n\n")[0].replace(b"\n\t", b" ").replace(b"\n ", b" ")
    results = [line for line in header.splitlines() if line.lower().startswith(b"authentication-results")]
    missing = [promise for promise in way.promises if not any(promise.encode() in line for line in results)]
    for file in files:
        file.unlink()
    if missing:
        raise Failed(f"it has not written {', '.join(missing)}: {b' '.join(results).decode('latin-1')}")


class Body(Work):
    """CPU that checks add to a message of 5 MB: almost all of it is the hash of its canonical body."""

    name = "body"

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def round(self, run: Run) -> None:
        """Text and base64, without plugins and with the checks."""
        signer = self._sender.signer(run, self.name)
        if signer is None:
            return
        for kind, body in (("text", text(5_000_000)), ("base64", in_base64(5_000_000))):
            file = run.folder / f"{kind}.eml"
            if not file.exists():
                signer.write(file, body, canonicalization=(b"relaxed", b"relaxed"))
            cpu = {}
            for measure, plugins in (("bare", ""), ("checked", PLUGINS)):
                name = f"gateway, {measure}"
                make = partial(
                    gateway, run.stack, run.folder, run.sink, name=name, workers=1, host=HOST, dns="", plugins=f"[{plugins}]"
                )
                way = run.way(self.name, name, make)
                if way is None:
                    continue
                with run.attempt(self.name, f"{name}, {kind}"):
                    used = use(way, Load(2, len(body), run.scaled(30, 6), kept=True), file)
                    cpu[measure] = 1000 * used.cpu / used.count
            if len(cpu) == 2:
                run.results.note(self.name, kind, **cpu, added=cpu["checked"] - cpu["bare"])
