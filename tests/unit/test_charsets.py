"""Text by charset: declared rightly, wrongly, not at all; and format=flowed."""

import pytest

from gateway import Message
from gateway.charsets import read_text
from gateway.content import Content
from gateway.flowed import unflow
from gateway.words import codec_of

GRUSS, NIHON = "Grüße – ok", "日本語 text"
CASES = [
    (GRUSS.encode(), "utf-8", GRUSS),
    (GRUSS.encode(), "", GRUSS),
    (GRUSS.encode(), "us-ascii", GRUSS),  # declared wrongly
    (GRUSS.encode(), "iso-8859-1", GRUSS),
    (GRUSS.encode(), "no-such-charset", GRUSS),
    (GRUSS.encode("cp1252"), "iso-8859-1", GRUSS),
    (GRUSS.encode("cp1252"), "utf-8", GRUSS),
    (GRUSS.encode("cp1252"), "", GRUSS),
    (b"\xef\xbb\xbf" + GRUSS.encode(), "koi8-r", GRUSS),  # a mark counts more
    (GRUSS.encode()[:-1] + b"\xff\xc3", "utf-8", GRUSS[:-1] + "\ufffd\ufffd"),
    (b"\xff\xfe" + GRUSS.encode("utf-16-le"), "utf-8", GRUSS),
    (GRUSS.encode("utf-16"), "utf-16", GRUSS),
    (b"\xfe\xff" + GRUSS.encode("utf-16-be"), "", GRUSS),
    (GRUSS.encode("utf-16-le"), "utf-16", GRUSS),  # no mark
    (GRUSS.encode("utf-16-be"), "utf-16", GRUSS),
    (GRUSS.encode("utf-16-le"), "", GRUSS),
    (GRUSS.encode("utf-16-be"), "utf-8", GRUSS),
    (GRUSS.encode("utf-32-le"), "", GRUSS),
    (GRUSS.encode("utf-32-be"), "", GRUSS),
    (b"\xff\xfe\0\0" + GRUSS.encode("utf-32-le"), "", GRUSS),
    (NIHON.encode("utf-16-le"), "utf-16le", NIHON),
    (b"plain ASCII, said to be wide", "utf-16", "plain ASCII, said to be wide"),
    (b"plain ASCII, said to be wide", "utf-32le", "plain ASCII, said to be wide"),
    (NIHON.encode("iso2022_jp"), "iso-2022-jp", NIHON),
    (NIHON.encode("iso2022_jp"), "", NIHON),
    (NIHON.encode("iso2022_jp"), "us-ascii", NIHON),
    ("한글 x".encode("iso2022_kr"), "", "한글 x"),
    (NIHON.encode("cp932"), "shift_jis", NIHON),
    ("①".encode("cp932"), "shift_jis", "①"),
    ("한글".encode("cp949"), "ks_c_5601-1987", "한글"),
    ("漢字€".encode("gb18030"), "gb2312", "漢字€"),
    ("Привет".encode("koi8-r"), "koi8-r", "Привет"),
    ("Привет".encode("cp1251"), "x-cp1251", "Привет"),
    (b"caf\x92", "windows-874", "caf’"),
    (b"+AOk-", "utf-7", "é"),  # read where it is declared
    (b"+AOk-", "", "+AOk-"),  # and guessed nowhere
    (b"+2AA-", "utf-7", "?"),
    (b"\xff\x00", "undefined", "ÿ\0"),
    (b"", "", ""),
    (b"\0", "", "\0"),
]


@pytest.mark.parametrize(("octets", "declared", "text"), CASES)
def test_text(octets: bytes, declared: str, text: str) -> None:
    assert read_text(octets, declared) == text


META = [
    (b"<meta charset=koi8-r>" + "Привет".encode("koi8-r"), "<meta charset=koi8-r>Привет"),
    (b'<META http-equiv=x content="text/html; charset=cp1251">' + "Привет".encode("cp1251"), "Привет"),
    (b"<meta charset=utf-16>abc", "<meta charset=utf-16>abc"),  # whoever can read this reads no UTF-16
    (b"<meta charset=utf-7>+AOk-", "<meta charset=utf-7>+AOk-"),
    (b"<meta charset=nothing>\xe9", "<meta charset=nothing>é"),
]


@pytest.mark.parametrize(("octets", "end"), META)
def test_html_declares_its_own(octets: bytes, end: str) -> None:
    assert read_text(octets, "", is_html=True).endswith(end)


def test_the_header_counts_more_than_the_document() -> None:
    octets = b"<meta charset=koi8-r>" + "Привет".encode("cp1251")
    assert read_text(octets, "cp1251", is_html=True).endswith("Привет")
    assert not read_text(octets, "", is_html=False).endswith("Привет")


@pytest.mark.parametrize(
    ("name", "codec"), [("x-sjis", "shift_jis"), ("csISO2022JP", "iso2022_jp"), ("a" * 500, ""), ("", ""), ("-", "")]
)
def test_names_of_charsets(name: str, codec: str) -> None:
    assert codec_of(name) == codec


FLOWED = [
    ("a \nb\nc", "a b\nc"),
    ("a \r\nb\r\nc\r\n", "a b\nc\n"),
    ("a \n\nb", "a \nb"),
    ("> a \n> b\n> c", "> a b\n> c"),
    ("> a \nb", "> a \nb"),
    (">> a \n> b", ">> a \n> b"),
    (" stuffed \n >not quoted", "stuffed >not quoted"),
    ("-- \nsignature", "-- \nsignature"),
    ("", ""),
    ("x", "x"),
]


@pytest.mark.parametrize(("text", "expected"), FLOWED)
def test_flowed(text: str, expected: str) -> None:
    assert unflow(text) == expected


def test_flowed_text_of_a_message() -> None:
    def text(parameters: str, body: bytes) -> Message:
        return Message(Content(f"Content-Type: text/plain; {parameters}\r\n\r\n".encode() + body))

    broken = b"http://a.test/one/ \r\ntwo and \r\nthree"
    assert text("format=flowed; delsp=yes", broken).urls == ("http://a.test/one/two",)
    assert text("format=Flowed", broken).text == "http://a.test/one/ two and three"
    assert text("format=fixed", broken).text == broken.decode()
    assert text("charset=UTF-7; x=y", b"a").charsets == ("utf-7",)
    assert Message(Content(b"\r\nx")).charsets == ()
