"""Expressions as trees, for checking them when the configuration is loaded (Common Expression Language, its grammar).

The library that runs expressions tells only the names in one, not how they are used; positions and types need the tree.
A text comes here after the library has accepted it, so what is unreadable here is merely not supported in rules.
"""

from __future__ import annotations

import ast
import re

from gateway.plugins.rules.tree import (
    Binary,
    Call,
    Choice,
    ExpressionError,
    Index,
    Listed,
    Literal,
    Mapped,
    Member,
    Name,
    Node,
    Unary,
)

MAX_LENGTH = 8_000
"""Characters of an expression."""
MAX_DEPTH = 60

_PIECE = re.compile(
    r"(?P<blank>\s+|//[^\n]*)"
    r"|(?P<string>(?P<prefix>[rRbB]{0,2})(?:\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''"
    r"|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'))"
    r"|(?P<double>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)"
    r"|(?P<int>0x[0-9a-fA-F]+[uU]?|\d+[uU]?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])",
    re.DOTALL,
)
_BINARY = (
    ("||",),
    ("&&",),
    ("==", "!=", "<=", ">=", "<", ">", "in"),
    ("+", "-"),
    ("*", "/", "%"),
)


def parse(text: str) -> Node:
    """The tree of an expression. ExpressionError for what rules do not support."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"an expression of {len(text)} characters", 0, allowed=f"at most {MAX_LENGTH}")
    parser = _Parser(text)
    node = parser.expression()
    parser.end()
    return node


class _Parser:
    """Recursive descent; the rule of the grammar is each method's name."""

    def __init__(self, text: str) -> None:
        self._pieces = _split(text)
        self._next = 0
        self._depth = 0

    def end(self) -> None:
        kind, text, at = self._pieces[self._next]
        if kind != "end":
            raise ExpressionError(f"{text!r} is not expected here", at)

    def expression(self) -> Node:
        self._depth += 1
        at = self._pieces[self._next][2]
        if self._depth > MAX_DEPTH:
            raise ExpressionError("nested too deeply", at, allowed=f"{MAX_DEPTH} levels")
        node = self._binary(0)
        if self._takes("?"):
            then = self._binary(0)
            self._expect(":")
            node = Choice(at, node, then, self.expression())
        self._depth -= 1
        return node

    def _binary(self, level: int) -> Node:
        if level == len(_BINARY):
            return self._unary()
        node = self._binary(level + 1)
        while self._pieces[self._next][1] in _BINARY[level] and self._pieces[self._next][0] in {"sign", "name"}:
            _, sign, at = self._pieces[self._next]
            self._next += 1
            node = Binary(at, sign, node, self._binary(level + 1))
        return node

    def _unary(self) -> Node:
        signs = []
        while self._pieces[self._next][1] in {"!", "-"} and self._pieces[self._next][0] == "sign":
            signs.append(self._pieces[self._next])
            self._next += 1
        node = self._member()
        for _, sign, at in reversed(signs):
            node = Unary(at, sign, node)
        return node

    def _member(self) -> Node:
        node = self._primary()
        while True:
            _, text, at = self._pieces[self._next]
            if self._takes("."):
                kind, name, name_at = self._take()
                if kind != "name":
                    raise ExpressionError(f"{name!r} is no name", name_at)
                node = Call(name_at, name, node, self._list(")")) if self._takes("(") else Member(name_at, node, name)
            elif self._takes("["):
                key = self.expression()
                self._expect("]")
                node = Index(at, node, key)
            else:
                if text == "{":
                    raise ExpressionError("message literals are not supported in rules", at)
                return node

    def _primary(self) -> Node:
        kind, text, at = self._take()
        match kind, text:
            case "string", _:
                return _string(text, at)
            case "int", _:
                if text[-1] in "uU":
                    raise ExpressionError(f"{text!r}: unsigned numbers are not supported in rules", at)
                return Literal(at, "int", int(text, 16 if text[:2] == "0x" else 10))
            case "double", _:
                return Literal(at, "double", float(text))
            case "name", "true" | "false":
                return Literal(at, "bool", text == "true")
            case "name", "null":
                return Literal(at, "null", None)
            case "name", _:
                return Call(at, text, None, self._list(")")) if self._takes("(") else Name(at, text)
            case _, "(":
                node = self.expression()
                self._expect(")")
                return node
            case _, "[":
                return Listed(at, self._list("]"))
            case _, "{":
                return Mapped(at, self._entries())
            case _:
                raise ExpressionError(f"{text or 'the end'!r} is not supported in rules", at)

    def _list(self, close: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._takes(close):
            items.append(self.expression())
            if not self._takes(","):
                self._expect(close)
                break
        return tuple(items)

    def _entries(self) -> tuple[tuple[Node, Node], ...]:
        entries: list[tuple[Node, Node]] = []
        while not self._takes("}"):
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression()))
            if not self._takes(","):
                self._expect("}")
                break
        return tuple(entries)

    def _take(self) -> tuple[str, str, int]:
        piece = self._pieces[self._next]
        if piece[0] != "end":
            self._next += 1
        return piece

    def _takes(self, sign: str) -> bool:
        if self._pieces[self._next][:2] == ("sign", sign):
            self._next += 1
            return True
        return False

    def _expect(self, sign: str) -> None:
        _, text, at = self._pieces[self._next]
        if not self._takes(sign):
            raise ExpressionError(f"{text or 'the end'!r} where {sign!r} is expected", at)


def _split(text: str) -> list[tuple[str, str, int]]:
    pieces: list[tuple[str, str, int]] = []
    at = 0
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None:
            raise ExpressionError(f"{text[at]!r} is not supported in rules", at)
        kind = "string" if found["string"] else str(found.lastgroup)
        if kind != "blank":
            pieces.append((kind, found[0], at))
        at = found.end()
    return [*pieces, ("end", "", at)]


_ESCAPE = re.compile(r"\\(?:[abfnrtv\\'\"`?]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})")


def check_escapes(text: str) -> None:
    """ExpressionError for a backslash in a string that begins no escape: mostly a pattern without its `r`."""
    at = 0
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None:
            at += 1
            continue
        if found["string"] and "r" not in found["prefix"].lower():
            left = _ESCAPE.sub(lambda one: " " * len(one[0]), found[0])
            if (bad := left.find("\\")) >= 0:
                what = f"'{found[0][bad : bad + 2]}' is no escape of a string"
                raise ExpressionError(what, at + bad, allowed="patterns with an r in front of the quotes: r'…'")
        at = found.end()


def _string(text: str, at: int) -> Literal:
    prefix = text[: len(text) - len(text.lstrip("rRbB"))].lower()
    kind = "bytes" if "b" in prefix else "string"
    body = text[len(prefix) :]
    try:
        # CEL's escapes are Python's, save \` and \?, which stand for themselves, and \X.
        fixed = body if "r" in prefix else re.sub(r"\\([`?])", r"\1", body).replace("\\X", "\\x")
        quotes = fixed[:3] if fixed[:3] in {'"""', "'''"} else fixed[:1]
        inner = fixed[len(quotes) : -len(quotes)]
        value = inner if "r" in prefix or "\\" not in inner else ast.literal_eval(f"{quotes}{inner}{quotes}")
    except (ValueError, SyntaxError) as error:
        raise ExpressionError(f"the string {text} cannot be read", at) from error
    return Literal(at, kind, value)
