"""What a scripted next hop is told by options and files, and zone files as DNS."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import DnsError
from gateway.dns.zone_file import ZoneFileError, read_zone
from gateway.dns.zones import Zones
from gateway.testing.next_hop import LONGEST_DELAY, Answer
from gateway.testing.script import Script, ScriptError, parse_answer, parse_option, read_script
from gateway.testing.zone import ZoneResolver


@pytest.mark.parametrize(
    ("text", "when", "answer"),
    [
        ("550", "RCPT", Answer("550 5.1.1 No such user")),
        ("550 5.1.1 Who?", "RCPT", Answer("550 5.1.1 Who?")),
        ("451 after 2s", "content", Answer("451 4.3.0 Try again later", delay=2.0)),
        ("250 come after 250ms", "MAIL", Answer("250 come", delay=0.25)),
        ("drop", "DATA", Answer(drop=True)),
        ("drop after 1s", "DATA", Answer(drop=True, delay=1.0)),
        ("hang", "DATA", Answer(delay=LONGEST_DELAY)),
        ("421", "MAIL", Answer("421 4.3.2 Try again later", drop=True)),
        ("354", "DATA", Answer("354 3.0.0 Ok")),
    ],
)
def test_an_answer(text: str, when: str, answer: Answer) -> None:
    assert parse_answer(text, when) == answer


@pytest.mark.parametrize(
    "text", ["", "no", "650", "55", "drop it", "250 after", "250 x after soon", "250 a\nb", "550 " + "x" * 401, "250 after 2h"]
)
def test_no_answer(text: str) -> None:
    if text == "250 after":
        assert parse_answer(text, "MAIL").reply == "250 after"  # a word like any other
        return
    with pytest.raises(ScriptError):
        parse_answer(text, "MAIL")


@pytest.mark.parametrize(
    ("text", "verb", "when", "count"),
    [
        ("bob@x.example=550", "RCPT", "RCPT TO:<bob@x.example>", 1),
        ("*=451 then 250", "RCPT", "RCPT", 2),
        ("SRS0=a=b@x.example=550 5.1.1 a=b", "RCPT", "RCPT TO:<SRS0=a=b@x.example>", 1),
        ("451 then drop after 1s then 250", "CONTENT", "CONTENT", 3),
        ("bob@x.example=452", "CONTENT", "CONTENT <bob@x.example>", 1),
        ("MAIL FROM:<>=550", "", "MAIL FROM:<>", 1),
        ("greeting=554", "", "greeting", 1),
    ],
)
def test_an_option(text: str, verb: str, when: str, count: int) -> None:
    line = parse_option(text, verb)
    assert (line.when, len(line.answers)) == (when, count)


@pytest.mark.parametrize(("text", "verb"), [("bob", "RCPT"), ("=", ""), ("x=550", ""), ("550", ""), ("bob@x=999", "RCPT")])
def test_no_option(text: str, verb: str) -> None:
    with pytest.raises(ScriptError):
        parse_option(text, verb)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hop.toml"
    file.write_text('keywords = []\n[[answer]]\nwhen = "RCPT"\nreply = ["450", "250"]\n')
    script = read_script(file)
    assert script.keywords == ()
    both = script + Script((parse_option("550", "MAIL"),))
    assert [line.when for line in both.lines] == ["RCPT", "MAIL"]
    assert both.keywords == ()


@pytest.mark.parametrize(
    "text",
    ["answer = 1", "keywords = 1", "[[answer]]", "x = 1", "[[answer]]\nwhen = 1\nreply = '1'", "[[answer]]\nwhen = 'RCPT'\nreply = []", "=", "\xff",
     "[[answer]]\nwhen = 'RCPT'\nreply = '1'", "a=" + "[" * 100_000],
)  # fmt: skip
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "hop.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ScriptError, match=r"hop\.toml"):
        read_script(file)
    with pytest.raises(ScriptError, match="No such file"):
        read_script(tmp_path / "none")


ZONE = """$TTL 300
@ SOA ns hostmaster 1 2 3 4 5
@ TXT "one" "two"
@ MX 10 mx
@ MX 0 .
mx A 192.0.2.1
mx AAAA 2001:db8::1
www CNAME mx
a CNAME b
b CNAME a
*.w TXT "wild"
@ CAA 0 issue "ca.example"
"""


async def test_a_zone_file(tmp_path: Path) -> None:
    file = tmp_path / "zone"
    file.write_text(ZONE)
    with pytest.raises(ZoneFileError, match=r"no \$ORIGIN"):
        read_zone(file)
    found, passed_over = read_zone(file, "example.test")
    assert passed_over == ["example.test CAA"]
    resolver = ZoneResolver(Zones(found))
    assert (await resolver.query("Example.test.", "txt")).records == ((b"one", b"two"),)
    assert sorted((await resolver.query("example.test", "MX")).records) == [(0, "."), (10, "mx.example.test")]
    alias = await resolver.query("www.example.test", "A")
    assert (alias.records, alias.canonical) == (("192.0.2.1",), "mx.example.test")
    assert (await resolver.query("x.w.example.test", "TXT")).records == ((b"wild",),)
    assert not (await resolver.query("no.example.test", "A")).exists
    assert not (await resolver.query("elsewhere.example", "A")).exists
    assert not (await resolver.query("a..b", "A")).exists
    with pytest.raises(DnsError):
        await resolver.query("a.example.test", "A")


@pytest.mark.parametrize("text", ["@ A 1.2.3\n", "$INCLUDE /etc/passwd\n", "@ SOA\n", "\xff"])
def test_a_file_that_is_no_zone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "zone"
    file.write_bytes(b"$ORIGIN x.test.\n$TTL 1\n" + text.encode("latin-1"))
    with pytest.raises(ZoneFileError, match=r"/zone: ."):
        read_zone(file)
    with pytest.raises(ZoneFileError, match="No such file"):
        read_zone(tmp_path / "none")
