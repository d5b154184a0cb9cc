"""File names of parts as mail clients read them, each in its own way: RFC 2183 2.3, RFC 2231, RFC 2047, and what is neither.

The likeliest reading first; then what some client makes of parameters that are misnumbered, doubled, cut off, or encoded twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from gateway.words import decode_charset, decode_words, parameter_values

MAX_NAMES = 20
MAX_NAME = 1_000
_SECTION = re.compile(r"([^*]++)(?:\*(\d{1,4}))?(\*)?")
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_CUT = re.compile(r"%[0-9A-Fa-f]?\Z")
_OPEN_WORD = re.compile(r"=\?[^?\s]{1,60}\?[bBqQ]\?[^?]*\Z")
_CHARSET_FIRST = re.compile(r"([A-Za-z0-9_-]{1,40})'[A-Za-z0-9-]{0,40}'")
_BIDI = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
_SPACES = re.compile(r"[\s_\u00a0\u3000\u2800]{5,}\S*\Z")
_STREAM = re.compile(r":[^:/\\]*(?::\$?[A-Za-z_]*)?\Z")
_ENDING = re.compile(r"\.([^.\s/\\]{1,20})\Z")
_DOUBLE = re.compile(r"\.[a-z][a-z0-9]{1,4}[\s_.\u00a0\u3000\u2800\ufffd]*\.[a-z0-9]{1,20}\Z")

PROGRAMS = frozenset(
    [
        "ade",
        "adp",
        "app",
        "appinstaller",
        "application",
        "appref-ms",
        "appx",
        "appxbundle",
        "arj",
        "bat",
        "bin",
        "chm",
        "cmd",
        "cnt",
        "com",
        "cpl",
        "crt",
        "dll",
        "dmg",
        "exe",
        "gadget",
        "hlp",
        "hpj",
        "hta",
        "img",
        "inf",
        "ins",
        "iqy",
        "iso",
        "isp",
        "jar",
        "jnlp",
        "js",
        "jse",
        "ksh",
        "lib",
        "lnk",
        "mad",
        "maf",
        "mag",
        "mam",
        "maq",
        "mar",
        "mas",
        "mat",
        "mau",
        "mav",
        "maw",
        "mcf",
        "mda",
        "mdb",
        "mde",
        "mdt",
        "mdw",
        "mdz",
        "msc",
        "msh",
        "msh1",
        "msh2",
        "msi",
        "msix",
        "msixbundle",
        "msp",
        "mst",
        "ocx",
        "one",
        "ops",
        "osd",
        "pcd",
        "pif",
        "pkg",
        "pl",
        "plg",
        "prf",
        "prg",
        "ps1",
        "ps1xml",
        "ps2",
        "ps2xml",
        "psc1",
        "psc2",
        "py",
        "pyc",
        "pyo",
        "pyw",
        "pyz",
        "pyzw",
        "reg",
        "scf",
        "scr",
        "sct",
        "settingcontent-ms",
        "shb",
        "shs",
        "slk",
        "sys",
        "tmp",
        "url",
        "vb",
        "vbe",
        "vbp",
        "vbs",
        "vhd",
        "vhdx",
        "vsmacros",
        "vsw",
        "vxd",
        "ws",
        "wsc",
        "wsf",
        "wsh",
        "xbap",
        "xll",
        "xnk",
    ]
)
"""Endings that a click runs, mounts or installs."""


def every_name(disposition: list[tuple[str, str]], kind: list[tuple[str, str]]) -> tuple[str, ...]:
    """All readings of `filename` and `name`, as they are written: invisible characters too."""
    if not disposition and not kind:
        return ()
    likely = parameter_values(disposition, "filename") + parameter_values(kind, "name")
    if not likely and not any("name" in key for key, _ in (*disposition, *kind)):
        return ()
    names = dict.fromkeys(name[:MAX_NAME] for name in likely)
    for parameters, key in ((disposition, "filename"), (kind, "name")):
        for name in _unlikely(parameters, key):
            if len(names) >= MAX_NAMES:
                break
            if name:
                names.setdefault(name[:MAX_NAME])
    return tuple(names)[:MAX_NAMES]


def _unlikely(parameters: list[tuple[str, str]], name: str) -> Iterator[str]:
    """What lenient clients make of one parameter, beside the readings of the RFCs."""
    plain: list[str] = []
    sections: list[tuple[int, str]] = []
    for key, value in parameters:
        found = _SECTION.fullmatch(key)
        if found is None or found[1] != name:
            continue
        if found[2] is None and found[3] is None:
            plain.append(value)
        else:
            sections.append((int(found[2] or 0), value))
    for value in plain:
        yield from _readings(value)
    if len(sections) > 1 and sorted(number for number, _ in sections) != list(range(len(sections))):
        # Misnumbered (RFC 2231 3): joined as they stand, by number over gaps, and with the last of doubled ones.
        for order in (sections, sorted(dict(reversed(sections)).items()), sorted(dict(sections).items())):
            yield _joined(order)
    elif any(_CUT.search(value) for _, value in sections):  # an octet over two sections
        yield _joined(sorted(sections))


def _readings(value: str) -> Iterator[str]:
    """Of a plain value: with percent signs decoded, a charset in front, or an encoded word without its end."""
    if _PERCENT.search(value):
        charset = _CHARSET_FIRST.match(value)
        rest = value if charset is None else value[charset.end() :]
        yield decode_words(decode_charset(unquote_to_bytes(rest), charset[1] if charset else "utf-8"))
    elif (charset := _CHARSET_FIRST.match(value)) is not None:
        yield value[charset.end() :]
    if (word := _OPEN_WORD.search(value)) is not None:
        yield decode_words(value + ("=" if value.endswith("?") else "?="))
        yield value[: word.start()]


def _joined(sections: list[tuple[int, str]]) -> str:
    text = "".join(value for _, value in sections)
    charset = _CHARSET_FIRST.match(text)
    if charset is not None:
        text = text[charset.end() :]
    if _PERCENT.search(text):
        text = decode_charset(unquote_to_bytes(text), charset[1] if charset else "utf-8")
    return decode_words(text)


def shown(name: str) -> str:
    """A name on one line, without what a terminal or page would obey."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name[:MAX_NAME])


def extension(name: str) -> str:
    """The ending that a system goes by, in lower case with its dot: of `a.EXE. .` and of `a.exe::$DATA` it is `.exe`; or ``."""
    bare = name.rstrip(" .\u00a0\u3000\ufffd")
    if ":" in bare:
        bare = _STREAM.sub("", bare).rstrip(" .")
    found = _ENDING.search(bare)
    return f".{found[1].lower()}" if found else ""


def tricks(names: tuple[str, ...]) -> tuple[str, ...]:
    """What is done to hide what a name ends with, as words. `names` as `every_name` gives them."""
    found: dict[str, None] = {}
    for name in names:
        ending = extension(name)
        if _BIDI.search(name):
            found["direction"] = None
        if any(not c.isprintable() for c in _BIDI.sub("", name)):
            found["invisible"] = None
        if name.rstrip(" .\u00a0\u3000") != name:
            found["trailing"] = None
        if "::$" in name:
            found["stream"] = None
        if "/" in name or "\\" in name:
            found["path"] = None
        if ending[1:] in PROGRAMS:
            if _DOUBLE.search(name.rstrip(" .").lower()):
                found["double-extension"] = None
            if _SPACES.search(name.rstrip(" .")):
                found["spaces"] = None
    if len({extension(name) for name in names}) > 1:
        found["readings"] = None
    return tuple(found)
