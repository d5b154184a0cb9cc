"""Scripts in Sieve (RFC 5228) as trees: read by sievelib, with the commands it lacks; every mistake with its line.

The library checks the grammar and the arguments of each command; here is checked what this gateway can do with them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from gateway import library

MAX_SIZE = 100_000
"""Octets of a script."""
MAX_WORDS = 10_000
"""Commands and tests of a script."""
MAX_DEPTH = 30
"""Blocks and tests inside one another (RFC 5228 2.10.5 wants 15)."""
CAPABILITIES = (
    "fileinto", "reject", "ereject", "envelope", "body", "variables", "editheader", "spamtest", "spamtestplus", "relational", "mailbox",
    "comparator-i;octet", "comparator-i;ascii-casemap", "comparator-i;ascii-numeric",
)  # fmt: skip
"""What `require` may name."""
WHY_NOT = {
    "redirect": 'recipients come at RCPT, where the next hop is asked about them: a rule with at = "rcpt" and add_recipient',
    "copy": "one message is either forwarded or held: a copy is the plugin archive's",
    "imap4flags": "flags are the mailbox server's",
    "vacation": "this gateway writes no mail in a recipient's name",
    "enotify": "the plugin notice tells people",
    "include": "one script, in one file",
    "regex": "not supported: :matches",
}
COMPARATORS = ("i;octet", "i;ascii-casemap", "i;ascii-numeric")
_VARIABLE_WITH_NAMESPACE = re.compile(r"\$\{[A-Za-z_]\w*\.[\w.]*\}")
_NUMBER = re.compile(r"(\d+)([KMGkmg]?)")
_SCALE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class ScriptError(ValueError):
    """A script that cannot be used: line and reason."""

    def __init__(self, line: int, found: str) -> None:
        super().__init__(found)
        self.line = line
        self.found = found


@dataclass(frozen=True, slots=True)
class Node:
    """A command or a test, with what it was given by the names of the library."""

    name: str
    line: int
    values: Mapping[str, str | int | tuple[str, ...]]
    """Strings are tuples, however many there are; tags as written, with their colon."""
    tests: tuple[Node, ...] = ()
    block: tuple[Node, ...] = ()

    def strings(self, name: str) -> tuple[str, ...]:
        """The strings of an argument; none where it was not given."""
        found = self.values.get(name, ())
        return found if isinstance(found, tuple) else ()

    def text(self, name: str) -> str:
        """The first of them, or ``."""
        return next(iter(self.strings(name)), "")

    def tag(self, name: str) -> str:
        """A tag, or ``."""
        found = self.values.get(name, "")
        return found.lower() if isinstance(found, str) else ""

    def number(self, name: str) -> int:
        """A number, or 0."""
        found = self.values.get(name, 0)
        return found if isinstance(found, int) else 0

    def walk(self) -> Iterator[Node]:
        """This one and all below it, as written."""
        yield self
        for one in (*self.tests, *self.block):
            yield from one.walk()


@dataclass(frozen=True, slots=True)
class Script:
    """A script that can be run."""

    commands: tuple[Node, ...]
    capabilities: frozenset[str]
    name: str = ""
    _found: dict[str, bool] = field(default_factory=dict, compare=False)

    def walk(self) -> Iterator[Node]:
        """All commands and tests."""
        for one in self.commands:
            yield from one.walk()

    @property
    def is_about_recipient(self) -> bool:
        """True where its answer may differ by recipient."""
        return any(one.name == "envelope" and _is_about_recipient(one) for one in self.walk())

    @property
    def edits(self) -> bool:
        """True where it may change the message: fields, or the mark of junk."""
        return any(one.name in {"addheader", "deleteheader", "fileinto"} for one in self.walk())


def _is_about_recipient(test: Node) -> bool:
    return any(part.lower() != "from" for part in test.strings("header-list"))


def read_script(text: str, name: str = "") -> Script:
    """The script. ScriptError; OptionError without the library."""
    if len(text.encode()) > MAX_SIZE:
        raise ScriptError(1, f"a script of {len(text.encode())} octets; allowed: at most {MAX_SIZE}")
    octets = text.encode()
    starts = [0, *(found.end() for found in re.finditer(rb"\n", octets))]
    parser, places = _parser()
    try:
        is_read = parser.parse(octets)
    except ScriptError:
        raise
    except Exception as error:  # the border to a library: whatever it raises for a script it did not foresee
        line = bisect_right(starts, places[-1]) if places else 1
        raise ScriptError(line, f"what the parser cannot read ({type(error).__name__})") from error
    if not is_read:
        line, column, _ = parser.error_pos
        raise _explained(str(parser.error).partition(": ")[2], line, column, text)
    lines = iter([bisect_right(starts, place) for place in places])
    try:
        commands = tuple([_node(one, lines, 0) for one in parser.result])
    except RecursionError as error:
        raise ScriptError(1, f"blocks or tests nested too deeply; allowed: {MAX_DEPTH}") from error
    return _checked(commands, name)


def _explained(said: str, line: int, column: int, text: str) -> ScriptError:
    said = said.removeprefix("parsing error: ")
    for word, why in WHY_NOT.items():
        if f"'{word}'" in said:
            return ScriptError(line, f"{word}: {why}")
    shown = (
        "".join(c if c.isprintable() else "?" for c in text.splitlines()[line - 1][:100]) if text.splitlines()[line - 1 :] else ""
    )
    return ScriptError(line, f"{said} (column {column}: {shown.strip()!r})")


def _parser() -> tuple[Any, list[int]]:
    """A parser of the library, and where it saw words, filled as it reads."""
    module = library("sievelib.parser", extra="sieve")
    _add_commands()
    places: list[int] = []

    class Lexer(module.Lexer):  # type: ignore[misc, name-defined] # the library is loaded where it is needed
        def scan(self, text: bytes) -> Iterator[tuple[str, bytes]]:
            for kind, value in super().scan(text):
                if kind == "identifier":
                    places.append(self.pos)
                    if len(places) > MAX_WORDS:
                        raise ScriptError(self.curlineno(), f"more than {MAX_WORDS} commands and tests")
                yield kind, value

    parser = module.Parser()
    parser.lexer = Lexer(module.Parser.lrules)
    return parser, places


@cache
def _add_commands() -> None:
    """What the library does not have: RFC 5229 5, RFC 5429 2.1, RFC 5293, RFC 5235, RFC 4790 9.1.1."""
    known = library("sievelib.commands", extra="sieve")
    comparator = {**known.comparator, "extra_arg": {"type": "string", "values": [f'"{name}"' for name in COMPARATORS]}}
    keys = {"name": "key-list", "type": ["string", "stringlist"], "required": True}
    text = ["string", "stringlist"]

    def command(name: str, base: Any, extension: str | None, *arguments: dict[str, Any]) -> Any:
        return type(f"{name}Command", (base,), {"extension": extension, "args_definition": list(arguments)})

    headers = {"name": "header-names", "type": text, "required": True}
    parts = {"name": "header-list", "type": text, "required": True}
    transform = {
        "name": "body-transform", "values": [":raw", ":content", ":text"], "extra_arg": {"type": text, "valid_for": [":content"]},
        "type": ["tag"], "required": False,
    }  # fmt: skip
    last = {"name": "last", "type": ["tag"], "values": [":last"], "required": False}
    index = {"name": "index", "type": ["tag"], "values": [":index"], "extra_arg": {"type": "number"}, "required": False}
    percent = {"name": "percent", "type": ["tag"], "values": [":percent"], "required": False, "extension": "spamtestplus"}
    match, test, action = known.match_type, known.TestCommand, known.ActionCommand
    known.add_commands(
        [
            command("Header", test, None, comparator, match, headers, keys),
            command("Address", test, None, comparator, known.address_part, match, parts, keys),
            command("Envelope", test, "envelope", comparator, known.address_part, match, parts, keys),
            command("Body", test, "body", comparator, match, transform, keys),
            command("String", test, "variables", comparator, match, {**headers, "name": "source"}, keys),
            command("Spamtest", test, None, percent, comparator, match, {"name": "value", "type": ["string"], "required": True}),
            command("Ereject", action, "ereject", {"name": "text", "type": ["string"], "required": True}),
            command(
                "Addheader", action, "editheader", last,
                {"name": "field-name", "type": ["string"], "required": True}, {"name": "value", "type": ["string"], "required": True},
            ),
            command(
                "Deleteheader", action, "editheader", index, last, comparator, match,
                {"name": "field-name", "type": ["string"], "required": True}, {"name": "value-patterns", "type": text, "required": False},
            ),
        ]
    )  # fmt: skip


def _node(one: Any, lines: Iterator[int], depth: int) -> Node:
    line = next(lines, 1)
    if depth > MAX_DEPTH:
        raise ScriptError(line, f"blocks or tests nested too deeply; allowed: {MAX_DEPTH}")
    values: dict[str, str | int | tuple[str, ...]] = {}
    tests: list[Node] = []
    for definition in one.args_definition:
        name = definition["name"]
        if name not in one.arguments:
            continue
        value = one.arguments[name]
        items = value if isinstance(value, list) else [value]
        if items and not isinstance(items[0], str):
            tests += [_node(item, lines, depth + 1) for item in items]
        elif "tag" in definition["type"] and isinstance(value, str):
            values[name] = value
            if name in one.extra_arguments:
                values[f"{name} value"] = _value(one.extra_arguments[name], line)
        else:
            values[name] = _value(value, line)
    block = tuple([_node(child, lines, depth + 1) for child in one.children])
    return Node(one.name, line, values, tuple(tests), block)


def _value(value: Any, line: int) -> str | int | tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if len(items) == 1 and (number := _NUMBER.fullmatch(str(items[0]))):
        found = int(number[1][:20]) * _SCALE[number[2].lower()]
        if found >= 1 << 63:
            raise ScriptError(line, f"the number {items[0][:30]}, which is too large")
        return found
    return tuple([_unquoted(str(item)) for item in items])


def _unquoted(text: str) -> str:
    """RFC 5228 2.4.2."""
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    lines = text.replace("\r\n", "\n").split("\n")[1:-1]
    return "".join(f"{line.removeprefix('.')}\r\n" for line in lines)


def _checked(commands: tuple[Node, ...], name: str) -> Script:
    """What the library does not look at. ScriptError."""
    capabilities: set[str] = set()
    is_begun = False
    for one in commands:
        if one.name == "require":
            if is_begun:
                raise ScriptError(one.line, "require behind another command (RFC 5228 3.2)")
            capabilities.update(one.strings("capabilities"))
            _check_capabilities(one)
        is_begun = is_begun or one.name != "require"
    script = Script(commands, frozenset(capabilities), name)
    top = {id(one) for one in commands}
    for one in script.walk():
        _check_node(one, script.capabilities, is_top=id(one) in top)
    return script


def _check_capabilities(one: Node) -> None:
    for capability in one.strings("capabilities"):
        if capability not in CAPABILITIES:
            why = WHY_NOT.get(capability, f"not supported; allowed: {', '.join(CAPABILITIES)}")
            raise ScriptError(one.line, f"require {capability!r}: {why}")


def _check_node(one: Node, capabilities: frozenset[str], *, is_top: bool) -> None:
    if one.name in WHY_NOT:
        raise ScriptError(one.line, f"{one.name}: {WHY_NOT[one.name]}")
    if one.name == "require" and not is_top:
        raise ScriptError(one.line, "require inside a block (RFC 5228 3.2)")
    comparator = one.text("comparator value")
    if comparator == "i;ascii-numeric" and f"comparator-{comparator}" not in capabilities:
        raise ScriptError(one.line, f'comparator {comparator!r} without require "comparator-{comparator}"')
    if one.tag("match-type") in {":contains", ":matches"} and comparator == "i;ascii-numeric":
        raise ScriptError(one.line, f"{one.tag('match-type')} of numbers; allowed: :is, :value, :count (RFC 4790 9.1.1)")
    if one.tag("match-type") in {":count", ":value"} and not one.text("match-type value"):
        raise ScriptError(one.line, f"{one.tag('match-type')} without gt, ge, lt, le, eq or ne (RFC 5231 4)")
    if one.name == "spamtest" and not {"spamtest", "spamtestplus"} & capabilities:
        raise ScriptError(one.line, 'spamtest without require "spamtest"')
    if one.name == "envelope":
        for part in one.strings("header-list"):
            if part.lower() not in {"from", "to"}:
                raise ScriptError(one.line, f"envelope part {part[:40]!r}; allowed: from, to")
    if "variables" in capabilities:
        _check_variables(one)


def _check_variables(one: Node) -> None:
    for value in one.values.values():
        for text in value if isinstance(value, tuple) else ():
            if _VARIABLE_WITH_NAMESPACE.search(text):
                raise ScriptError(one.line, f"{text[:60]!r}: a variable of a name space, and there is none (RFC 5229 3)")
    if one.name == "set" and not re.fullmatch(r"[A-Za-z_]\w*", one.text("name"), re.ASCII):
        raise ScriptError(one.line, f"set {one.text('name')[:60]!r}; allowed: a name of letters, digits and _ (RFC 5229 3)")
