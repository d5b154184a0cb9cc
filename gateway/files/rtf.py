"""RTF: objects embedded in hexadecimal, which is how exploits of Office arrive, and templates fetched from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.files.found import Budget, Found, MalformedError, Member, Octets, Sign, Trouble
from gateway.files.packages import embedded

_DATA = re.compile(rb"\\objdata\b")
_WORD = re.compile(rb"\\(?:'[0-9A-Fa-f]{2}|[A-Za-z]{1,32}-?[0-9]{0,10} ?|\*|[^A-Za-z])|\{[^{}]{0,100}\}|[^0-9A-Fa-f]")
_TEMPLATE = re.compile(rb"\{?\\\*\s{0,20}\\template\s{0,20}([^{}]{1,2000})")
_MOST_OBJECTS = 200
_UPDATED = re.compile(rb"\\objupdate\b")
_DDE = re.compile(rb"\bDDE(?:AUTO)?\b")
_FIELD = re.compile(rb"\\fldinst\b([^}]{0,2000})")


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Each object; what stands between the digits is passed over, as Word does."""
    plain = bytes(octets)
    template = _TEMPLATE.search(plain)
    if template is not None and (b"//" in template[1] or b"\\\\" in template[1]):
        yield Sign(word="external-template", target=template[1].decode("latin-1").strip())
    if _UPDATED.search(plain):
        yield Sign(word="object-update")
    if any(_DDE.search(found[1]) for found in _FIELD.finditer(plain)):
        yield Sign(word="dde")
    starts = [found.end() for found in _DATA.finditer(plain)]
    for number, start in enumerate(starts):
        budget.look()
        if number >= _MOST_OBJECTS:
            yield Trouble("files-count", f"rtf: more than {_MOST_OBJECTS} objects")
            return
        yield Sign(word="embedded-object")
        end = starts[number + 1] if number + 1 < len(starts) else len(plain)
        digits = _WORD.sub(b"", _group(plain[start:end]))
        raw = bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
        try:
            kind, member = embedded(raw)
        except MalformedError as error:
            yield Trouble("files-malformed", f"rtf: {error}")
            member, kind = Member(content=raw), ""
        if kind.lower().startswith("equation."):
            yield Sign(word="equation")
        content = None if member.content is None else budget.take(member.content)
        yield Member(names=member.names or (kind or "object",), content=content, signs=member.signs)


def _group(octets: bytes) -> bytes:
    """Up to the brace that closes the group."""
    depth = 0
    for found in re.finditer(rb"[{}]", octets):
        depth += 1 if found[0] == b"{" else -1
        if depth < 0:
            return octets[: found.start()]
    return octets
