"""Copies to a mailbox: each from its own file, with the null reverse-path, one attempt a run (RFC 5321 4.5.5, 6.1).

A copy goes from the disk only when the server has taken it. Whatever dies in between delivers it twice, never not at all; what the server
refuses stays, and is tried again at the next run.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiosmtplib

from gateway import Context

MAX_IN_RUN = 100
"""Copies of one run."""
MAX_NAMED = 100
"""Recipients that are named in the field on top."""
SEND_LIMIT = 60.0
"""Seconds for one copy."""
LEASE = 300.0
"""Seconds for which a copy is one worker's: longer than an attempt can take."""
_MAX_REMEMBERED = 10_000


class Delivery:
    """From a directory of copies to one mailbox."""

    def __init__(self, top: Path, *, to: str, server: str, tls: str, context: Context) -> None:
        """`server`: `host:port`; `tls`: `opportunistic`, `required` or `never`."""
        self._top = top
        self._to = to
        host, _, port = server.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._tls = tls
        self._context = context
        self._refused: dict[str, int] = {}

    async def run_always(self, every: float) -> None:
        """One run after the other, until cancelled."""
        while True:
            try:
                await self.run()
            except OSError as error:
                self._context.log.warning("archive.not_delivered", error=str(error)[:300])
            await asyncio.sleep(every)

    async def run(self) -> int:
        """One attempt for each copy that waits; how many were taken. OSError of the directory."""
        waiting = await asyncio.to_thread(self._waiting)
        if not waiting:
            return 0
        start_tls = {"opportunistic": None, "required": True, "never": False}[self._tls]
        link = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            local_hostname=self._context.server_name,
            timeout=SEND_LIMIT / 2,
            start_tls=start_tls,
            validate_certs=self._tls == "required",
        )
        taken = 0
        try:
            async with asyncio.timeout(SEND_LIMIT):
                await link.connect()
            for eml in waiting:
                taken += await self._claimed(link, eml)
            async with asyncio.timeout(SEND_LIMIT / 2):
                await link.quit()
        except (
            aiosmtplib.SMTPException,
            OSError,
            TimeoutError,
            ValueError,
        ) as error:  # the link: the rest waits for the next run
            self._context.log.warning(
                "archive.not_delivered", server=self._host, error=f"{type(error).__name__}: {str(error)[:300]}"
            )
            self._context.metrics.count("delivered", outcome="no link")
        finally:
            link.close()
        return taken

    async def _claimed(self, link: aiosmtplib.SMTP, eml: Path) -> bool:
        """One copy, unless another worker has it."""
        name = str(eml.relative_to(self._top))
        if not await self._context.store.put_if_absent(f"deliver/{name}", b"", ttl=LEASE):
            return False
        try:
            octets = await asyncio.to_thread(self._read, eml)
            if octets is None:  # another worker has delivered it
                return False
            async with asyncio.timeout(SEND_LIMIT):
                await link.sendmail("", [self._to], octets, mail_options=_options(link, octets))
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused) as error:
            if getattr(error, "code", 0) == 421:
                raise
            self._refuse(name, str(error))
            return False
        else:
            self._refused.pop(name, None)
            await asyncio.to_thread(_remove, eml)
            self._context.metrics.count("delivered", outcome="taken")
            return True
        finally:
            await self._context.store.delete(f"deliver/{name}")

    def _refuse(self, name: str, why: str) -> None:
        while len(self._refused) >= _MAX_REMEMBERED:
            self._refused.pop(next(iter(self._refused)))
        self._refused[name] = self._refused.get(name, 0) + 1
        self._context.log.warning("archive.refused", copy=name, error=why[:300])
        self._context.metrics.count("delivered", outcome="refused")

    def _waiting(self) -> list[Path]:
        """Copies with their own names, those first that were refused least, then the oldest."""
        found = [one for one in self._top.rglob("*.eml") if one.is_file()]
        found.sort(key=lambda one: (self._refused.get(str(one.relative_to(self._top)), 0), one))
        return found[:MAX_IN_RUN]

    def _read(self, eml: Path) -> bytes | None:
        """The copy with its envelope on top; None where it is no more."""
        try:
            return _on_top(eml.with_suffix(".json").read_text()) + eml.read_bytes()
        except FileNotFoundError:
            return None


def _options(link: aiosmtplib.SMTP, octets: bytes) -> list[str]:
    return ["BODY=8BITMIME"] if not octets.isascii() and link.supports_extension("8bitmime") else []


def _on_top(envelope: str) -> bytes:
    """Fields that say who it was from and for: the copy's own envelope is the archive's."""
    said: dict[str, Any] = json.loads(envelope)
    recipients = [_plain(one) for one in said["recipients"][:MAX_NAMED]]
    if len(said["recipients"]) > MAX_NAMED:
        recipients.append(f"(and {len(said['recipients']) - MAX_NAMED} more)")
    lines = [
        f"X-Archive-Transaction: {_plain(said['id'])}",
        f"X-Archive-Reverse-Path: {_plain(said['reverse_path'])}",
        "X-Archive-Recipients: " + ",\r\n ".join(recipients),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _plain(text: object) -> str:
    """One printable piece in ASCII."""
    return "".join(c if " " < c <= "~" else "?" for c in str(text)[:600])


def _remove(eml: Path) -> None:
    """The copy first: without it, what lies beside it is of no use."""
    eml.unlink(missing_ok=True)
    eml.with_suffix(".json").unlink(missing_ok=True)
