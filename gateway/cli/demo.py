"""`mailgateway demo`: a dozen sample messages through the running gateway, and a table of what became of each."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import smtplib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.config import ConfigOption, load_or_exit
from gateway.cli.terminal import console, safe, table

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.journal import Journal
    from gateway.trace import Record

WAIT = 5.0
"""Seconds the journal gets to write the last record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One message, and what its line of the table should say with the configuration that comes with the gateway."""

    name: str
    reverse_path: str
    recipients: tuple[str, ...] = ("alice@inbox.test",)
    content: Callable[[], bytes]
    reply: str
    verdict: str
    plugin: str = ""


def _message(author: str, subject: str, body: bytes = b"Hello.\r\n", *, fields: bytes = b"") -> bytes:
    stamp = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())
    head = f"From: {author}\r\nTo: alice@inbox.test\r\nSubject: {subject}\r\nDate: {stamp}\r\nMessage-ID: <{time.time_ns()}@demo.test>\r\n"
    return head.encode() + fields + b"\r\n" + body


def _signed() -> bytes:
    import dkim

    from gateway.dns.demo import SIGNING_SEED

    content = _message("news@signed.demo.test", "signed with Ed25519")
    signature = dkim.sign(
        content,
        b"key",
        b"signed.demo.test",
        base64.b64encode(SIGNING_SEED),
        include_headers=[b"from", b"to", b"subject", b"date", b"message-id"],
        signature_algorithm=b"ed25519-sha256",
    )
    return bytes(signature) + content


def _with_attachment(name: str) -> bytes:
    body = (
        b"--b\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n--b\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=" + name.encode() + b"\r\n\r\n"
        b"TVqQAAMAAAAEAAAA//8AALgAAAAAAAAAQAAAAAAAAAA=\r\n--b--\r\n"
    )
    fields = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
    return _message("a@good.demo.test", "an attachment", body, fields=fields)


def _large() -> bytes:
    return _message("a@good.demo.test", "5 MB", (b"x" * 76 + b"\r\n") * 64_200)


def _eight_bit() -> bytes:
    fields = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    return _message("a@good.demo.test", "8-bit", "Grüße, žluťoučký kůň, 你好\r\n".encode(), fields=fields)


SAMPLES: tuple[Sample, ...] = (
    Sample(
        name="clean",
        reverse_path="clean@good.demo.test",
        content=lambda: _message("clean@good.demo.test", "clean"),
        reply="250",
        verdict="delivered",
    ),
    Sample(name="DKIM-signed", reverse_path="news@signed.demo.test", content=_signed, reply="250", verdict="delivered"),
    Sample(
        name="SPF fail",
        reverse_path="x@elsewhere.demo.test",
        content=lambda: _message("x@elsewhere.demo.test", "SPF fail"),
        reply="550",
        verdict="rejected",
        plugin="spf",
    ),
    Sample(
        name="DMARC reject",
        reverse_path="bulk@good.demo.test",
        content=lambda: _message("ceo@bank.demo.test", "your account"),
        reply="550",
        verdict="rejected",
        plugin="dmarc",
    ),
    Sample(
        name="DMARC quarantine",
        reverse_path="offers@good.demo.test",
        content=lambda: _message("sale@shop.demo.test", "offer"),
        reply="250",
        verdict="held",
        plugin="dmarc",
    ),
    Sample(
        name="DMARC fail, partner let through",
        reverse_path="list@good.demo.test",
        content=lambda: _message("bob@partner.demo.test", "by a mailing list"),
        reply="250",
        verdict="delivered",
        plugin="exceptions",
    ),
    Sample(
        name="unknown recipient",
        reverse_path="typo@good.demo.test",
        recipients=("nobody@inbox.test",),
        content=lambda: _message("typo@good.demo.test", "typo"),
        reply="550",
        verdict="rejected",
    ),
    Sample(
        name="relay attempt",
        reverse_path="spam@good.demo.test",
        recipients=("x@elsewhere.demo.test",),
        content=lambda: _message("spam@good.demo.test", "relay"),
        reply="550",
        verdict="rejected",
    ),
    Sample(
        name="forbidden attachment",
        reverse_path="invoice@good.demo.test",
        content=lambda: _with_attachment("invoice.exe"),
        reply="250",
        verdict="held",
        plugin="rules",
    ),
    Sample(
        name="two recipients, different fates",
        reverse_path="newsletter@good.demo.test",
        recipients=("alice@inbox.test", "bob@inbox.test"),
        content=lambda: _message("newsletter@good.demo.test", "weekly", fields=b"List-Id: <weekly.good.demo.test>\r\n"),
        reply="250",
        verdict="held",
        plugin="rules",
    ),
    Sample(name="5 MB", reverse_path="large@good.demo.test", content=_large, reply="250", verdict="delivered"),
    Sample(name="8-bit", reverse_path="eight@good.demo.test", content=_eight_bit, reply="250", verdict="delivered"),
    Sample(
        name="null sender",
        reverse_path="",
        recipients=("postmaster@inbox.test",),
        content=lambda: _message("mailer-daemon@good.demo.test", "report", fields=b"Auto-Submitted: auto-replied\r\n"),
        reply="250",
        verdict="delivered",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the client saw of one sample."""

    sample: Sample
    reply: str


def send(sample: Sample, host: str, port: int) -> Seen:
    """Send one sample by hand, so that the deciding reply is seen word for word. OSError, SMTPException."""
    with smtplib.SMTP(host, port, local_hostname="good.demo.test", timeout=30) as client:
        client.ehlo()
        content = sample.content()
        options = [f"SIZE={len(content)}"]
        if not content.isascii() and client.has_extn("8bitmime"):
            options.append("BODY=8BITMIME")
        code, text = client.mail(sample.reverse_path, options)
        if code != 250:
            return Seen(sample=sample, reply=_shown(code, text))
        refused = ""
        accepted = False
        for recipient in sample.recipients:
            code, text = client.rcpt(recipient)
            accepted = accepted or code in {250, 251}
            if code not in {250, 251}:
                refused = _shown(code, text)
        if not accepted:
            return Seen(sample=sample, reply=refused)
        try:
            code, text = client.data(content)
        except smtplib.SMTPDataError as error:
            code, text = error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else error.smtp_error.encode()
        return Seen(sample=sample, reply=_shown(code, text))


def _shown(code: int, text: bytes) -> str:
    return f"{code} {text.decode('ascii', 'replace')}"


async def _records(loaded: Loaded, since: float) -> list[Record]:
    """Decision records of this run, oldest first; waits for the journal, which is written in batches."""
    from gateway.journal import Journal

    config = loaded.config
    file = loaded.path(config.journal.path) if config.journal.path else loaded.state_directory / "journal.sqlite"
    journal: Journal = await Journal.open(file, retention=config.journal.retention, queue=config.journal.queue)
    try:
        deadline = time.monotonic() + WAIT
        while True:
            found = await journal.search(since=since, limit=200)
            if len(found) >= len(SAMPLES) or time.monotonic() > deadline:
                return sorted(found, key=lambda record: record["time"])
            await asyncio.sleep(0.2)
    finally:
        await journal.close()


def _record_of(seen: Seen, records: list[Record]) -> Record | None:
    wanted = f"<{seen.sample.reverse_path}>"
    first = f"<{seen.sample.recipients[0]}>"
    for record in records:
        if record["reverse_path"] == wanted and any(row["forward_path"] == first for row in record["recipients"]):
            return record
    return None


def _why(record: Record) -> tuple[str, str]:
    """Plugin and reason, of the recipient whose fate names the record or of the rule that let it pass."""
    if record["plugin"] or record["reason"]:
        return record["plugin"] or ("next hop" if record["reason"] == "next-hop" else "gateway"), record["reason"]
    for step in record["steps"]:
        if step["outcome"] == "skip" or "skip" in step["evidence"]:
            return step["plugin"], step["evidence"]
    return "", ""


def demo(
    *, config: ConfigOption = None, strict: Annotated[bool, typer.Option(help="Exit 1 when a line is not as documented.")] = False
) -> None:
    """Send sample messages through the running gateway and show what became of each."""
    from gateway.config.addresses import parse_bind

    loaded = load_or_exit(config)
    host, port = parse_bind(loaded.config.listener[0].bind)
    began = time.time()
    with _reachable(host, port):
        seen = [send(sample, host, port) for sample in SAMPLES]
    records = asyncio.run(_records(loaded, began - 1))
    rows = table("message", "reply", "verdict", "plugin", "reason", "id")
    wrong = 0
    for one in seen:
        record = _record_of(one, records)
        plugin, reason = _why(record) if record is not None else ("", "")
        fates = sorted({row["fate"] for row in record["recipients"]}) if record is not None else ["?"]
        verdict = " + ".join(fates)
        as_documented = (
            one.reply.startswith(one.sample.reply) and one.sample.verdict in fates and one.sample.plugin in {"", plugin}
        )
        wrong += not as_documented
        rows.add_row(
            one.sample.name,
            safe(one.reply, 70),
            verdict + ("" if as_documented else " (!)"),
            plugin,
            safe(reason, 60),
            record["id"] if record else "",
        )
    console().print(rows)
    print(f"{len(seen) - wrong} of {len(seen)} lines as documented. `mailgateway explain ID` tells the whole of one.")
    if strict and wrong:
        raise typer.Exit(1)


@contextlib.contextmanager
def _reachable(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, smtplib.SMTPException) as error:
        print(f"the gateway on {host}:{port} does not answer ({safe(str(error))}): start it with `make run`", file=sys.stderr)
        raise typer.Exit(1) from error
