"""What was said in one session, by all parties, in the order in which it was said: what a recorded session is made of. RFC 5321 4.1.1.

Secrets of AUTH are replaced before they are kept (RFC 4954 4): of PLAIN and LOGIN the names stay, of every other mechanism nothing does.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from dataclasses import dataclass

MOST = 2_000_000
"""Octets of one session that are kept; a longer one cannot be saved."""
PASSWORD = "a password"  # noqa: S105 - what stands where one stood
_RESPONSE = base64.b64encode(b"recorded").decode()
_AUTH = re.compile(rb"\s*auth(?:\s|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a party: `C`, `S`, `G` or `N`, without its end. `ending`: how it ended, where that was not CRLF."""

    who: str
    octets: bytes
    is_content: bool = False
    ending: bytes = b"\r\n"


class Tape:
    """The lines of a session. `client`, `server` and `link` take octets as they come."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.size = 0
        self.problem = ""
        """Why it cannot be played back."""
        self._halves: dict[str, bytes] = {}
        self._pending: deque[str] = deque()
        """Verbs of the client's commands without a reply."""
        self._in_content = False
        self._chunk = 0
        self._mechanism = ""
        self._responses = 0
        self._secrets: dict[bytes, bytes] = {}
        self._links: dict[int, _Link] = {}

    # --- the client's side

    def client(self, octets: bytes) -> None:
        """Octets of the client, in the clear."""
        data = self._halves.pop("C", b"") + octets
        while data:
            if self._chunk:
                taken, data = data[: self._chunk], data[self._chunk :]
                self._chunk -= len(taken)
                self._keep(Line("C", taken, is_content=True, ending=b""))
                continue
            end = data.find(b"\n")
            if end < 0:
                if len(data) > MOST:
                    self.problem, data = "a line without an end", b""
                self._halves["C"] = data
                return
            line, data = data[:end], data[end + 1 :]
            ending = b"\r\n" if line.endswith(b"\r") else b"\n"
            self._client_line(line.removesuffix(b"\r"), ending)

    def _client_line(self, line: bytes, ending: bytes) -> None:
        if self._in_content:
            self._keep(Line("C", line, is_content=True, ending=ending))
            if line == b"." and ending == b"\r\n":
                self._in_content = False
                self._pending.append(".")
            return
        if "AUTH" in self._pending:
            line = self._response(line)
        else:
            verb = line.split(b" ")[0].strip().upper().decode("ascii", "replace")
            if _AUTH.match(line):
                verb, line = "AUTH", self._auth(line)
            self._pending.append(verb)
            if verb == "BDAT":
                words = line.split()
                self._chunk = int(words[1]) if len(words) > 1 and words[1].isdigit() and len(words[1]) < 12 else 0
        self._keep(Line("C", line, ending=ending))

    def server(self, octets: bytes) -> None:
        """Octets of the gateway to the client."""
        for line in self._whole_lines("S", octets):
            self._keep(Line("S", line))
            if line[3:4] == b"-":
                continue
            if line[:3] == b"354":
                self._in_content = True
            if line[:3] != b"334" and self._pending:
                self._pending.popleft()

    # --- AUTH

    def _auth(self, line: bytes) -> bytes:
        words = line.split()
        self._mechanism = words[1].upper().decode("ascii", "replace") if len(words) > 1 else ""
        self._responses = 0
        return b" ".join([*words[:2], *(self._response(word) for word in words[2:])])

    def _response(self, octets: bytes) -> bytes:
        """What stands where a response stood."""
        self._responses += 1
        if octets in {b"", b"*", b"="}:
            return octets
        instead = _RESPONSE.encode()
        try:
            plain = base64.b64decode(octets, validate=True)
        except (binascii.Error, ValueError):
            plain = b""
        if self._mechanism == "PLAIN" and plain.count(b"\0") == 2:
            names = plain.rpartition(b"\0")[0]
            instead = base64.b64encode(names + b"\0" + PASSWORD.encode())
        elif self._mechanism == "LOGIN" and self._responses == 1:
            instead = octets
        elif self._mechanism == "LOGIN":
            instead = base64.b64encode(PASSWORD.encode())
        self._secrets[octets] = instead
        return instead

    # --- the links

    def link(self, number: int, who: str, octets: bytes) -> None:
        """Octets on a link; none: it was closed by the next hop."""
        link = self._links.setdefault(number, _Link())
        if not octets:
            if who == "N" and not link.has_quit:
                self._keep(Line("N^", b""))
            return
        for line in self._whole_lines(f"{who}{number}", octets):
            kept = link.line(who, line)
            if link.has_chunks:
                self.problem = "content went to the next hop by BDAT"
            if kept is None:
                continue
            if who == "G" and not link.in_content:
                kept = (
                    b" ".join(self._secrets.get(word, word) for word in kept.split(b" "))
                    if b" " in kept
                    else self._secrets.get(kept, kept)
                )
            self._keep(Line(who, kept, is_content=link.is_content))

    def _whole_lines(self, who: str, octets: bytes) -> list[bytes]:
        *lines, rest = (self._halves.pop(who, b"") + octets).split(b"\r\n")
        if len(rest) > MOST:
            self.problem, rest = "a line without an end", b""
        self._halves[who] = rest
        return lines

    def _keep(self, line: Line) -> None:
        self.size += len(line.octets) + 4
        if self.size > MOST:
            self.problem = f"more than {MOST} octets"
            self.lines.clear()
        else:
            self.lines.append(line)


class _Link:
    """A connection to the next hop; its greeting and first EHLO, and QUIT, are no part of a session."""

    def __init__(self) -> None:
        self.in_content = False
        self.is_content = False
        self.has_quit = False
        self._is_set_up = False
        self._said_hello = False
        self._chunked = 0

    def line(self, who: str, line: bytes) -> bytes | None:
        """The line, when it is part of the session."""
        self.is_content = False
        if not self._is_set_up:
            self._said_hello = self._said_hello or who == "G"
            if who == "N" and self._said_hello and line[3:4] != b"-":
                self._is_set_up = True
            return None
        if self.has_quit:
            return None
        if who == "G":
            if self.in_content:
                self.is_content = True
                self.in_content = line != b"."
            elif line.upper() == b"QUIT":
                self.has_quit = True
                return None
            elif line[:5].upper() == b"BDAT ":
                self._chunked += 1
        elif line[:3] == b"354" and line[3:4] != b"-":
            self.in_content = True
        return line

    @property
    def has_chunks(self) -> bool:
        """Content went by BDAT: its lines cannot be told from commands."""
        return self._chunked > 0
