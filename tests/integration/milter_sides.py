"""What the tests of the milter server share: a gateway that is proxy and milter at once, and the verdicts of both side by side."""

from __future__ import annotations

import asyncio
import contextlib
import re
import smtplib
import tomllib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.cli.demo import SAMPLES, Sample, send
from gateway.config.models import Config
from gateway.dns.demo import ZONES
from gateway.quarantine.copies import Entry
from gateway.quarantine.rows import Query
from gateway.smtp.record import results
from gateway.testing.in_process import InProcessGateway
from gateway.trace import Record

TOP = Path(__file__).parents[2]
DOMAINS = ("example.test", "inbox.test")
"""Those of which the servers know mailboxes."""
_ID = re.compile(r" ?\([0-9A-Z]{14}(-\d+)?\)")
HARD = (
    b"From: =?utf-8?q?J=C3=B6rg?= <a@client.test>\r\n"
    b"To: bob@example.test\r\n"
    b"Subject:   spaces  kept\r\n"
    b"X-Tab:\ttab\r\n"
    b"X-Folded: one\r\n\ttwo\r\n   three\r\n"
    b"X-None:none\r\n"
    b"Date: Tue, 24 Nov 2026 00:00:00 +0000\r\n"
    b"Message-ID: <hard@client.test>\r\n"
    b"\r\n"
    b".leading dot\r\n..two dots\r\n" + b"x" * 900 + b"\r\n\xff\xe9 8-bit\r\n \r\n\t\r\n\r\n\r\nend without more\r\n"
)


_TOP = b"From: a@good.demo.test\r\nTo: alice@inbox.test\r\nDate: Tue, 24 Nov 2026 00:00:00 +0000\r\nMessage-ID: <x@good.demo.test>\r\n"
ODD = {
    "nothing in the header": b"Subject: x\r\n\r\ntext\r\n",
    "an empty body": _TOP + b"\r\n",
    "a header and no body": _TOP,
    "two authors": b"From: ceo@bank.demo.test\r\n" + _TOP + b"\r\ntext\r\n",
    "8-bit fields": _TOP + "Subject: Grüße\r\n\r\ntext\r\n".encode(),
    "a long field": _TOP + b"References:" + b" <%s@good.demo.test>\r\n" % (b"r" * 60) * 1 + b" <r@x>\r\n" * 300 + b"\r\ntext\r\n",
    "a forged result": b"Authentication-Results: localhost; spf=pass smtp.mailfrom=bank.demo.test\r\n" + _TOP + b"\r\ntext\r\n",
    "blank lines at the end": _TOP + b"\r\ntext\r\n\r\n\r\n\r\n",
    "long lines": _TOP + b"\r\n" + b"y" * 990 + b"\r\n.\r\n..\r\n",
    "folded words": _TOP + b"Subject: =?utf-8?q?a?=\r\n =?utf-8?q?b?=\r\nX-T:\tx\r\n\r\ntext\r\n",
    "an archive of names": _TOP
    + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: inner\r\nContent-Disposition: attachment; filename=x.js\r\n\r\nx\r\n--q--\r\n",
}
"""Messages that other programs read in other ways, by name."""
CORPUS = (
    *SAMPLES,
    *(
        Sample(
            name=name,
            reverse_path=f"odd{number}@good.demo.test",
            content=lambda content=content: content,  # type: ignore[misc] # one for each
            reply="",
            verdict="",
        )
        for number, (name, content) in enumerate(ODD.items())
    ),
)


@contextlib.asynccontextmanager
async def both(
    directory: Path, next_hop: str, *, listener: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[InProcessGateway]:
    """The gateway of config.toml (or `more`), as proxy `mx` before that next hop and as milter `milter`."""
    config = tomllib.loads((TOP / "config.toml").read_text())
    config["listener"] = [
        {"name": "mx", "bind": "127.0.0.1:0", "lenient_networks": []},
        {"name": "milter", "bind": "127.0.0.1:0", "protocol": "milter", "lenient_networks": [], **(listener or {})},
    ]
    config["route"] = [{"name": "default", "domains": list(DOMAINS), "servers": [next_hop]}]
    config.update(more)
    config = {name: value for name, value in config.items() if value is not None}
    async with InProcessGateway(Config.model_validate(config), directory=directory, zones=ZONES) as gateway:
        yield gateway


@dataclass(frozen=True, slots=True)
class Row:
    """One message and what became of it."""

    name: str
    reply: str
    """What the client heard, without the identifier; of a 250 nothing but the code: its words are the server's."""
    fates: tuple[tuple[str, str, str, str], ...] = ()
    """For each recipient: path, fate, plugin, reason."""
    results: str = ""
    labels: tuple[str, ...] = ()
    """Findings, sorted: checks run at once."""


def row_of(name: str, reply: str, record: Record | None) -> Row:
    """What can be compared of a message."""
    told = _ID.sub("", reply)
    row = Row(name, told if told[:1] != "2" else "250")
    if record is None:
        return row
    fates = tuple((one["forward_path"], one["fate"], one["plugin"], one["reason"]) for one in record["recipients"])
    labels = (
        f"{step['stage']} {step['plugin']} {finding['kind']} {finding.get('method', '')} {finding.get('result', '')}".rstrip()
        for step in record["steps"]
        for finding in step["findings"]
    )
    return replace(row, fates=fates, results=" ".join(sorted(results(record).split())), labels=tuple(sorted(labels)))


async def rows(gateway: InProcessGateway, port: int, samples: Sequence[Sample] = CORPUS) -> list[Row]:
    """Send them all, one after the other, and look at the record of each."""
    found = []
    for sample in samples:
        await gateway.quiet()
        gateway.records.clear()
        seen = await asyncio.to_thread(send, sample, "127.0.0.1", port)
        await gateway.quiet()
        found.append(row_of(sample.name, seen.reply, gateway.records[0] if gateway.records else None))
    return found


def say(port: int, sender: str, recipients: Sequence[str], content: bytes, *, helo: str = "client.test") -> list[str]:
    """Every reply from MAIL to the end, as code and text in one line."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname=helo, timeout=30) as client:
        client.ehlo()
        told = [client.mail(sender, ["BODY=8BITMIME"]), *(client.rcpt(to) for to in recipients), _data(client, content)]
    return [_ID.sub("", f"{code} {text.decode('utf-8', 'replace')}").replace("\n", "|") for code, text in told]


def _data(client: smtplib.SMTP, content: bytes) -> tuple[int, bytes]:
    try:
        return client.data(content)
    except smtplib.SMTPDataError as error:
        text = error.smtp_error
        return error.smtp_code, text if isinstance(text, bytes) else text.encode()


async def held(gateway: InProcessGateway) -> list[tuple[Entry, bytes]]:
    """Everything in the quarantine, with its octets."""
    found = []
    for entry in await gateway.quarantine.search(Query()):
        content = await gateway.quarantine.content(entry)
        found.append((entry, bytes(content.octets)))
        content.close()
    return found


def crlf(octets: bytes) -> bytes:
    """A message out of a mailbox with the line ends it travelled with."""
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
