"""A script of Sieve run on one message: RFC 5228, 5173, 5229, 5231, 5235, 5293, 5429. Bounded in steps, text and variables.

Nothing is done here: what the script asks for is an `Outcome`. A mistake that only shows while it runs leaves what the script
has asked for aside, and the message is kept (RFC 5228 2.10.6).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from email.utils import getaddresses

from gateway import Edit, Message, add_header, insert_header, remove_header
from gateway.plugins.sieve.language import Node, Script
from gateway.plugins.sieve.matching import lowered, matches

MAX_STEPS = 10_000
"""Commands and tests that the scripts of one message run."""
MAX_LOOKED = 50_000_000
"""Characters that they compare."""
MAX_VARIABLES = 128
MAX_VARIABLE = 4_000
"""Characters of a variable (RFC 5229 6)."""
MAX_EDITS = 100
MAX_BODY = 1_000_000
"""Octets of a body that are looked at."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*|[0-9]{1,9})\}", re.ASCII)
_KEPT_FIELDS = frozenset({"received", "auto-submitted"})
"""RFC 5293 6: scripts do not remove them."""


class RunError(ValueError):
    """A script that cannot go on."""


class _Stopped(Exception):  # noqa: N818 - no error: `stop`
    pass


@dataclass(frozen=True, slots=True)
class About:
    """What a script is run on."""

    message: Message
    sender: str
    """Of the envelope; `` is the null reverse-path."""
    recipient: str
    spam: float | None
    """0 to 1; None: nobody has looked."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a script asks for."""

    action: str
    """`keep`, `fileinto`, `reject` or `discard`."""
    text: str = ""
    """The mailbox, or the text of a refusal."""
    line: int = 0
    """Where it says so; 0: nowhere, it is the implicit keep."""
    script: str = ""
    """Its file."""
    edits: tuple[Edit, ...] = ()
    error: str = ""

    @property
    def is_implicit(self) -> bool:
        """True where the script left the message alone."""
        return self.action == "keep" and not self.line


@dataclass(slots=True)
class Budget:
    """What the scripts of one message may still spend."""

    steps: int = MAX_STEPS
    looked: int = MAX_LOOKED


@dataclass(slots=True)
class _Field:
    """A field of the header section as the script sees it."""

    name: str
    value: str
    occurrence: int | None
    """Among those of its name, as received; None: the script's own."""


def run(script: Script, about: About, budget: Budget) -> Outcome:
    """What the script asks for."""
    going = _Run(script, about, budget)
    try:
        going.commands(script.commands)
    except _Stopped:
        pass
    except ValueError as error:  # RunError, PatternError, a field that cannot be
        return Outcome("keep", error=f"{script.name}:{going.line}: {error}")
    return going.outcome()


@dataclass(slots=True)
class _Run:
    script: Script
    about: About
    budget: Budget
    line: int = 1
    actions: list[Outcome] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    taken: tuple[str, ...] = ()
    """Of the last `:matches` (RFC 5229 3.2)."""
    edits: list[Edit] = field(default_factory=list)
    _fields: list[_Field] | None = None
    touched: set[str] = field(default_factory=set)
    """Names of fields that the script has changed."""

    # Commands

    def commands(self, nodes: Sequence[Node]) -> None:
        is_done = False
        for node in nodes:
            self._step(node)
            if node.name in {"if", "elsif", "else"}:
                if node.name == "if":
                    is_done = False
                if not is_done and (node.name == "else" or self.holds(node.tests[0])):
                    is_done = True
                    self.commands(node.block)
            elif node.name in _COMMANDS:
                _COMMANDS[node.name](self, node)

    def outcome(self) -> Outcome:
        """Of several actions the one that loses nothing."""
        edits = tuple(self.edits)
        for wanted in ("keep", "fileinto", "reject", "discard"):
            for one in self.actions:
                if one.action == wanted:
                    return replace(one, edits=edits)
        return Outcome("keep", edits=edits)

    def act(self, node: Node, action: str, text: str = "") -> None:
        refused = any(one.action == "reject" for one in self.actions)
        if (action == "reject" and self.actions) or (refused and action != "discard"):
            raise RunError(f"{node.name} beside another action (RFC 5429 2.2)")
        self.actions.append(Outcome(action, text, node.line, self.script.name))

    def stop(self, node: Node) -> None:
        raise _Stopped(node.line)

    def keep(self, node: Node) -> None:
        self.act(node, "keep")

    def discard(self, node: Node) -> None:
        self.act(node, "discard")

    def fileinto(self, node: Node) -> None:
        mailbox = self.text(node.text("mailbox"))
        self.act(node, "keep" if mailbox.upper() == "INBOX" else "fileinto", mailbox)

    def reject(self, node: Node) -> None:
        self.act(node, "reject", self.text(node.text("text")))

    def set(self, node: Node) -> None:
        """RFC 5229 4: modifiers in the order of their precedence."""
        value = self.text(node.text("value"))
        value = _CASES.get(node.tag("case"), str)(value)
        value = _CASES.get(node.tag("first-case"), str)(value[:1]) + value[1:]
        if node.tag("quotewildcard"):
            value = re.sub(r"([*?\\])", r"\\\1", value)
        if node.tag("length"):
            value = str(len(value))
        name = node.text("name").lower()
        if name not in self.variables and len(self.variables) >= MAX_VARIABLES:
            raise RunError(f"more than {MAX_VARIABLES} variables")
        self.variables[name] = value[:MAX_VARIABLE]

    def addheader(self, node: Node) -> None:
        """RFC 5293 4."""
        name, value = self.text(node.text("field-name")), " ".join(self.text(node.text("value")).split())
        is_last = bool(node.tag("last"))
        self._edit(insert_header(name, value, below=len(self.about.message.fields) + 1) if is_last else add_header(name, value))
        fields = self.fields
        fields.insert(len(fields) if is_last else 0, _Field(name, value, None))
        self.touched.add(name.lower())

    def deleteheader(self, node: Node) -> None:
        """RFC 5293 5."""
        name = self.text(node.text("field-name")).lower()
        if name in _KEPT_FIELDS:
            return
        found = self._named(name)
        if index := node.number("index value"):
            found = (found[::-1] if node.tag("last") else found)[index - 1 : index]
        patterns = node.strings("value-patterns")
        gone = [one for one in found if not patterns or self.match(node, [one.value], patterns)]
        for one in gone:
            if one.occurrence is not None:
                self._edit(remove_header(one.name, one.occurrence))
            else:
                own = next(e for e in self.edits if getattr(e, "name", "") == one.name and getattr(e, "value", None) == one.value)
                self.edits.remove(own)
        self._fields = [one for one in self.fields if not any(one is other for other in gone)]
        self.touched.add(name)

    def _edit(self, edit: Edit) -> None:
        if len(self.edits) >= MAX_EDITS:
            raise RunError(f"more than {MAX_EDITS} header fields that change")
        self.edits.append(edit)

    # Tests

    def holds(self, node: Node) -> bool:
        self._step(node)
        return _TESTS[node.name](self, node)

    def address(self, node: Node) -> bool:
        values = [
            _part(address, node.tag("address-part"))
            for name in self.texts(node.strings("header-list"))
            for address in self._addresses(name)
        ]
        return self.match(node, values, node.strings("key-list"))

    def envelope(self, node: Node) -> bool:
        parts = [name.lower() for name in self.texts(node.strings("header-list"))]
        addresses = [self.about.sender if part == "from" else self.about.recipient for part in parts]
        return self.match(node, [_part(one, node.tag("address-part")) for one in addresses], node.strings("key-list"))

    def header(self, node: Node) -> bool:
        values = [one.value for name in self.texts(node.strings("header-names")) for one in self._named(name)]
        return self.match(node, values, node.strings("key-list"))

    def exists(self, node: Node) -> bool:
        return all(self._named(name) for name in self.texts(node.strings("header-names")))

    def size(self, node: Node) -> bool:
        limit, size = node.number("limit"), self.about.message.size
        return size > limit if node.tag("comparator") == ":over" else size < limit

    def body(self, node: Node) -> bool:
        """RFC 5173 5."""
        message = self.about.message
        match node.tag("body-transform"):
            case ":raw":
                octets = message.octets[message.body_offset : message.body_offset + MAX_BODY]
                values = [bytes(octets).decode("utf-8", "replace")]
            case ":content":
                values = self._contents([one.lower() for one in self.texts(node.strings("body-transform value"))])
            case _:
                values = [message.text]
        return self.match(node, values, node.strings("key-list"))

    def string(self, node: Node) -> bool:
        return self.match(node, self.texts(node.strings("source")), node.strings("key-list"))

    def spamtest(self, node: Node) -> bool:
        """RFC 5235 2.1, 2.2: 0 is not tested, 1 is clean, 10 and 100 are spam."""
        spam = self.about.spam
        scale, least = (100, 0) if node.tag("percent") else (9, 1)
        value = 0 if spam is None else least + int(spam * scale)
        return self.match(node, [str(value)], node.strings("value") or (str(node.number("value")),))

    def match(self, node: Node, values: Sequence[str], keys: Sequence[str]) -> bool:
        """RFC 5228 2.7, RFC 5231."""
        wanted = self.texts(keys)
        self.budget.looked -= (sum(map(len, values)) + len(values)) * len(wanted)
        if self.budget.looked < 0:
            raise RunError(f"more than {MAX_LOOKED} characters to compare")
        holds, taken = matches(
            node.tag("match-type") or ":is",
            node.text("match-type value"),
            (node.text("comparator value") or "i;ascii-casemap").lower(),
            values,
            wanted,
        )
        if taken is not None:
            self.taken = taken
        return holds

    # What they read

    def text(self, text: str) -> str:
        """With its variables, where the script asked for them (RFC 5229 3)."""
        if "variables" not in self.script.capabilities or "${" not in text:
            return text
        return _VARIABLE.sub(self._variable, text)[:MAX_VARIABLE]

    def texts(self, texts: Iterable[str]) -> list[str]:
        return [self.text(one) for one in texts]

    def _variable(self, found: re.Match[str]) -> str:
        name = found[1]
        if name.isdigit():
            return self.taken[int(name)] if int(name) < len(self.taken) else ""
        return self.variables.get(name.lower(), "")

    @property
    def fields(self) -> list[_Field]:
        if self._fields is None:
            seen: dict[str, int] = {}
            self._fields = []
            for one in self.about.message.fields:
                key = one.name.lower()
                self._fields.append(_Field(one.name, "", seen.get(key, 0)))
                seen[key] = seen.get(key, 0) + 1
        return self._fields

    def _named(self, name: str) -> list[_Field]:
        """Fields of this name, with their values: decoded, without white space around them (RFC 5228 5.7)."""
        found = [one for one in self.fields if one.name.lower() == name.lower()]
        received = self.about.message.fields_named(name)
        for one in found:
            if one.occurrence is not None and not one.value:
                one.value = received[one.occurrence].value.strip()
        return found

    def _addresses(self, name: str) -> list[str]:
        if name.lower() not in self.touched:
            return [one.address for one in self.about.message.addresses_in(name)]
        return [address for _, address in getaddresses([one.value[:10_000] for one in self._named(name)[:20]]) if address]

    def _contents(self, types: list[str]) -> list[str]:
        found, left = [], MAX_BODY
        for part in self.about.message.parts:
            main = part.content_type.partition("/")[0]
            if left > 0 and any(one in {"", part.content_type, main} for one in types):
                found.append(part.text(left))
                left -= part.end - part.body_start
        return found

    def _step(self, node: Node) -> None:
        self.line = node.line
        self.budget.steps -= 1
        if self.budget.steps < 0:
            raise RunError(f"more than {MAX_STEPS} commands and tests")


def _raised(text: str) -> str:
    return "".join(one.upper() if one.isascii() else one for one in text)


def _part(address: str, part: str) -> str:
    """RFC 5228 2.7.4."""
    local, at, domain = address.rpartition("@")
    if part == ":localpart":
        return local if at else address
    return domain if part == ":domain" else address


_CASES: dict[str, Callable[[str], str]] = {":lower": lowered, ":upper": _raised, ":lowerfirst": lowered, ":upperfirst": _raised}
_COMMANDS: dict[str, Callable[[_Run, Node], None]] = {
    "stop": _Run.stop,
    "keep": _Run.keep,
    "discard": _Run.discard,
    "fileinto": _Run.fileinto,
    "reject": _Run.reject,
    "ereject": _Run.reject,
    "set": _Run.set,
    "addheader": _Run.addheader,
    "deleteheader": _Run.deleteheader,
}
_TESTS: dict[str, Callable[[_Run, Node], bool]] = {
    "address": _Run.address,
    "allof": lambda run_, node: all(run_.holds(one) for one in node.tests),
    "anyof": lambda run_, node: any(run_.holds(one) for one in node.tests),
    "envelope": _Run.envelope,
    "exists": _Run.exists,
    "false": lambda run_, node: False,  # noqa: ARG005 - a test like the others
    "header": _Run.header,
    "not": lambda run_, node: not run_.holds(node.tests[0]),
    "size": _Run.size,
    "true": lambda run_, node: True,  # noqa: ARG005 - a test like the others
    "body": _Run.body,
    "string": _Run.string,
    "spamtest": _Run.spamtest,
}
