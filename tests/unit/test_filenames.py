"""File names as mail clients read them, and what is done to hide how they end."""

import pytest

from gateway import Message, Part
from gateway.content import Content
from gateway.filenames import MAX_NAMES, extension


def part(header: str) -> Part:
    octets = f"Content-Type: application/octet-stream\n{header}\n\nx".replace("\n", "\r\n").encode("utf-8", "surrogateescape")
    (found,) = Message(Content(octets)).parts
    return found


def name(parameters: str) -> tuple[str, ...]:
    return part(f"Content-Disposition: attachment; {parameters}").filenames


READINGS = [
    ("filename*0=a; filename*2=.exe", ("a", "a.exe")),  # a gap
    ("filename*1=a; filename*2=.exe", ("a.exe",)),  # begins with 1
    ("filename*0=a; filename*0=b; filename*1=.exe", ("a.exe", "ab.exe", "b.exe")),  # doubled
    ("filename*1=.exe; filename*1=.pdf; filename*0=a", ("a.exe", ".exe.pdfa", "a.pdf")),
    (
        "filename*0*=utf-8''a%2; filename*1*=Eexe",
        ("a%2Eexe", "a.exe"),
    ),  # an octet cut in two, though RFC 2231 4.1 decodes each section
    ("filename*=%C3%A9.exe", ("é.exe",)),  # no charset
    ("filename*=iso-8859-1''%E9.exe", ("é.exe",)),
    ("filename*=utf-8'%C3%A9.exe", ("utf-8'é.exe",)),  # one quote only
    ('filename="%C3%A9.exe"', ("%C3%A9.exe", "é.exe")),  # percent signs in a plain value
    ("filename=\"utf-8''%C3%A9.exe\"", ("utf-8''%C3%A9.exe", "é.exe")),  # what belongs into `filename*`
    ("filename=\"utf-8''a.exe\"", ("utf-8''a.exe", "a.exe")),
    ('filename="=?utf-8?B?YS5leGU=?="', ("a.exe",)),
    ('filename="=?utf-8?B?YS5leGU="', ("=?utf-8?B?YS5leGU=", "a.exe", "")),  # an encoded word cut off
    ('filename="=?utf-8?Q?a.txt?= =?utf-8?Q?.exe?="', ("a.txt.exe",)),
    ('filename*0="=?utf-8?B?YS5l"; filename*1="eGU=?="', ("a.exe",)),  # both at once
    ("filename*0*=utf-8''=?utf-8?B?YS5leGU=?=", ("a.exe",)),
    ("filename=é.exe", ("é.exe",)),
    ("filename=\udce9.exe", ("é.exe",)),  # raw, of another charset
]


@pytest.mark.parametrize(("parameters", "names"), READINGS)
def test_readings(parameters: str, names: tuple[str, ...]) -> None:
    assert name(parameters) == tuple(one for one in names if one)


def test_readings_are_bounded() -> None:
    many = ";".join(f'filename="%41{n}"' for n in range(100))
    assert len(name(many)) == MAX_NAMES
    assert len(name("filename=" + "a" * 2_000)[0]) == 1_000


EXTENSIONS = [
    ("a.exe", ".exe"),
    ("a.EXE. . .", ".exe"),
    ("a.pdf.exe", ".exe"),
    ("a.exe::$DATA", ".exe"),
    ("a.exe:x.txt", ".exe"),
    ("a.exe\u00a0", ".exe"),
    ("C:\\x\\a.exe", ".exe"),
    ("a", ""),
    ("", ""),
    (".", ""),
    ("dir.d/file", ""),
    ("a." + "x" * 50, ""),
    ("a.é", ".é"),
]


@pytest.mark.parametrize(("text", "expected"), EXTENSIONS)
def test_extensions(text: str, expected: str) -> None:
    assert extension(text) == expected


TRICKS = [
    ("invoice.pdf", ()),
    ("archive.tar.gz", ()),
    ("report.2026.pdf", ()),
    ("v1.2.exe", ()),
    ("invoice.pdf.exe", ("double-extension",)),
    ("invoice\u202efdp.exe", ("direction",)),
    ("invoice\u200b.exe", ("invisible",)),
    ("invoice.exe.", ("trailing",)),
    ("invoice.exe ", ("trailing",)),
    ("invoice.exe::$DATA", ("stream",)),
    ("..\\invoice.exe", ("path",)),
    ("invoice.pdf" + " " * 40 + ".exe", ("double-extension", "spaces")),
    ("invoice" + "_" * 40 + ".exe", ("spaces",)),
    ("invoice" + "_" * 40 + ".pdf", ()),
]


@pytest.mark.parametrize(("text", "words"), TRICKS)
def test_tricks(text: str, words: tuple[str, ...]) -> None:
    quoted = text.replace("\\", "\\\\")
    assert part(f'Content-Disposition: attachment; filename="{quoted}"').name_tricks == words


def test_names_that_end_differently() -> None:
    found = part("Content-Disposition: attachment; filename=a.txt; filename*=utf-8''a.exe")
    assert (found.extensions, found.name_tricks) == ((".exe", ".txt"), ("readings",))
    assert part("X: y").name_tricks == ()
    assert part("X: y").extensions == ()
