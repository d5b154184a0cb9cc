"""Grammar of commands (RFC 5321 4.1.2, 4.1.3)."""

import pytest

from gateway.smtp.grammar import SyntaxFault, parse_command, parse_hello, parse_mail, parse_rcpt


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"EHLO client.example", ("EHLO", b"client.example")),
        (b"ehlo  client.example ", ("EHLO", b"client.example")),
        (b"QUIT", ("QUIT", b"")),
        (b"", ("", b"")),
        (b"\x00\x01", ("", b"")),
        (b"MAIL\tFROM:<a@b.c>", ("", b"")),
        (b"x" * 17, ("", b"")),
    ],
)
def test_a_command_line_has_a_verb_and_an_argument(line: bytes, expected: tuple[str, bytes]) -> None:
    assert parse_command(line) == expected


@pytest.mark.parametrize(
    ("argument", "mailbox", "octets"),
    [
        (b"TO:<a@example.org>", "a@example.org", b"<a@example.org>"),
        (b"to:<A.B+c@Example.ORG>", "A.B+c@Example.ORG", b"<A.B+c@Example.ORG>"),
        (b'TO:<"a b\\"c>"@example.org>', '"a b\\"c>"@example.org', b'<"a b\\"c>"@example.org>'),
        (b"TO:<a@[192.0.2.1]>", "a@[192.0.2.1]", b"<a@[192.0.2.1]>"),
        (b"TO:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", b"<a@[IPv6:2001:db8::1]>"),
        (b"TO:<@one.example,@two.example:a@example.org>", "a@example.org", b"<@one.example,@two.example:a@example.org>"),
        (b"TO:<PostMaster>", "PostMaster", b"<PostMaster>"),
        (b"TO:<a_b@under_score.example>", "a_b@under_score.example", b"<a_b@under_score.example>"),
    ],
)
def test_a_path_keeps_its_octets(argument: bytes, mailbox: str, octets: bytes) -> None:
    path = parse_rcpt(argument, utf8=False).path
    assert (path.mailbox, path.octets) == (mailbox, octets)


@pytest.mark.parametrize(
    "argument",
    [
        b"TO:a@example.org",
        b"TO:<a@example.org",
        b"TO:<a b@example.org>",
        b"TO:<a@exa mple.org>",
        b"TO:<@example.org>",
        b"TO:<a@>",
        b"TO:<a..b@example.org>",
        b"TO:<.a@example.org>",
        b"TO:<a@example..org>",
        b"TO:<a@-example.org>",
        b"TO:<a>",
        b"TO:<>",
        b"TO:<a@b>c",
        b"TO: <a@example.org>",
        b"TO:<a\x00@example.org>",
        b"TO:<a@example.org\r>",
        b'TO:<"a\rb"@example.org>',
        b"TO:<" + b"a" * 499 + b"@example.org>",
        b"TO:<a@" + b"b" * 260 + b">",
        b"FROM:<a@example.org>",
        b"",
        b"TO:<a@example.org> =x",
        b"TO:<a@example.org> NOTIFY=NEVER NOTIFY=NEVER",
        b"TO:<a@example.org> " + b" ".join(b"X%d=1" % n for n in range(30)),
    ],
)
def test_what_is_not_in_the_grammar_is_refused_with_its_reason(argument: bytes) -> None:
    with pytest.raises(SyntaxFault) as caught:
        parse_rcpt(argument, utf8=False)
    assert 500 <= caught.value.code <= 555
    assert caught.value.text.isprintable()


def test_a_person_may_type_a_space_behind_the_colon() -> None:
    assert parse_mail(b"FROM: <a@example.org>", utf8=False, lenient=True).path.mailbox == "a@example.org"


def test_the_null_reverse_path_is_no_forward_path() -> None:
    assert parse_mail(b"FROM:<> RET=HDRS", utf8=False).path.is_null
    with pytest.raises(SyntaxFault):
        parse_rcpt(b"TO:<>", utf8=False)


def test_parameters_keep_their_octets() -> None:
    address = parse_mail(b"FROM:<a@b.example> RET=hdrs ENVID=QQ+2Bx AUTH=<>", utf8=False)
    assert [one.octets for one in address.parameters] == [b"RET=hdrs", b"ENVID=QQ+2Bx", b"AUTH=<>"]
    assert [one.keyword for one in address.parameters] == ["RET", "ENVID", "AUTH"]


def test_utf8_needs_smtputf8() -> None:
    with pytest.raises(SyntaxFault) as caught:
        parse_rcpt("TO:<é@example.org>".encode(), utf8=False)
    assert (caught.value.code, caught.value.enhanced) == (553, "5.6.7")
    assert parse_rcpt("TO:<é@exämple.org>".encode(), utf8=True).path.mailbox == "é@exämple.org"
    assert parse_mail("FROM:<é@example.org> SMTPUTF8".encode(), utf8=False).path.local_part == "é"
    with pytest.raises(SyntaxFault):
        parse_rcpt(b"TO:<\xff@example.org>", utf8=True)


@pytest.mark.parametrize("argument", [b"", b"a b", b"\x07", b"x" * 256])
def test_a_hello_needs_a_name(argument: bytes) -> None:
    with pytest.raises(SyntaxFault):
        parse_hello(argument)


def test_a_long_hostile_path_costs_no_time() -> None:
    for argument in (
        b"TO:<" + b'"' * 4000,
        b"TO:<" + b"a." * 2000 + b">",
        b"TO:<" + b"@a," * 1300 + b":a@b>",
        b"TO:<" + b"\\" * 4000 + b">",
    ):
        with pytest.raises(SyntaxFault):
            parse_rcpt(argument, utf8=False)
