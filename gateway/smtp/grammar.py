"""The grammar of commands: RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3 for UTF-8; RFC 3030 2 for BDAT. Octets in, values or a reason out.

Two things are taken that the letter of the grammar refuses, as every MTA does: an underscore in a domain, and
(from lenient clients only) spaces behind the colon of MAIL FROM: and RCPT TO:.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.smtp.paths import Command, Parameter, Path
from gateway.values import value

MAX_PATH: Final = 512  # with the brackets; RFC 5321 4.5.3.1 asks for 64 + 255 at least, and addresses of bounces are longer
MAX_DOMAIN: Final = 255  # RFC 5321 4.5.3.1.2
MAX_PARAMETERS: Final = 20

_ATEXT: Final = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]"
_DOT_STRING: Final = rb"%s+(?:\.%s+)*" % (_ATEXT, _ATEXT)  # RFC 5321 4.1.2
_QUOTED_STRING: Final = rb'"(?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*"'  # RFC 5321 4.1.2
_SUB_DOMAIN: Final = rb"[A-Za-z0-9_\x80-\xff](?:[A-Za-z0-9_\x80-\xff-]*[A-Za-z0-9_\x80-\xff])?"
_DOMAIN: Final = rb"%s(?:\.%s)*" % (_SUB_DOMAIN, _SUB_DOMAIN)
_LITERAL: Final = rb"\[[!-Z^-~]+\]"  # RFC 5321 4.1.3
_PATH: Final = re.compile(
    rb"<(?:(?P<route>@%s(?:,@%s)*):)?(?P<local>%s|%s)@(?P<domain>%s|%s)>"
    % (_DOMAIN, _DOMAIN, _DOT_STRING, _QUOTED_STRING, _DOMAIN, _LITERAL)
)
_POSTMASTER: Final = re.compile(rb"<(postmaster)>", re.IGNORECASE)  # RFC 5321 4.5.1
_PARAMETER: Final = re.compile(
    rb"[A-Za-z0-9][A-Za-z0-9-]*(?:=[!-~\x80-\xff]*)?"
)  # `=` inside: xtext of ENVID and AUTH in the wild
_COMMAND: Final = re.compile(rb"([A-Za-z][A-Za-z0-9]{0,15})(?: (.*))?", re.DOTALL)
_BDAT: Final = re.compile(rb"([0-9]{1,20})(?: +(LAST))?", re.IGNORECASE)  # RFC 3030 2
_USUAL: Final = re.compile(
    rb"(?:(MAIL) F(?:ROM|rom)|RCPT T[Oo]):"
    rb"(<(?!\.)([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]++)(?<!\.)@(?![.-])([A-Za-z0-9_.-]++)(?<![.-])>)"
    rb"((?: [A-Za-z0-9][A-Za-z0-9-]*+(?:=[!-~]*+)?+){0,4}+)\r\n"
)
"""Most lines with a path are so: no quotes, no literal, all ASCII. What is longer or other is read piece by piece.

Whether a dot or hyphen stands where none may is looked at in `parse_usual`: a pattern of atoms and labels takes twice as long.
"""
_MISPLACED: Final = re.compile(rb"\.[.-]|-\.")
_USUAL_HELLO: Final = re.compile(rb"(EHLO|HELO) ([!-~]{1,255})\r\n")
_ALONE: Final = {b"%s\r\n" % verb.encode(): Command(verb, b"") for verb in ("DATA", "RSET", "QUIT", "NOOP")}
_ALONE_LENGTH: Final = 6
_HELO_NAME: Final = re.compile(rb"[!-~\x80-\xff]{1,255}")


class SyntaxFault(Exception):  # noqa: N818 - the word of this house for what a peer did wrong
    """What the client sent is not in the grammar. `enhanced` and the text are fit for the reply."""

    def __init__(self, text: str, *, enhanced: str = "5.5.4", code: int = 501) -> None:
        super().__init__(text)
        self.text = text
        self.enhanced = enhanced
        self.code = code


@value(frozen=True, slots=True)
class Address:
    """The argument of MAIL or RCPT."""

    path: Path
    parameters: tuple[Parameter, ...]


def parse_usual(line: bytes, most: int = MAX_DOMAIN) -> Command | None:
    """The command of a line with its CRLF, if it is as nearly all are. None says nothing: it is to be read piece by piece."""
    length = len(line)
    if length == _ALONE_LENGTH:
        return _ALONE.get(line)
    if length > most:
        return None
    found = _USUAL.fullmatch(line)
    if found is None:
        hello = _USUAL_HELLO.fullmatch(line)
        return Command(hello[1].decode(), hello[2]) if hello is not None else None
    is_mail, path, local, domain, rest = found.groups()
    if _MISPLACED.search(path) is not None:
        return None
    parameters: tuple[Parameter, ...] = ()
    if rest:
        try:
            parameters = _parameters(rest)
        except SyntaxFault:
            return None
    verb = "MAIL" if is_mail else "RCPT"
    return Command(verb, line[5:-2], False, Path(path, local.decode(), domain.decode()), parameters)


def parse_command(line: bytes) -> tuple[str, bytes]:
    """Verb in upper case and argument of a command line without its line end (RFC 5321 4.1.1).

    `("", b"")` where there is no verb at all.
    """
    found = _COMMAND.fullmatch(line)
    if found is None:
        return "", b""
    return found[1].decode().upper(), (found[2] or b"").strip(b" ")


def parse_hello(argument: bytes) -> str:
    """The name of EHLO or HELO. Lenient as all MTAs are: a visible word (RFC 5321 4.1.1.1, 4.1.4)."""
    if not _HELO_NAME.fullmatch(argument):
        raise SyntaxFault("Syntax: EHLO hostname")
    return argument.decode("utf-8", "replace")


def parse_bdat(argument: bytes) -> tuple[int, bool]:
    """Octets of the chunk, and whether it is the last (RFC 3030 2)."""
    found = _BDAT.fullmatch(argument)
    if found is None:
        raise SyntaxFault("Syntax: BDAT octets [LAST]")
    return int(found[1]), found[2] is not None


def parse_mail(argument: bytes, *, utf8: bool, lenient: bool = False) -> Address:
    """`FROM:<reverse-path> parameters`. SyntaxFault says what is wrong."""
    path, rest = _split(argument, b"FROM:", "MAIL FROM:<address>", lenient=lenient)
    if path == b"<>":
        return Address(Path(path, "", ""), _parameters(rest))  # RFC 5321 4.5.5
    return Address(_path(path, utf8=utf8 or b"SMTPUTF8" in rest.upper(), kind="5.1.7"), _parameters(rest))


def parse_rcpt(argument: bytes, *, utf8: bool, lenient: bool = False) -> Address:
    """`TO:<forward-path> parameters`. SyntaxFault says what is wrong."""
    path, rest = _split(argument, b"TO:", "RCPT TO:<address>", lenient=lenient)
    found = _POSTMASTER.fullmatch(path)
    if found is not None:
        return Address(Path(path, found[1].decode(), ""), _parameters(rest))
    return Address(_path(path, utf8=utf8, kind="5.1.3"), _parameters(rest))


def _split(argument: bytes, front: bytes, syntax: str, *, lenient: bool) -> tuple[bytes, bytes]:
    """Path with its brackets, and the parameters behind it."""
    if argument[: len(front)].upper() != front:
        raise SyntaxFault(f"Syntax: {syntax}")
    rest = argument[len(front) :]
    if lenient:
        rest = rest.lstrip(b" ")
    if rest[:1] != b"<":
        raise SyntaxFault(f"Syntax: {syntax}")
    end = rest.find(b">")
    quote = rest.find(b'"', 0, end)
    if quote != -1:  # a quoted local part may hold any bracket
        end = _end_of_quoted(rest, quote)
    if end == -1:
        raise SyntaxFault(f"Syntax: {syntax}")
    path, rest = rest[: end + 1], rest[end + 1 :]
    if rest and rest[:1] != b" ":
        raise SyntaxFault(f"Syntax: {syntax}")
    if len(path) > MAX_PATH:
        raise SyntaxFault("Path too long", enhanced="5.1.7" if front == b"FROM:" else "5.1.3")
    return path, rest.strip(b" ")


def _end_of_quoted(octets: bytes, quote: int) -> int:
    """Index of the `>` behind a quoted string, or -1."""
    at = quote + 1
    while at < len(octets):
        octet = octets[at]
        if octet == 0x5C:
            at += 2
            continue
        if octet == 0x22:
            return octets.find(b">", at)
        at += 1
    return -1


def _path(octets: bytes, *, utf8: bool, kind: str) -> Path:
    found = _PATH.fullmatch(octets)
    if found is None:
        raise SyntaxFault("Bad address syntax", enhanced=kind)
    local, domain = found["local"], found["domain"]
    if len(domain) > MAX_DOMAIN:
        raise SyntaxFault("Domain too long", enhanced=kind)
    if not octets.isascii():
        if not utf8:
            raise SyntaxFault("UTF-8 in an address needs SMTPUTF8", enhanced="5.6.7", code=553)  # RFC 6531 3.5
        try:
            octets.decode("utf-8")
        except UnicodeDecodeError:
            raise SyntaxFault("Address is not UTF-8", enhanced=kind) from None
    return Path(octets, local.decode("utf-8"), domain.decode("utf-8"))


def _parameters(rest: bytes) -> tuple[Parameter, ...]:
    if not rest:
        return ()
    words = rest.split()
    if len(words) > MAX_PARAMETERS:
        raise SyntaxFault("Too many parameters")
    seen: set[str] = set()
    result = []
    for word in words:
        if not _PARAMETER.fullmatch(word):
            raise SyntaxFault("Bad parameter syntax")
        parameter = Parameter(word)
        if parameter.keyword in seen:
            raise SyntaxFault(f"Parameter {parameter.keyword} given twice")
        seen.add(parameter.keyword)
        result.append(parameter)
    return tuple(result)
