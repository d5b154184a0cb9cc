r"""SMTP conversations as text, played against a gateway in this process: client, gateway and next hop in one file.

    title: the next hop refuses one of two recipients
    rfc: 5321 3.3, 4.2.1
    ---
    C: MAIL FROM:<a@client.example>
    G: MAIL FROM:<a@client.example>
    N: 250 2.1.0 Ok
    S: 250 2.1.0 Ok
    = next_hop_connections 1

Who: `C` the client, `S` the gateway to the client, `G` the gateway to the next hop, `N` the next hop. `N2` and `G2` are a
second next hop. C and N are said, S and G are waited for, line by line and in the order of the file.

How: `:` the whole line (in S and G, `(ID)` stands for the identifier that the gateway's own replies end with) · `~` a regular
expression for the whole line · `*` lines are skipped up to one that begins so · `!` octets as a Python literal, nothing added;
`! "NOOP\r\n" * 3` says them three times · `#` so many octets, whatever they are · `^` close; `S^` and `G^`: the gateway has closed · `+ 0.2s` wait · `C%` the client
starts TLS · `N% 220 Go on` the next hop says so and starts TLS · `N-` the next hop closes and listens no more · `N+` it listens again.

Facts, waited for: `= held 1`, `= link ~TLSv1.*` for a regular expression; see `gateway.testing.play.FACTS`.

The header, `name: value` with further lines indented:
`title`, and `rfc` for the sections it shows;
`config`, TOML laid over `gateway.testing.play.BASE`, where `{N}` and `{N2}` are the next hops' addresses, `{N.port}` the port alone, `{here}` the folder of the file, and `{certificate}` and
`{key}` are files for a listener's `tls` (the next hop has the same, for `localhost`), and `{socket}` is a `bind` at a UNIX socket;
`config-file`, a configuration that takes the place of BASE, by its name from the folder of this file: its routes lead to N, whatever their
servers are, its listeners are at loopback, and its relative file names begin where it is;
`client`, the client's address, if it is to be another than loopback; `tls: assumed`, the session counts as TLS; `listener`, which one;
`hello`, what the client says before the dialogue (`by hand`: nothing, the file begins with the greeting);
`next-hop`, the EHLO keywords it offers (`by hand`: the file plays greeting and EHLO, `by hand in TLS`: the same
in TLS from the first octet, `down`: it does not listen).

Plugins are found in the folder `plugins` beside the file. What nobody has read at the end is a failure; QUIT to the next hop
need not be read.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"(C|S|G2?|N2?)([:~*!^+%#-])(?: (.*))?")
_FACT = re.compile(r"= (\w+) (\S+)")
_REPEATED = re.compile(r"(.*\S)\s*\*\s*(\d+)", re.DOTALL)


class DialogueError(AssertionError):
    """A conversation went another way, or the file is no dialogue: `file:line: expected …, got …`."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a dialogue."""

    number: int
    who: str
    how: str
    text: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A file, read."""

    file: Path
    header: dict[str, str] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()

    @property
    def title(self) -> str:
        """What it shows."""
        return self.header.get("title", self.file.stem)


HEADER = ("title", "rfc", "config", "config-file", "client", "tls", "listener", "hello", "next-hop")


def read(file: Path) -> Dialogue:
    """Read a dialogue. DialogueError names the line that is none."""
    return parse(file.read_text(encoding="utf-8"), file)


def parse(text: str, file: Path) -> Dialogue:
    """The same for a text that is said to be in a file. DialogueError."""
    header: dict[str, str] = {}
    lines: list[Line] = []
    name = ""
    in_header = True
    for number, line in enumerate(text.split("\n"), 1):
        if in_header and line == "---":
            in_header = False
        elif in_header and line.startswith("  ") and name:
            header[name] += "\n" + line.strip()
        elif in_header:
            name, colon, value = line.partition(":")
            if not colon or name not in HEADER:
                names = ", ".join(f"`{one}:`" for one in HEADER)
                raise DialogueError(f"{file}:{number}: expected {names}, got {line!r}")
            header[name] = value.strip()
        elif line and not line.startswith("#"):
            lines.append(_line(file, number, line))
    return Dialogue(file, header, tuple(lines))


def _line(file: Path, number: int, text: str) -> Line:
    fact = _FACT.fullmatch(text)
    if fact is not None:
        return Line(number, "=", fact[1], fact[2])
    found = _LINE.fullmatch(text)
    if found is None:
        raise DialogueError(f"{file}:{number}: expected `C: …`, `S: …`, `= fact value`, got {text!r}")
    return Line(number, found[1], found[2], found[3] or "")


def whole(text: str) -> str:
    """The regular expression that a `:` line means."""
    return re.escape(text).replace(r"\(ID\)", r"\([0-9A-Za-z.-]+\)")


def seconds(line: Line) -> float:
    """How long a line waits by itself."""
    return float(line.text.removesuffix("s")) if line.how == "+" and line.text else 0.0


def literal(line: Line, file: Path) -> bytes:
    """A Python literal of text or octets, perhaps many times."""
    repeated = _REPEATED.fullmatch(line.text)
    text, times = (repeated[1], int(repeated[2])) if repeated is not None else (line.text, 1)
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError) as error:
        raise DialogueError(f"{file}:{line.number}: expected a Python literal, got {line.text!r}: {error}") from None
    octets = value if isinstance(value, bytes) else str(value).encode()
    return octets * times
