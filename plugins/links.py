"""Large attachments are put into a directory or an object store, and a text with a link stands in their place. Shows `replace_part`.

What is stored is durable before the message goes on without it; of a message that nobody took, nothing stays. What is signed or
encrypted (RFC 1847, RFC 8551) is never touched.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import secrets
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field, field_validator, model_validator

from gateway import (
    Context,
    Duration,
    Fact,
    Message,
    Outcome,
    Part,
    Plugin,
    PluginOptions,
    ReplacePart,
    Size,
    Transaction,
    hook,
    remove_part,
    replace_part,
)
from gateway.places import object_store, sync_directory

MAX_PARTS = 100
"""Attachments of one message that are replaced; the rest stays."""
NAME_OCTETS = 24
"""Random octets of a name: nobody guesses them."""
SWEEP = 3_600.0
"""Seconds between two searches for what has expired."""
_OURS = re.compile(r"[A-Za-z0-9_-]{32}\.[a-z0-9]{1,5}(?:\.new)?")
_SEALED = re.compile(
    r"multipart/(?:signed|encrypted)|application/(?:(?:x-)?pkcs7-(?:mime|signature)|pgp-(?:encrypted|signature|keys))"
)
_SIGNATURES = ("dkim-signature", "arc-message-signature")
_ENDINGS = re.compile(
    r"7z|avi|bmp|bz2|csv|docx?|epub|flac|gif|gz|heic|iso|jpe?g|key|m4a|mkv|mov|mp[34]|numbers|od[pst]|ogg|pages|pdf|png|pptx?|psd|rar|rtf|"
    r"tar|tgz|tiff?|txt|wav|web[mp]|xlsx?|xz|zip|zst"
)
"""Endings that a name may keep: nothing in it that a browser would run."""


class Options(PluginOptions):
    """What is replaced, where it goes, and how long it stays."""

    prefix: str
    """What links begin with: `https://files.example.org/`. Your web server shows the directory, or the bucket, there."""
    directory: str = ""
    """A directory for the files. Relative names start at the directory of the configuration."""
    url: str = ""
    """An object store instead: `s3://bucket/prefix`. Credentials come from the environment."""
    endpoint: str = ""
    """Address of a server that speaks S3 and is not Amazon's: `https://objects.example.org`."""
    larger_than: Size = 10_000_000
    """Octets, decoded, from which on an attachment is replaced."""
    types: tuple[str, ...] = ("*/*",)
    """Types that are replaced, as declared: `video/*`."""
    clients: tuple[Literal["authenticated", "trusted", "stranger"], ...] = ("authenticated", "trusted")
    """Whose attachments are replaced."""
    signed: Literal["keep", "replace"] = "keep"
    """Mail with a DKIM or ARC signature of others: its attachments stay, or are replaced and the signature breaks."""
    expire: Duration = Field(default=30 * 86_400.0, ge=3_600)
    """How long a link is promised. In a directory older files are deleted; an object store has rules of its own for that."""
    total: Size = 10_000_000_000
    """Octets that the directory may hold; what would exceed them is a fault, for `on_error` to decide (451)."""
    memory: Size = 200_000_000
    """Octets of attachments being stored at once, in each worker; more is a fault."""

    @field_validator("prefix")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[!-~]{1,500}/", value):
            raise ValueError(f"found {value!r}; allowed: https://host/path/")
        return value

    @model_validator(mode="after")
    def _is_one_place(self) -> Options:
        if bool(self.directory) == bool(self.url):
            raise ValueError("found no place, or two; allowed: directory or url")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An attachment that lies elsewhere now."""

    name: str
    size: int
    sha256: str


class Place(Protocol):
    """Where attachments are. Called in threads."""

    def write(self, name: str, octets: bytes, filename: str) -> None:
        """Durably, or an error."""

    def remove(self, name: str) -> None:
        """Nobody took the message; nothing happens where it is not."""


class Links(Plugin[Options]):
    """Puts large attachments where a link leads to."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError for an object store that cannot be."""
        super().__init__(options, name=name, context=context)
        self._store = object_store(self.options.url, self.options.endpoint) if self.options.url else None
        self._stored: dict[str, list[str]] = {}
        self._octets = 0

    @hook
    async def startup(self, context: Context) -> None:
        """Make the directory; what has expired goes. OSError when it cannot be written to."""
        self._place: Place
        if self._store is not None:
            self._place = _Objects(self._store)
            return
        place = _Directory(Path(context.base_directory, self.options.directory), self.options, context)
        await asyncio.to_thread(place.probe)
        self._place = place
        context.spawn(self._sweep(place), name="delete what has expired")

    @hook
    async def check(self, transaction: Transaction, message: Message) -> Fact | None:
        """Large attachments that stay, and why."""
        if not self._is_concerned(transaction, message):
            return None
        return await asyncio.to_thread(self._kept, message)  # the first who asks for the parts of a large message waits for them

    def _kept(self, message: Message) -> Fact | None:
        large = self._large(message)
        sealed = self._sealed(message)
        kept = [f"{_told(part.filename)}: {why}" for part in large if (why := sealed or _refusal(part))]
        if len(large) > MAX_PARTS:
            kept.append(f"more than {MAX_PARTS} attachments")
        return Fact(name="links.kept", value="; ".join(kept)[:1_000]) if kept else None

    @hook
    async def rewrite(self, transaction: Transaction, message: Message) -> list[ReplacePart]:
        """Store what is large, and put links in its place."""
        if not self._is_concerned(transaction, message):
            return []
        large = (await asyncio.to_thread(self._large, message))[:MAX_PARTS]
        if not large or self._sealed(message):
            return []
        wanted = sum(part.end - part.body_start for part in large)
        if self._octets + wanted > self.options.memory:
            raise BlockingIOError(f"attachments with {self._octets} octets are being stored")
        self._octets += wanted
        names = self._stored.setdefault(transaction.id, [])
        try:
            edits = [await self._replaced(part, names) for part in large if not _refusal(part)]
        except BaseException:  # cancelled by the deadline, too: whatever is there already goes
            await asyncio.shield(self._remove(transaction.id))
            raise
        finally:
            self._octets -= wanted
        return [edit for edit in edits if edit is not None]

    @hook
    async def done(self, transaction: Transaction, outcome: Outcome) -> None:
        """What nobody took is removed; vanished: perhaps somebody did."""
        if any(fate in {"delivered", "held", "vanished"} for _, fate in outcome.fates):
            self._stored.pop(transaction.id, None)
        else:
            await self._remove(transaction.id)

    async def _replaced(self, part: Part, names: list[str]) -> ReplacePart | None:
        octets = await asyncio.to_thread(part.content)
        if len(octets) < self.options.larger_than:  # its line ends made it look larger
            return None
        name = secrets.token_urlsafe(NAME_OCTETS) + _ending(part.filename)
        names.append(name)
        digest = await asyncio.to_thread(_write, self._place, name, octets, part.filename)
        stored = Stored(name=name, size=len(octets), sha256=digest)
        until = time.strftime("%Y-%m-%d", time.gmtime(self.context.clock() + self.options.expire))
        headers, body = _text(part.filename, stored, f"{self.options.prefix}{name}", until)
        self.context.metrics.count("attachments", outcome="replaced")
        note = f"{_told(part.filename)}, {stored.size} octets, sha256 {digest}, stored as {name[:8]}…, until {until}"
        return replace_part(part, body, headers=headers, note=note)

    async def _remove(self, transaction: str) -> None:
        for name in self._stored.pop(transaction, []):
            try:
                await asyncio.to_thread(self._place.remove, name)
            except Exception as error:  # noqa: BLE001 - whatever a disk or library raises: it expires in the end
                self.context.log.warning("links.not_removed", id=transaction, error=f"{type(error).__name__}: {str(error)[:300]}")

    async def _sweep(self, place: _Directory) -> None:
        while True:
            try:
                await asyncio.to_thread(place.sweep)
            except OSError as error:
                self.context.log.warning("links.not_swept", error=str(error)[:300])
            await asyncio.sleep(SWEEP)

    def _is_concerned(self, transaction: Transaction, message: Message) -> bool:
        return message.size >= self.options.larger_than and transaction.session.client_class.value in self.options.clients

    def _large(self, message: Message) -> list[Part]:
        return [part for part in message.attachments if self._is_wanted(part)]

    def _is_wanted(self, part: Part) -> bool:
        encoded = part.end - part.body_start
        if (encoded * 3 // 4 if part.encoding == "base64" else encoded) < self.options.larger_than:
            return False
        return any(fnmatchcase(part.content_type, one.lower()) for one in self.options.types)

    def _sealed(self, message: Message) -> str:
        """Why nothing in this message may be changed, or ``."""
        for part in message.parts:
            for one in (*part.within, part):
                if _SEALED.fullmatch(one.content_type):
                    return f"the message has {one.content_type}"
        if self.options.signed == "keep" and any(message.field(name) for name in _SIGNATURES):
            return "the message has a signature that would not verify any more"
        return ""


class _Directory:
    """Files: in full and on the disk under another name before they get their own. None is ever overwritten."""

    def __init__(self, top: Path, options: Options, context: Context) -> None:
        self._top = top
        self._options = options
        self._clock = context.clock

    def probe(self) -> None:
        self._top.mkdir(parents=True, exist_ok=True, mode=0o755)
        if not os.access(self._top, os.W_OK | os.X_OK):
            raise PermissionError(f"{self._top}: cannot be written to")

    def write(self, name: str, octets: bytes, filename: str) -> None:  # noqa: ARG002 - the name is in the text; no path has it
        held = sum(size for _, size, _ in self._files())
        if held + len(octets) > self._options.total:
            raise OSError(f"{self._top}: {held} octets of {self._options.total} are in use")
        new = self._top / f"{name}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(octets)
                file.flush()
                os.utime(file.fileno(), (self._clock(), self._clock()))
                os.fsync(file.fileno())
            os.link(new, self._top / name)  # fails where there is one
        finally:
            new.unlink(missing_ok=True)
        sync_directory(self._top)

    def remove(self, name: str) -> None:
        (self._top / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what has expired. Files of others stay."""
        for path, _, stamp in self._files():
            if stamp + self._options.expire < self._clock():
                path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[Path, int, float]]:
        """Path, octets, time of each file of ours."""
        found = []
        with os.scandir(self._top) as entries:
            for entry in entries:
                try:
                    if _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        facts = entry.stat(follow_symlinks=False)
                        found.append((Path(entry.path), facts.st_size, facts.st_mtime))
                except FileNotFoundError:  # another worker has swept it
                    continue
        return found


class _Objects:
    """Objects of a store; blocking calls, for threads. What has expired goes by the store's own rules."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def write(self, name: str, octets: bytes, filename: str) -> None:
        shown = re.sub(r"[^A-Za-z0-9._ -]", "_", filename)[:100] or "attachment"
        attributes = {"Content-Type": "application/octet-stream", "Content-Disposition": f'attachment; filename="{shown}"'}
        self._store.put(name, octets, attributes=attributes, mode="create", use_multipart=False)

    def remove(self, name: str) -> None:
        self._store.delete(name)


def _write(place: Place, name: str, octets: bytes, filename: str) -> str:
    """Store it; the SHA-256 of what was stored."""
    place.write(name, octets, filename)
    return hashlib.sha256(octets).hexdigest()


def _refusal(part: Part) -> str:
    """Why this part cannot be replaced, or ``."""
    try:
        remove_part(part)
    except ValueError as error:
        return str(error)
    return ""


def _told(filename: str) -> str:
    return filename[:100] or "an attachment without a name"


def _ending(filename: str) -> str:
    ending = filename.rpartition(".")[2].lower() if "." in filename else ""
    return f".{ending}" if _ENDINGS.fullmatch(ending) else ".bin"


def _text(filename: str, stored: Stored, link: str, until: str) -> tuple[list[tuple[str, str]], bytes]:
    """The part that stands in its place. No line of it begins with what a client chose."""
    text = (
        "An attachment of this message was replaced by a link.\r\n\r\n"
        f"Name:    {filename[:200] or '(none)'}\r\n"
        f"Size:    {stored.size} octets\r\n"
        f"SHA-256: {stored.sha256}\r\n"
        f"Link:    {link}\r\n"
        f"Until:   {until}\r\n"
    )
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Disposition", "inline")]
    if text.isascii():
        return [*headers, ("Content-Transfer-Encoding", "7bit")], text.encode()
    body = base64.encodebytes(text.encode("utf-8", "replace")).replace(b"\n", b"\r\n")
    return [*headers, ("Content-Transfer-Encoding", "base64")], body
