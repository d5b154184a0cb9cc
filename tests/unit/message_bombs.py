"""Messages made to cost much, each read with all facts; run as a process, which prints for each: MB of memory, limits hit, name."""

from __future__ import annotations

import re
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gateway.library_types  # noqa: F401 - a running gateway has it before the first message comes
from gateway.content import Content
from gateway.message import Message
from gateway.plugins.rules.facts import ELEMENTS, FACTS, Subject
from gateway.testing import a_transaction

MB = 1 << 20
OWN = 60
"""MB that one message may take beside its spool file: an allocation beyond them fails."""


def multipart(part: bytes, count: int, boundary: bytes = b"b") -> Iterator[bytes]:
    yield b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n'
    for _ in range(count):
        yield b"--" + boundary + b"\r\n" + part


def many(line: bytes, octets: int, front: bytes = b"") -> Iterator[bytes]:
    yield front
    block = line * (MB // len(line))
    for _ in range(octets // len(block)):
        yield block


PART = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
PDF = b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: "
BOMBS: dict[str, Callable[[], Iterator[bytes]]] = {
    "multiparts in one another": lambda: (
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(10_000)
    ),
    "messages in one another": lambda: iter([b"Content-Type: message/rfc822\r\n\r\n" * 10_000]),
    "boundaries of 1 MB": lambda: multipart(b"\r\nx\r\n", 20, b"b" * MB),
    "100,000 parts": lambda: multipart(b"Content-Type: text/html; name=a.exe\r\n\r\n<a href=http://a.test>x</a>\r\n", 100_000),
    "100 MB of fields": lambda: many(b"X-Header: it has a value; and=more\r\n", 100 * MB),
    "a field of 20 MB": lambda: many(b"a <a@b.test>,\r\n ", 20 * MB, b"From: "),
    "fields of a part": lambda: many(b"X-Header: it has a value\r\n folded\r\n", 20 * MB, PART),
    "text like fields": lambda: many(b"X-Header: http://a.test/ it has a value\r\n", 100 * MB, b"\r\n"),
    "base64": lambda: many(b"QUFB" * 18 + b"\r\n", 20 * MB, PDF + b"base64\r\n\r\nJVBERi0x"),
    "quoted-printable": lambda: many(b"=41", 20 * MB, PDF + b"quoted-printable\r\n\r\n%PDF-"),
}


def memory(key: str) -> int:
    """MB: `VmRSS`, or `VmHWM` for the highest so far."""
    found = re.search(rf"^{key}:\s+(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


def read_everything(message: Message) -> None:
    """Each fact that rules have."""
    transaction = a_transaction()
    subject = Subject(transaction, message, recipient=transaction.recipients[0])
    values = {row.path: row.read(subject) for row in FACTS}
    for row in ELEMENTS:
        for element in values[row.path.partition(".")[0]]:
            row.read(element)


def run(name: str, folder: Path) -> None:
    """One bomb, from a spool file."""
    with (folder / "spool").open("wb") as file:
        file.writelines(BOMBS[name]())
    content = Content.from_file((folder / "spool").open("rb"))
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
    before = memory("VmRSS")
    message = Message(content)
    resource.setrlimit(resource.RLIMIT_DATA, (memory("VmData") * MB + OWN * MB, resource.RLIM_INFINITY))
    read_everything(message)
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    # Pages of the spool file are counted where they are mapped, though the kernel takes them back when it likes.
    sys.stdout.write(f"{memory('VmHWM') - before} {','.join(message.limits_hit) or '-'} {name}\n")
    content.close()


def too_much() -> None:
    """What has to fail where `OWN` is enforced."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory("VmData") * MB + OWN * MB, resource.RLIM_INFINITY))
    try:
        b"x" * (2 * OWN * MB)
    except MemoryError:
        sys.stdout.write("0 - the limit is kept\n")
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as where:
        for bomb in BOMBS:
            run(bomb, Path(where))
        too_much()
