"""Messages of many kinds through a real gateway; a day later its reports, by the real command, in a real Postfix's mailboxes."""

from __future__ import annotations

import asyncio
import email
import gzip
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dkim
import parsedmarc
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from lxml import etree

from tests.integration.black_box import BlackBox, Mail
from tests.integration.gateway_process import COMMAND
from tests.integration.postfix import DOMAIN, RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).parents[1] / "schemas" / "dmarc-2.0.xsd")))
CHAIN = ("spf", "dkim", "dmarc", "authres")
OPTIONS = """
[plugin.dmarc]
verdict = "policy"
[dmarc_reports]
enabled = true
address = "dmarc-reports@gateway.test"
organization = "Ours & Sons"
contact = "https://gateway.test/"
route = "out"
recipient_domains = true
[[route]]
name = "out"
domains = ["out.invalid"]
servers = ["{server}"]
"""
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
PUBLIC = "".join(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode().splitlines()[1:-1])
AGREED = {"TXT": ["v=DMARC1"]}
ZONES: dict[str, Any] = {
    "_dmarc.strict.test": {"TXT": [f"v=DMARC1; p=reject; sp=quarantine; rua=mailto:alice@{DOMAIN},mailto:x@elsewhere.test"]},
    "strict.test": {"A": ["192.0.2.1"], "TXT": ["v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all"]},
    "news.strict.test": {"A": ["192.0.2.1"], "TXT": ["v=spf1 -all"]},
    "k1._domainkey.strict.test": {"TXT": [f"v=DKIM1; p={PUBLIC}"]},
    f"strict.test._report._dmarc.{DOMAIN}": AGREED,
    "_dmarc.mild.test": {"TXT": [f"v=DMARC1; p=quarantine; t=y; rua=mailto:bob@{DOMAIN}!10m,mailto:nobody@{DOMAIN}"]},
    "mild.test": {"A": ["192.0.2.1"]},
    f"mild.test._report._dmarc.{DOMAIN}": AGREED,
    "_dmarc.silent.test": {"TXT": ["v=DMARC1; p=reject"]},
    "silent.test": {"A": ["192.0.2.1"]},
}


def content(domain: str, *, signed: bool = False, extra: str = "") -> bytes:
    text = f"{extra}From: a@{domain}\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nSubject: x\r\n\r\nHello.\r\n".encode()
    return dkim.sign(text, b"k1", b"strict.test", PRIVATE, include_headers=[b"from", b"subject"]) + text if signed else text


NO_KEY = "DKIM-Signature: v=1; a=rsa-sha256; d=list.test; s=nokey; h=from; bh=AAAA; b=AAAA\r\n"
MAIL = [
    *[Mail(client="192.0.2.1", reverse_path="a@strict.test", content=content("strict.test"))] * 5,
    *[Mail(client="2001:db8::1", reverse_path="a@strict.test", content=content("strict.test"))] * 2,
    *[Mail(client="192.0.2.9", reverse_path="a@strict.test", content=content("strict.test"))] * 3,
    *[Mail(client="192.0.2.9", reverse_path="x@other.test", content=content("strict.test", signed=True))] * 4,
    *[Mail(client="192.0.2.8", content=content("news.strict.test", extra=NO_KEY))] * 2,
    *[Mail(client="192.0.2.7", reverse_path="a@mild.test", content=content("mild.test"))] * 3,
    Mail(client="192.0.2.6", content=content("silent.test")),
    Mail(client="192.0.2.6", content=content("unknown.test")),
]


class Site:
    """A gateway that has seen MAIL, a day ago."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "black_box" / "config.toml"
        self.journal = folder / "black_box" / "var" / "journal.sqlite"
        self.day = (datetime.now(UTC) - timedelta(days=2)).strftime("%Y-%m-%d")

    async def command(self, *words: str, status: int = 0) -> bytes:
        """`mailgateway dmarc report` and words; what it prints."""
        line = [*COMMAND, "dmarc", "report", *words, "--config", str(self.config)]
        process = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        async with asyncio.timeout(50):
            out, err = await process.communicate()
        assert process.returncode == status, (out + err).decode("utf-8", "replace")
        return out

    async def age(self) -> None:
        """Two days pass: what the journal has of today is of the day before yesterday."""
        await asyncio.to_thread(self._wait)
        with sqlite3.connect(self.journal) as connection:
            for table in ("dmarc_days", "dmarc_policies", "dmarc_rows"):
                connection.execute(f"UPDATE {table} SET day = ?", (self.day,))

    def _wait(self) -> None:
        """The journal writes in batches."""
        deadline = time.monotonic() + 20
        with sqlite3.connect(self.journal) as connection:
            while connection.execute("SELECT total(count) FROM dmarc_rows").fetchone() != (19.0,):
                assert time.monotonic() < deadline
                time.sleep(0.05)


def counted(report: Any) -> Counter[tuple[str, ...]]:
    """The rows of a report as another reader reads them."""
    found: Counter[tuple[str, ...]] = Counter()
    for one in report["records"]:
        evaluated = one["policy_evaluated"]
        reasons = ",".join(reason["type"] for reason in evaluated["policy_override_reasons"])
        results = evaluated["disposition"], evaluated["dkim"], evaluated["spf"], reasons
        found[one["source"]["ip_address"], one["identifiers"]["header_from"], *results] += one["count"]
    return found


def report_in(octets: bytes) -> Any:
    """Valid by the schema, and read by another reader."""
    parsed: Any = email.message_from_bytes(octets)
    xml = gzip.decompress(parsed.get_payload()[1].get_payload(decode=True))
    SCHEMA.assertValid(etree.fromstring(xml))
    return parsedmarc.parse_report_email(octets, offline=True, always_use_local_files=True)["report"]


async def test_reports_of_a_day(tmp_path: Path, free_port: Callable[[], int], postfix: RealPostfix) -> None:
    options = OPTIONS.format(server=postfix.address)
    async with BlackBox(tmp_path, free_port, chain=CHAIN, options=options) as box:
        box.serve(ZONES)
        replies = Counter([(await box.send(mail)).reply[:3] for mail in MAIL])
        assert replies == {"250": 17, "550": 4}
        site = Site(tmp_path)
        await site.age()

        listed = (await site.command("--dry-run")).decode()
        assert re.search(rf"mild\.test +3 +1 +0 +bob@{DOMAIN} +due", listed)
        assert re.search(r"x@elsewhere\.test +unauthorized +elsewhere\.test does not agree", listed)
        assert "silent.test" not in listed
        assert postfix.messages("alice") == []

        # nothing is queued and nothing lost: the next run sends it
        postfix.stop()
        try:
            away = (await site.command(status=1)).decode()
        finally:
            postfix.start()
        assert re.search(rf"alice@{DOMAIN} +deferred", away)
        assert not re.search(" sent ", away)

        sent = (await site.command(status=1)).decode()
        assert re.search(rf"strict\.test +16 +alice@{DOMAIN} +sent +250 ", sent)
        assert re.search(r"strict\.test +16 +x@elsewhere\.test +unauthorized", away)
        assert re.search(rf"mild\.test +3 +bob@{DOMAIN} +sent", sent)
        assert re.search(rf"mild\.test +3 +nobody@{DOMAIN} +refused +550 5\.1\.1", sent)
        assert "nothing to send" in (await site.command()).decode()

        strict = report_in(await asyncio.to_thread(postfix.wait_for, "alice", b"Report Domain: strict.test"))
        mild = report_in(await asyncio.to_thread(postfix.wait_for, "bob", b"Report Domain: mild.test"))

    assert len(postfix.messages("alice")) == 1
    assert counted(strict) == {
        ("192.0.2.1", "strict.test", "pass", "fail", "pass", ""): 5,
        ("2001:db8::1", "strict.test", "pass", "fail", "pass", ""): 2,
        ("192.0.2.9", "strict.test", "reject", "fail", "fail", ""): 3,
        ("192.0.2.9", "strict.test", "pass", "pass", "fail", ""): 4,
        ("192.0.2.8", "news.strict.test", "quarantine", "fail", "fail", ""): 2,
    }
    assert counted(mild) == {("192.0.2.7", "mild.test", "none", "fail", "fail", "policy_test_mode"): 3}
    assert strict["report_metadata"]["org_name"] == "Ours & Sons"
    assert strict["report_metadata"]["begin_date"] == f"{site.day} 00:00:00"
    published = strict["policy_published"]
    assert (published["domain"], published["p"], published["sp"]) == ("strict.test", "reject", "quarantine")
    assert (published["testing"], published["discovery_method"]) == ("n", "treewalk")
    [signed] = [one for one in strict["records"] if one["policy_evaluated"]["dkim"] == "pass"]
    [signature] = signed["auth_results"]["dkim"]
    assert (signature["domain"], signature["selector"], signature["result"]) == ("strict.test", "k1", "pass")
    assert signed["identifiers"]["envelope_from"] == "other.test"
    assert signed["identifiers"]["envelope_to"] == "inbox.test"
    [other] = [one for one in strict["records"] if one["identifiers"]["header_from"] == "news.strict.test"]
    assert [(one["domain"], one["result"]) for one in other["auth_results"]["dkim"]] == [("list.test", "permerror")]
