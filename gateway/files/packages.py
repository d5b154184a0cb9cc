"""OLE packages: a file, with its name, within an Office document ([MS-OLEDS] 2.2, and the packager's own stream)."""

from __future__ import annotations

from gateway.files.found import MalformedError, Member


def native(octets: bytes) -> Member:
    """The stream of the packager: a size, then label, path and content; or just octets behind the size. MalformedError."""
    if len(octets) < 4:
        raise MalformedError("ole: an empty package")
    return packaged(octets[4 : 4 + int.from_bytes(octets[:4], "little")])


def packaged(octets: bytes) -> Member:
    """What the packager writes; where it is not that, these octets."""
    if octets[:2] != b"\x02\x00":
        return Member(content=octets)
    label, _, rest = octets[2:1_026].partition(b"\0")
    at = 2 + len(label) + 1
    path, _, rest = octets[at : at + 1_024].partition(b"\0")
    at += len(path) + 1
    kind = octets[at : at + 4]
    at += 4
    names = tuple(dict.fromkeys(one.decode("cp1252", "replace").replace("\\", "/") for one in (label, path) if one))
    del rest
    if kind != b"\0\0\x03\0":  # a link: there is no content
        return Member(names=names, signs=("link",))
    at += 4 + int.from_bytes(octets[at : at + 4], "little")
    size = int.from_bytes(octets[at : at + 4], "little")
    return Member(names=names, content=octets[at + 4 : at + 4 + size], signs=("package",))


def embedded(octets: bytes) -> tuple[str, Member]:
    """[MS-OLEDS] 2.2.5, as RTF has it: the class name, and what it holds. MalformedError."""
    at = 8
    names = []
    for _ in range(3):
        size = int.from_bytes(octets[at : at + 4], "little")
        if size > 1_000 or at + 4 + size > len(octets):
            raise MalformedError("ole: no embedded object")
        names.append(octets[at + 4 : at + 4 + size].rstrip(b"\0").decode("latin-1"))
        at += 4 + size
    size = int.from_bytes(octets[at : at + 4], "little")
    content = octets[at + 4 : at + 4 + size]
    return names[0], packaged(content) if names[0].lower() == "package" else Member(content=content)
