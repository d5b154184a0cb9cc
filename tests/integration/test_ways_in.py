"""Real clients and proxies by every way in: swaks and openssl with TLS, a real haproxy in front, certificates renewed under way."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.testing.next_hop import Taken
from tests.certificates import Authority, Pair
from tests.free_ports import free_port
from tests.integration.gateway_process import Gateway, running
from tests.integration.peers import NextHopInThread
from tests.integration.postfix import RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

LISTENERS = """
[[listener]]
name = "smtps"
bind = "127.0.0.1:{smtps}"
lenient_networks = []
tls = {{ certificate = "{mx}.pem", key = "{mx}.key", implicit = true, client_certificates = "ask", client_ca = "{folder}/authority.pem", sni = [{{ names = ["other.test"], certificate = "{folder}/other.test.pem", key = "{folder}/other.test.key" }}] }}
[[listener]]
name = "behind"
bind = "127.0.0.1:{behind}"
trusted_proxies = ["127.0.0.1"]
lenient_networks = []
tls = {{ certificate = "{mx}.pem", key = "{mx}.key" }}
[[listener]]
name = "behind-tls"
bind = "127.0.0.1:{behind_tls}"
trusted_proxies = ["127.0.0.1"]
lenient_networks = []
tls = {{ certificate = "{mx}.pem", key = "{mx}.key", implicit = true }}
[[listener]]
name = "told"
bind = "127.0.0.1:{told}"
trusted_xclient = ["127.0.0.1"]
lenient_networks = []
"""
HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen first
  bind 127.0.0.1:{first}
  server gateway 127.0.0.1:{behind} send-proxy check inter 200ms
listen second
  bind 127.0.0.1:{second}
  unique-id-format id-%ci
  server gateway 127.0.0.1:{behind} send-proxy-v2 proxy-v2-options unique-id,crc32c check inter 200ms
listen ended
  bind 127.0.0.1:{ended} ssl crt {folder}/haproxy.pem
  server gateway 127.0.0.1:{behind} send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c
listen through
  bind 127.0.0.1:{through}
  server gateway 127.0.0.1:{behind_tls} send-proxy-v2 proxy-v2-options crc32c
"""
NAMES = ("smtps", "told", "behind", "behind_tls", "first", "second", "ended", "through")


@dataclass
class Site:
    gateway: Gateway
    ports: dict[str, int]
    hop: NextHopInThread
    folder: Path
    authority: Authority
    client: Pair

    def taken(self, name: str) -> Taken:
        """The message with this name in its subject."""
        marker = f"Subject: {name}\r\n".encode()

        def find() -> Taken | None:
            return next((one for one in self.hop.scripted.transactions if marker in one.content), None)

        found: Taken = self.gateway.until(find)
        return found

    def trace(self, name: str) -> str:
        """Its Received field, unfolded."""
        content = self.taken(name).content.decode()
        return re.sub(r"\s+", " ", content.partition("\r\nSubject")[0].partition("\r\nDate")[0])

    def is_recorded(self, pattern: bytes) -> bool:
        """The journal has it; records are written a moment after the reply."""
        files = (self.gateway.state / "journal.sqlite", self.gateway.state / "journal.sqlite-wal")
        return any(re.search(pattern, file.read_bytes()) for file in files if file.exists())


@contextmanager
def haproxy(program: str, folder: Path, ports: dict[str, int]) -> Iterator[None]:
    (folder / "haproxy.cfg").write_text(HAPROXY.format(folder=folder, **ports))
    process = subprocess.Popen(
        [program, "-db", "-f", folder / "haproxy.cfg"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], str]) -> Iterator[Site]:
    program = require("haproxy")
    folder = tmp_path_factory.mktemp("ways_in")
    authority = Authority(folder)
    authority.sign("mx.test", file="mx")
    authority.sign("other.test")
    pair = authority.sign("client.test")
    mx = folder / "mx"
    (folder / "haproxy.pem").write_text(mx.with_suffix(".pem").read_text() + mx.with_suffix(".key").read_text())
    smtp, admin, *others = (free_port() for _ in range(2 + len(NAMES)))
    ports = {"smtp": smtp, **dict(zip(NAMES, others, strict=True))}
    with NextHopInThread() as hop, ExitStack() as stack:
        gateway = stack.enter_context(
            running(
                folder / "gateway",
                smtp=smtp,
                admin=admin,
                workers=1,
                domains=["inbox.test"],
                servers=[hop.scripted.address],
                listener=f'lenient_networks = []\ntls = {{ certificate = "{mx}.pem", key = "{mx}.key", client_certificates = "require", '
                f'client_ca = "{folder}/authority.pem" }}',
                more=LISTENERS.format(folder=folder, mx=mx, **ports),
            )
        )
        stack.enter_context(haproxy(program, folder, ports))
        site = Site(gateway, ports, hop, folder, authority, pair)
        gateway.until(lambda: b"220" in greeting(ports["first"]))
        yield site


def greeting(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            return sock.recv(200)
    except OSError:
        return b""


@pytest.fixture
def swaks(site: Site, require: Callable[[str], str]) -> Callable[..., str]:
    """`swaks("name", "smtps", "--tls-on-connect")`: what it printed; the message has the name as its subject."""
    program = require("swaks")

    def run(name: str, port: str, *options: str) -> str:
        command = [program, "--server", "127.0.0.1", "--port", str(site.ports[port]), "--helo", "client.test"]
        command += ["--from", "a@client.test", "--to", "alice@inbox.test", "--header", f"Subject: {name}", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        return done.stdout + done.stderr

    return run


def s_client(site: Site, port: str, *options: str, say: str = "QUIT\n") -> str:
    """What `openssl s_client` prints."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{site.ports[port]}", "-CAfile", str(site.authority.file), "-crlf"]
    done = subprocess.run([*command, *options], input=say, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout + done.stderr


def test_implicit_tls_and_the_certificate_by_name(site: Site, require: Callable[[str], str]) -> None:
    require("openssl")
    for name, shown in (("mx.test", "mx.test"), ("other.test", "other.test"), ("nobody.test", "mx.test")):
        printed = s_client(site, "smtps", "-servername", name, "-ign_eof")
        assert f"subject=CN = {shown}" in printed
        assert "Verify return code: 0" in printed
        assert "221 2.0.0 Bye" in printed
    refused = s_client(site, "smtps", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert "no peer certificate available" in refused


def test_starttls_with_and_without_the_certificate_that_is_required(site: Site, swaks: Callable[..., str]) -> None:
    assert "530 5.7.0 Must issue a STARTTLS command first" in swaks("in the clear", "smtp")
    assert "530 5.7.0 A client certificate is required" in swaks("without", "smtp", "--tls")
    printed = swaks("with", "smtp", "--tls", "--tls-cert", str(site.client.certificate), "--tls-key", str(site.client.key))
    assert "queued as SCRIPTED" in printed
    trace = site.trace("with")
    assert re.search(
        r"from client\.test \(\[127\.0\.0\.1\]\) \(using TLSv1\.3 with cipher TLS_\w+ \(256/256 bits\)\) "
        r'\(Client "CN=client\.test", Issuer "CN=authority" \(verified OK\)\) by \S+ \(mailgateway\) with ESMTPS ',
        trace,
    ), trace
    assert "subject=CN = mx.test" in s_client(site, "smtp", "-starttls", "smtp", say="QUIT\n")


def test_a_certificate_that_another_authority_signed(site: Site, swaks: Callable[..., str]) -> None:
    pair = Authority(site.folder, "another").sign("mallory.test")
    printed = swaks("mallory", "smtps", "--tls-on-connect", "--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    assert "SCRIPTED" not in printed

    def failed() -> list[str]:  # other probes of the site leave events of this kind too
        return [event["problem"] for event in site.gateway.events("tls.handshake_failed") if event["client"] == "127.0.0.1"]

    site.gateway.until(lambda: "CERTIFICATE_VERIFY_FAILED" in failed())


@pytest.mark.parametrize(("port", "version"), [("first", 1), ("second", 2)])
def test_a_real_haproxy_tells_who_the_client_is(site: Site, swaks: Callable[..., str], port: str, version: int) -> None:
    name = f"through haproxy {version}"
    assert "queued as SCRIPTED" in swaks(name, port, "--local-interface", "127.0.0.9")
    assert "([127.0.0.9])" in site.trace(name)


def test_tls_that_ends_at_haproxy_and_tls_that_goes_through_it(site: Site, swaks: Callable[..., str]) -> None:
    options = ("--tls-on-connect", "--local-interface", "127.0.0.9")
    assert "queued as SCRIPTED" in swaks("ended", "ended", *options, "--tls-sni", "ended.test")
    assert "([127.0.0.9]) by" in site.trace("ended"), "TLS between client and proxy is not ours to claim"
    assert "queued as SCRIPTED" in swaks("through", "through", *options)
    assert "([127.0.0.9]) (using TLSv1.3" in site.trace("through")
    site.gateway.until(lambda: site.is_recorded(rb"TLS name ended\.test, TLSv1\.3 TLS_"))


@pytest.mark.parametrize("version", [1, 2])
def test_swaks_as_a_proxy_believed_and_not(site: Site, swaks: Callable[..., str], version: int) -> None:
    header = ["--proxy-version", str(version), "--proxy-family", "TCP4" if version == 1 else "AF_INET"]
    header += [
        "--proxy-source",
        "192.0.2.7",
        "--proxy-source-port",
        "1234",
        "--proxy-dest",
        "198.51.100.1",
        "--proxy-dest-port",
        "25",
    ]
    header += ["--proxy-protocol", "STREAM", "--proxy-command", "PROXY"] if version == 2 else []
    name = f"swaks {version}"
    assert "queued as SCRIPTED" in swaks(name, "behind", *header)
    assert "([192.0.2.7])" in site.trace(name)
    assert "500 5.5.2 Comm" in swaks(f"not {name}", "smtp", *header)


def test_swaks_says_xclient_believed_and_not(site: Site, swaks: Callable[..., str]) -> None:
    told = ("--xclient-addr", "192.0.2.7", "--xclient-name", "first.test", "--xclient-helo", "first.test")
    assert "queued as SCRIPTED" in swaks("xclient", "told", *told, "--xclient-no-verify")
    assert "from first.test ([192.0.2.7])" in site.trace("xclient")
    assert "did not advertise XCLIENT" in swaks("not xclient", "behind", "--proxy", "TCP4 127.0.0.1 127.0.0.1 1 1", *told)


def test_a_real_postfix_says_xforward(site: Site, swaks: Callable[..., str], require: Callable[[str], str]) -> None:
    require("postfix")
    if os.geteuid() != 0:
        pytest.skip("a Postfix of the tests' own needs root")
    transport = f"smtp:[127.0.0.1]:{site.ports['told']}"
    with RealPostfix(settings={"default_transport": transport, "smtp_send_xforward_command": "yes"}) as postfix:
        site.ports["postfix"] = postfix.port
        assert "queued as" in swaks("xforward", "postfix", "--local-interface", "127.0.0.9")
        site.taken("xforward")
    site.gateway.until(
        lambda: site.is_recorded(rb"address 127\.0\.0\.9, port \d+, .*helo client\.test, .*ident \w+, source REMOTE")
    )


def test_health_probes_leave_no_record_and_no_line(site: Site) -> None:
    """haproxy probes twice every 200 ms: each connects with a header or without, and leaves."""
    for port in ("behind", "behind_tls", "smtps"):
        with socket.create_connection(("127.0.0.1", site.ports[port]), timeout=5):
            pass
    assert [event for event in site.gateway.events("proxy.refused") if "none came" in event["problem"]] == []


GARBAGE = {
    "smtps": (b"EHLO client.test\r\n" * 50, b"\x16\x03\x01\xff\xff" + b"\0" * 4000, b"\x80" * 100),
    "behind": (b"PROXY TCP4 " + b"1" * 4000, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", b"PROXY TCP4 192.0.2.7 1"),
    "behind_tls": (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 1\r\n" + b"\x16\x03\x01\xff\xff" * 100, b"\x16\x03\x01\x02\0\x01"),
}


def test_garbage_costs_no_memory(site: Site) -> None:
    [pid] = site.gateway.worker_pids()

    def rounds(count: int) -> int:
        """Resident kilobytes after so many of each."""
        for _ in range(count):
            for port, several in GARBAGE.items():
                for octets in several:
                    with socket.create_connection(("127.0.0.1", site.ports[port]), timeout=5) as sock:
                        sock.sendall(octets)
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    before = rounds(60)
    assert rounds(120) - before < 8_000, "a session that stays has 20 KB and more, one under TLS 100"
    assert site.gateway.worker_pids() == [pid]


def test_a_renewed_certificate_is_shown_without_a_restart(site: Site) -> None:
    site.authority.sign("renewed.test", file="mx")
    site.gateway.until(lambda: "subject=CN = renewed.test" in s_client(site, "smtps"), limit=20)
    (site.folder / "mx.pem").write_text("nonsense")
    site.gateway.until(lambda: site.gateway.events("tls.renewal_failed"), limit=20)
    assert "subject=CN = renewed.test" in s_client(site, "smtps"), "the old one still serves"
