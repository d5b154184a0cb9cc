"""Clients that nobody here wrote, each as one function: a message for a recipient through a port, whatever it takes to send it."""

from __future__ import annotations

import os
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

LIMIT = 60.0
Sender = Callable[[int, str, Path], None]
"""Port of the gateway, recipient, file with the message (CRLF)."""

_NODEMAILER = """
const mailer = require("nodemailer"), fs = require("fs");
const [port, to, file] = process.argv.slice(1);
mailer.createTransport({ host: "127.0.0.1", port: Number(port), secure: false, ignoreTLS: true, name: "nodemailer.test" })
  .sendMail({ envelope: { from: "node@client.test", to, dsn: { id: "node+2B1", return: "headers", notify: "success" } }, raw: fs.readFileSync(file) })
  .then(() => process.exit(0), error => { console.error(error.message); process.exit(1); });
"""


def _run(*command: str, octets: bytes | None = None, **more: str) -> str:
    """What it printed; it must succeed."""
    environment = {**os.environ, "PATH": os.pathsep.join([os.environ["PATH"], "/usr/sbin"]), **more}
    done = subprocess.run(command, input=octets, capture_output=True, timeout=LIMIT, env=environment, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stdout.decode()} {done.stderr.decode()}"
    return done.stdout.decode("utf-8", "replace")


def swaks(port: int, to: str, file: Path) -> None:
    """Perl, one command at a time."""
    _run("swaks", "--server", f"127.0.0.1:{port}", "--from", "swaks@client.test", "--to", to, "--data", f"@{file}", "--hide-all")


def smtp_source(port: int, to: str, file: Path) -> None:
    """Postfix's load generator, from a file with LF."""
    plain = file.with_suffix(".lf")
    plain.write_bytes(file.read_bytes().replace(b"\r\n", b"\n"))
    _run("smtp-source", "-f", "source@client.test", "-t", to, "-M", "source.client.test", "-F", str(plain), f"127.0.0.1:{port}")


def curl(port: int, to: str, file: Path) -> None:
    """With SIZE, as curl does when it knows the file."""
    url = f"smtp://127.0.0.1:{port}/curl.client.test"
    _run("curl", "-sS", url, "--mail-from", "curl@client.test", "--mail-rcpt", to, "--upload-file", str(file))


def python_smtplib(port: int, to: str, file: Path) -> None:
    """With DSN parameters and BODY."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="smtplib.client.test", timeout=LIMIT) as client:
        client.ehlo()
        offered = {"ret=HDRS", "envid=py+2B1"} if client.has_extn("dsn") else set()
        notify = ["notify=NEVER"] if client.has_extn("dsn") else []
        options = sorted(offered) + (["body=8bitmime"] if client.has_extn("8bitmime") else [])
        client.sendmail("python@client.test", [to], file.read_bytes(), mail_options=options, rcpt_options=notify)


def nodemailer(port: int, to: str, file: Path) -> None:
    """Node, with DSN parameters where they are offered."""
    _run("node", "-e", _NODEMAILER, str(port), to, str(file), NODE_PATH="/usr/share/nodejs")


def openssl(port: int, to: str, file: Path) -> None:
    """`s_client -starttls smtp`, commands typed behind the handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-starttls", "smtp", "-quiet", "-crlf", "-ign_eof"]
    lines = [b"EHLO openssl.client.test", b"MAIL FROM:<openssl@client.test>", b"RCPT TO:<%s>" % to.encode(), b"DATA"]
    body = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n.", b"\n..")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        said = b""
        for line in [*lines, body + b".", b"QUIT"]:
            client.stdin.write(line + b"\n")
            client.stdin.flush()
            while not (said := client.stdout.readline()) or said[3:4] == b"-":
                assert client.poll() is None
            assert said[:1] in b"23", said
        client.stdin.close()
        client.wait(10)


def netcat(port: int, to: str, file: Path) -> None:
    """Everything in one go with LF line ends, as a person pastes it."""
    octets = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n.", b"\n..")
    head = f"EHLO nc.client.test\nMAIL FROM:<nc@client.test>\nRCPT TO:<{to}>\nDATA\n".encode()
    said = _run("nc", "-w", "20", "127.0.0.1", str(port), octets=head + octets + b".\nQUIT\n")
    assert "\n250 2.0.0" in said or "\n250 OK" in said or "\n250 2.1.5" in said, said


def telnet_like(port: int, to: str, file: Path) -> None:
    """One octet at a time with CRLF: an old device."""
    octets = file.read_bytes().replace(b"\r\n.", b"\r\n..")
    lines = [b"HELO device", b"MAIL FROM:<device@client.test>", b"RCPT TO:<%s>" % to.encode(), b"DATA"]
    with socket.create_connection(("127.0.0.1", port), LIMIT) as sock, sock.makefile("rb") as replies:
        replies.readline()
        for line in [*lines, octets + b".", b"QUIT"]:
            for octet in line[:200]:
                sock.sendall(bytes([octet]))
            sock.sendall(line[200:] + b"\r\n")
            said = replies.readline()
            assert said[:1] in b"23", said
            time.sleep(0)


SENDERS: dict[str, Sender] = {
    "swaks": swaks,
    "smtp-source": smtp_source,
    "curl": curl,
    "Python smtplib": python_smtplib,
    "nodemailer": nodemailer,
    "openssl s_client": openssl,
    "netcat": netcat,
    "an old device": telnet_like,
}
