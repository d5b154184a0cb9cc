"""The message that carries a report: RFC 9990 2.5.1, 2.5.2."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, formataddr

_LINES = policy.compat32.clone(linesep="\r\n", max_line_length=76)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What the message says beside the report."""

    address: str
    """From."""
    organization: str
    submitter: str
    """Our domain name."""
    policy_domain: str
    day: str
    report_id: str
    text: str
    """For a person who opens it."""

    @property
    def file_name(self) -> str:
        """The same at each attempt (RFC 9990 2.5.2)."""
        return file_name(self.submitter, self.policy_domain, self.day, self.report_id)


def report_id(submitter: str, policy_domain: str, day: str) -> str:
    """The same for every attempt, and no other report's: RFC 9990 2.5.1. Letters and digits, so that it may be a `unique-id` too."""
    return hashlib.sha256(f"{submitter}\n{policy_domain}\n{day}".encode()).hexdigest()[:32]


def begin_of(day: str) -> int:
    """The first second of a day in UTC. ValueError when it is none."""
    if _DAY.fullmatch(day) is None:
        msg = f"{day!r} does not match YYYY-MM-DD"
        raise ValueError(msg)
    return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())


def file_name(submitter: str, policy_domain: str, day: str, id_: str) -> str:
    """RFC 9990 2.5.2."""
    begin = begin_of(day)
    return f"{submitter}!{policy_domain}!{begin}!{begin + DAY - 1}!{id_}.xml.gz"


def compress(pieces: Iterable[bytes]) -> bytes:
    """GZIP (RFC 1952) without name and time, so that the same report is the same octets."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as file:
        for piece in pieces:
            file.write(piece)
    return packed.getvalue()


def message(letter: Letter, report: bytes, *, to: str, now: float) -> bytes:
    """The whole message, lines ended by CRLF, 7bit. `report` is compressed."""
    whole = MIMEMultipart("mixed", policy=_LINES)
    whole["From"] = formataddr((letter.organization, letter.address))
    whole["To"] = to
    whole["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
    whole["Subject"] = f"Report Domain: {letter.policy_domain} Submitter: {letter.submitter} Report-ID: {letter.report_id}"
    whole["Message-ID"] = f"<{letter.report_id}.{hashlib.sha256(to.encode()).hexdigest()[:12]}@{letter.submitter}>"
    whole["Auto-Submitted"] = "auto-generated"  # RFC 3834 5
    whole.attach(MIMEText(letter.text, "plain", "us-ascii" if letter.text.isascii() else "utf-8", policy=_LINES))
    attached = MIMEApplication(report, "gzip", policy=_LINES)
    attached.add_header("Content-Disposition", "attachment", filename=letter.file_name)
    whole.attach(attached)
    return whole.as_bytes()
