"""Documents that are zip archives: Office Open XML (ECMA-376), OpenDocument. Macros, what they fetch from elsewhere, what is embedded.

The format's own XML is no file for anybody and is left out of the list; macros, pictures, embedded objects and all else are members.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from gateway.files import zipped
from gateway.files.found import Budget, Found, Member, Octets, Sign

_OWN = (".xml", ".rels", ".vml", ".rdf")
_RELATION = re.compile(rb"<(?:\w{1,20}:)?Relationship\s[^>]{0,8000}>")
_TARGET = re.compile(rb"Target\s*=\s*[\"']([^\"']{0,4000})")
_EXTERNAL = re.compile(rb"TargetMode\s*=\s*[\"']External")
_FETCHED = {
    b"attachedTemplate": "external-template", b"oleObject": "external-object", b"frame": "external-object",
    b"subDocument": "external-object", b"mhtml": "external-object",
}  # fmt: skip
_INSTRUCTION = re.compile(rb"<w:instrText[^>]{0,200}>([^<]{0,4000})<|<w:fldSimple[^>]{0,200}w:instr\s*=\s*[\"']([^\"']{0,4000})")
_DDE = re.compile(rb"\bDDE(?:AUTO)?\b")
_MOST_XML = 20_000_000
"""Octets of one XML part that are searched."""


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """As a zip archive, where it is no document."""
    if octets.find(b"[Content_Types].xml") >= 0:
        yield from _document(octets, budget, _ooxml, "application/vnd.openxmlformats-officedocument")
    elif octets.find(b"META-INF/manifest.xml") >= 0 and octets.find(b"opendocument", 0, 200) >= 0:
        yield from _document(octets, budget, _odf, "application/vnd.oasis.opendocument")
    else:
        yield from zipped.read(octets, budget)


def _document(octets: Octets, budget: Budget, tell: Callable[[Member], Iterator[Found]], kind: str) -> Iterator[Found]:
    yield Sign(type=kind)
    for one in zipped.read(octets, budget):
        if not isinstance(one, Member):
            yield one
            continue
        yield from tell(one)
        if not _is_own(one):
            yield one


def _is_own(member: Member) -> bool:
    """XML that is what it is called, and the name of the format."""
    if member.content is None or member.trouble is not None or member.signs:
        return False
    head = bytes(member.content[:200]).lstrip(b"\xef\xbb\xbf \t\r\n")
    name = member.names[0].lower() if member.names else ""
    return name == "mimetype" or (name.endswith(_OWN) and head.startswith(b"<"))


def _ooxml(member: Member) -> Iterator[Found]:
    """What one part tells about the document (ECMA-376 part 2)."""
    name = member.names[0].lower() if member.names else ""
    content = b"" if member.content is None else bytes(member.content[:_MOST_XML])
    if name.endswith("vbaproject.bin"):
        yield Sign(has_macros=True)
    elif "macrosheets/" in name or "dialogsheets/" in name:
        yield Sign(word="excel4-macros", has_macros=True)
    elif "/embeddings/" in name:
        yield Sign(word="embedded-object")
    elif "/activex/" in name:
        yield Sign(word="activex")
    elif name.endswith(".rels"):
        yield from _external(content)
    elif name == "[content_types].xml" and b"macroEnabled" in content:
        yield Sign(word="macro-enabled")
    elif "externallinks/" in name and b"ddeLink" in content:
        yield Sign(word="dde")
    elif name.startswith("word/") and b"DDE" in content:
        text = b"".join(found[1] or found[2] or b"" for found in _INSTRUCTION.finditer(content))
        if _DDE.search(text):
            yield Sign(word="dde")


def _external(content: bytes) -> Iterator[Found]:
    for found in _RELATION.finditer(content):
        if not _EXTERNAL.search(found[0]):
            continue
        target = _TARGET.search(found[0])
        for kind, word in _FETCHED.items():
            if b"relationships/" + kind in found[0]:
                yield Sign(word=word, target=target[1].decode("utf-8", "replace") if target else "")


def _odf(member: Member) -> Iterator[Found]:
    """OpenDocument 1.3 part 2."""
    name = member.names[0] if member.names else ""
    content = b"" if member.content is None else bytes(member.content[:_MOST_XML])
    if name.startswith("Scripts/") or (name.startswith("Basic/") and not name.endswith("-lc.xml")):
        yield Sign(has_macros=True)
    elif name == "META-INF/manifest.xml" and b"encryption-data" in content:
        yield Sign(is_encrypted=True)
    elif name.startswith("Object ") and "/" not in name:
        yield Sign(word="embedded-object")
    elif name == "content.xml" and (b"<office:dde-source" in content or b"table:dde-link" in content):
        yield Sign(word="dde")
