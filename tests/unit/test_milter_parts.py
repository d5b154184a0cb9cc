"""What an MTA tells as values, and what it is told as packets: the parts of the milter server that do no I/O."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.config.checks import mistakes, warnings
from gateway.config.models import Config, LimitsConfig
from gateway.content import Content
from gateway.edits import replace_part
from gateway.message import Message
from gateway.milter import codec
from gateway.milter.codec import Actions, Agreement, Steps
from gateway.milter.content import MilterIntake, Place
from gateway.milter.facts import WANTED, Macros, fill_in, helo_name, parameters_of, path_of, tls_of
from gateway.milter.saying import MAX_LINES, CannotBeSaidError, edits, reply
from gateway.session import Session
from gateway.smtp.replies import Reply
from gateway.splice import Cut, Spliced, apply

EVERYTHING = Agreement(6, Actions(0xFF), Steps.HDR_LEADSPC)
OCTETS = b"A: 1\r\nB: 2\r\na: 3\r\n\r\nbody\r\n"
PLACES = [Place(b"A", 0, 6), Place(b"B", 6, 12), Place(b"a", 12, 18)]
BODY = 20


def macros(**values: str) -> Macros:
    made = Macros()
    made.take(codec.Macros(b"C", tuple((f"{{{name}}}".encode(), value.encode()) for name, value in values.items())))
    return made


def said(*cuts: Cut, agreed: Agreement = EVERYTHING) -> list[codec.Edit]:
    return edits(Spliced(Content(OCTETS), cuts), PLACES, BODY, agreed)


def test_nothing_changed_is_nothing_said() -> None:
    assert said() == []
    assert said(agreed=Agreement(6)) == []


def test_fields_by_their_number() -> None:
    assert said(Cut(0, 6, b""), Cut(12, 18, b"a:\tx\r\n y\r\n")) == [
        codec.ChangeHeader(2, b"a", b"\tx\n y"),
        codec.ChangeHeader(1, b"A", b""),
    ]
    assert said(Cut(0, 0, b"X: 1\r\nY: 2\r\n")) == [codec.InsertHeader(0, b"Y", b" 2"), codec.InsertHeader(0, b"X", b" 1")]


def test_fields_in_between() -> None:
    assert said(Cut(6, 6, b"X: 1\r\n"), Cut(6, 12, b""), Cut(18, 18, b"Y: 2\r\n")) == [
        codec.InsertHeader(3, b"Y", b" 2"),
        codec.ChangeHeader(1, b"B", b""),
        codec.InsertHeader(1, b"X", b" 1"),
    ]


def test_a_part_is_said_as_a_new_body() -> None:
    content = Content(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n")
    message = Message(content)
    spliced = apply(content, [replace_part(message.parts[0], b"1")])
    places = [Place(b"Content-Type", 0, message.header.end)]
    assert edits(spliced, places, message.body_offset, EVERYTHING) == [codec.ReplaceBody(b"--b\r\n\r\n1\r\n--b--\r\n")]


def test_a_body_where_there_was_none() -> None:
    empty = Content(OCTETS[:BODY])
    assert edits(Spliced(empty, [Cut(BODY, BODY, b"new\r\n")]), PLACES, BODY, EVERYTHING) == [codec.ReplaceBody(b"new\r\n")]


def test_a_new_body_is_said_whole_and_in_a_row() -> None:
    cuts = (Cut(0, 0, b"X: 1\r\n"), Cut(BODY, BODY + 4, b"b" * 70000))
    found = said(*cuts)
    assert found[0] == codec.InsertHeader(0, b"X", b" 1")
    parts = [one.chunk for one in found[1:] if isinstance(one, codec.ReplaceBody)]
    assert len(parts) == len(found) - 1
    assert max(map(len, parts)) <= 65535
    assert b"".join(parts) == b"b" * 70000 + b"\r\n"


@pytest.mark.parametrize(
    ("cut", "missing", "why"),
    [
        (Cut(0, 0, b"X: 1\r\n"), Actions.ADDHDRS, "ADDHDRS"),
        (Cut(0, 6, b""), Actions.CHGHDRS, "CHGHDRS"),
        (Cut(BODY, BODY + 1, b""), Actions.CHGBODY, "CHGBODY"),
        (Cut(1, 6, b""), Actions(0), "one whole field"),
        (Cut(0, 0, b"no field\r\n"), Actions(0), "that are none"),
    ],
)
def test_what_cannot_be_said(cut: Cut, missing: Actions, why: str) -> None:
    with pytest.raises(CannotBeSaidError, match=why):
        said(cut, agreed=Agreement(6, Actions(0xFF) ^ missing, Steps.HDR_LEADSPC))


def test_replies() -> None:
    assert reply(Reply(550, (b"5.7.1 100% no\twords", b"5.7.1 two"))).text == b"550-5.7.1 100%% no words\r\n550 5.7.1 two"
    long = reply(Reply(550, tuple(b"5.7.1 %d" % number for number in range(100))))
    assert len(long.lines()) == MAX_LINES
    assert long.lines()[-1] == b"550 5.7.1 99"


@pytest.mark.parametrize(
    ("connect", "told", "facts"),
    [
        (codec.Connect(b"a.test.", codec.INET, 25, b"192.0.2.1"), {}, ("192.0.2.1", 25, "a.test", "", False)),
        (
            codec.Connect(b"unknown", codec.INET, 25, b"192.0.2.1"),
            {"client_ptr": "p.test."},
            ("192.0.2.1", 25, "", "p.test", False),
        ),
        (codec.Connect(b"a.test", codec.INET, 25, b"192.0.2.1"), {"client_resolve": "FORGED"}, ("192.0.2.1", 25, "", "", False)),
        (
            codec.Connect(b"[192.0.2.1]", codec.INET, 25, b"192.0.2.1"),
            {"client_ptr": "[192.0.2.1]"},
            ("192.0.2.1", 25, "", "", False),
        ),
        (codec.Connect(b"a.test", codec.INET, 25, b"nonsense"), {}, ("", 0, "", "", False)),
        (codec.Connect(b"localhost", codec.UNIX, 0, b"/run/x"), {}, ("", 0, "", "", True)),
        (codec.Connect(b"unknown"), {"client_ptr": "unknown"}, ("", 0, "", "", False)),
    ],
)
def test_clients(connect: codec.Connect, told: dict[str, str], facts: tuple[object, ...]) -> None:
    session = Session(id="x")
    fill_in(session, connect, macros(**told))
    assert facts == (
        session.client_address,
        session.client_port,
        session.client_name,
        session.client_reverse_name,
        session.is_local,
    )


def test_the_server_s_own_end() -> None:
    session, connect = Session(id="x"), codec.Connect(b"unknown")
    fill_in(session, connect, macros(daemon_addr="0.0.0.0", if_addr="192.0.2.9", daemon_port="587"))
    assert (session.server_address, session.server_port) == ("192.0.2.9", 587)
    fill_in(session, connect, macros(daemon_addr="192.0.2.8", daemon_port="MSA"))
    assert (session.server_address, session.server_port) == ("192.0.2.8", 0)


def test_certificates_count_when_they_were_verified() -> None:
    tls = {"tls_version": "TLSv1.3", "cipher": "X", "cipher_bits": "256", "cert_subject": "c.test", "cert_issuer": "ca.test"}
    for more, subject in (
        ({}, ""),
        ({"verify": "OK"}, "c.test"),
        ({"verify": "FAIL"}, ""),
        ({"v": "Postfix 3.9.0"}, "c.test"),
        ({"v": "8.18.1"}, ""),
    ):
        found = tls_of(macros(**tls, **more))
        assert found is not None
        assert found.peer_subject == subject
        assert found.bits == 256
    assert tls_of(macros()) is None
    assert tls_of(macros(tls_version="x", cipher_bits="many")).bits == 0  # type: ignore[union-attr] # there is TLS


def test_macros_the_latest_counts() -> None:
    made = macros(j="mx.test\x1b[2J")
    assert made.mta == "mx.test?[2J"
    made.take(codec.Macros(b"M", ((b"i", b"one"),)))
    made.take(codec.Macros(b"R", ((b"i", b"two"),)))
    made.take(codec.Macros(b"?", ((b"i", b"three"),)))
    assert made["i"] == "two"
    assert made.of(b"M", "i") == "one"
    made.forget_transaction()
    assert made["i"] == ""
    assert made["j"].startswith("mx.test")
    made.take(codec.Macros(b"M", ((b"i", b"\xff" * 5000),)))
    assert len(made["i"]) == 1024
    codec.take(codec.offer(Actions(0x1FF), Steps(0)), Actions(0), Steps(0), WANTED).payload()


@pytest.mark.parametrize(
    ("octets", "path"),
    [
        (b"<a@b.test>", ("<a@b.test>", "a", "b.test")),
        (b"a@b.test", ("<a@b.test>", "a", "b.test")),
        (b"<>", ("<>", "", "")),
        (b'<"a b"@b.test>', ('<"a b"@b.test>', '"a b"', "b.test")),
        (b"<a b@c@d.test>", ("<a b@c@d.test>", "a b@c", "d.test")),
        (b"<alice>", ("<alice>", "alice", "")),
        (b"<\xff@b.test>", ("<\ufffd@b.test>", "\ufffd", "b.test")),
        (b"", ("<>", "", "")),
    ],
)
def test_paths_that_an_mta_let_pass(octets: bytes, path: tuple[str, str, str]) -> None:
    found = path_of(octets, is_reverse=True)
    assert (str(found), found.local_part, found.domain) == path
    path_of(octets, is_reverse=False)


def test_names_and_parameters() -> None:
    assert helo_name(b"a.test") == "a.test"
    assert helo_name(b"two words\x00") == "two words?"
    assert [one.keyword for one in parameters_of((b"SIZE=1", b"", b"x"))] == ["SIZE", "X"]
    assert len(parameters_of((b"X",) * 1000)) == 20


def intake(tmp_path: Path, **more: Any) -> MilterIntake:
    return MilterIntake(LimitsConfig(), directory=tmp_path, **{"lenient": False, "with_space": True, **more})


def test_content(tmp_path: Path) -> None:
    made = intake(tmp_path)
    made.field(b"Subject", b" a\n b")
    made.field(b"To", b"x\r\n y")
    made.end_of_header()
    made.end_of_header()
    for piece in (b"1\r", b"\n2\r\n", b""):
        made.take(piece)
    made.finish()
    assert made.fault is None
    assert bytes(made.content().octets) == b"Subject: a\r\n b\r\nTo:x\r\n y\r\n\r\n1\r\n2\r\n"
    assert made.places == [Place(b"Subject", 0, 16), Place(b"To", 16, 26)]
    assert made.body_offset == 28


@pytest.mark.parametrize("body", [b"a\rb\r\n", b"a\nb\r\n", b"a\r"])
def test_bare_line_ends(tmp_path: Path, body: bytes) -> None:
    strict, lenient = intake(tmp_path), intake(tmp_path, lenient=True, with_space=False)
    for made in (strict, lenient):
        made.field(b"A", b"1")
        made.take(body)
        made.finish()
    assert strict.fault is not None
    assert strict.fault.code == 550
    assert bytes(lenient.content().octets).startswith(b"A: 1\r\n" + body), "as the MTA has it"


def test_what_the_configuration_says_of_it() -> None:
    listener = {"protocol": "milter", "tls": {"certificate": "c", "key": "k"}, "auth_route": "x", "bind": "127.0.0.1:1"}
    found = [str(one.key[-1]) for one in mistakes({"listener": [listener]}, directory=Path(), needs_route=False)]
    assert found.count("tls") == 1
    assert "auth_route" in found
    wrong = mistakes({"listener": [{"mta_quarantine": True}]}, directory=Path(), needs_route=False)
    assert "mta_quarantine" in {one.key[-1] for one in wrong}
    config = {"server": {"name": "mx.example.org"}, "listener": [{"protocol": "milter", "bind": "192.0.2.1:8891"}]}
    assert any("no MTA may connect" in text for text in warnings(Config.model_validate(config)))
