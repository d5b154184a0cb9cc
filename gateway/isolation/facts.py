"""What hooks are told, on its way to a plugin's process: sessions and transactions as values, content as an open file."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import Any

from gateway.content import Content
from gateway.findings import Findings
from gateway.isolation.codec import GarbageError, UnknownValueError, pack, unpack
from gateway.message import Message
from gateway.mime import Bounds
from gateway.session import ClientClass, Session
from gateway.transaction import Outcome, Recipient, Transaction

LARGE = 1_000_000
"""Octets above which content is written to a file on disk rather than in memory."""
_SESSION = tuple(name for name in Session.__dataclass_fields__ if name != "state")
_TRANSACTION = (
    "id",
    "reverse_path",
    "parameters",
    "sent_reverse_path",
    "started",
    "declared_size",
    "forwarded",
)
_RECIPIENT = tuple(Recipient.__dataclass_fields__)


def pack_fact(fact: Any) -> Any:
    """A session, transaction, recipient or outcome. A message goes as a file: here is only what its octets do not say."""
    if isinstance(fact, Session):
        return {"$": "session", **{name: pack(getattr(fact, name)) for name in _SESSION}}
    if isinstance(fact, Transaction):
        return {
            "$": "transaction",
            "session": pack_fact(fact.session),
            "recipients": [pack_fact(one) for one in fact.recipients],
            "findings": _pack_findings(fact.findings),
            **{name: pack(getattr(fact, name)) for name in _TRANSACTION},
        }
    if isinstance(fact, Recipient):
        return {"$": "recipient", **{name: pack(getattr(fact, name)) for name in _RECIPIENT}}
    if isinstance(fact, Message):
        content = fact.content
        return {"$": "message", "normalised": content.was_normalised, "binary": content.is_binary}
    if isinstance(fact, Outcome):
        return pack(fact)
    raise UnknownValueError(f"a fact of the type {type(fact).__name__}")


def _pack_findings(found: Findings) -> list[Any]:
    """With who gave each; classes of other plugins' own stay here."""
    packed = []
    for plugin, finding in found.attributed():
        try:
            packed.append([plugin, pack(finding)])
        except UnknownValueError:
            continue
    return packed


def unpack_fact(value: Any, content: int | None, bounds: Bounds) -> Any:
    """The fact. `content`: the file of a message. GarbageError."""
    if not isinstance(value, dict):
        raise GarbageError("no fact")
    facts = {name: item for name, item in value.items() if name != "$"}
    match value.get("$"):
        case "session":
            return _session(facts)
        case "transaction":
            found = Findings()
            for plugin, finding in facts.pop("findings"):
                found.add(plugin, unpack(finding))
            session = unpack_fact(facts.pop("session"), None, bounds)
            recipients = [unpack_fact(one, None, bounds) for one in facts.pop("recipients")]
            known = {name: unpack(item) for name, item in facts.items()}
            return Transaction(session=session, recipients=recipients, findings=found, **known)
        case "recipient":
            return Recipient(**{name: unpack(item) for name, item in facts.items()})
        case "message":
            return Message(open_content(content, facts), bounds)
        case _:
            return unpack(value)


def _session(facts: dict[str, Any]) -> Session:
    known = {name: unpack(item) for name, item in facts.items()}
    return Session(**{**known, "client_class": ClientClass(known["client_class"])})


def open_content(file: int | None, facts: dict[str, Any]) -> Content:
    """The octets of a file that was handed over, mapped; its descriptor is closed."""
    if file is None:
        raise GarbageError("a message without its file")
    try:
        size = os.fstat(file).st_size
        octets: bytes | mmap.mmap = mmap.mmap(file, 0, access=mmap.ACCESS_READ) if size else b""
    finally:
        os.close(file)
    content = Content(octets, was_normalised=facts["normalised"])
    content.is_binary = facts["binary"]
    return content


def share(content: Content) -> int:
    """A file with these octets to hand over, read-only; the caller closes it. OSError.

    Of a spool file it is the same one opened again: nothing is copied. What is in memory is written to a file of its own.
    """
    spooled = content.fileno()
    if spooled is not None and sys.platform == "linux":
        return os.open(f"/proc/self/fd/{spooled}", os.O_RDONLY | os.O_CLOEXEC)
    if content.size <= LARGE and hasattr(os, "memfd_create"):
        file = os.memfd_create("mailgateway-content", os.MFD_CLOEXEC)
    else:
        file, name = tempfile.mkstemp(prefix="mailgateway-")
        os.unlink(name)  # noqa: PTH108 - it lives by its descriptor
    try:
        for chunk in content.chunks():
            view = memoryview(chunk)
            while view:
                view = view[os.write(file, view) :]
    except BaseException:
        os.close(file)
        raise
    return file
