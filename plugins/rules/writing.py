"""From a tree back to an expression: what is run is written from the tree that was checked, with its patterns looked up elsewhere."""

from __future__ import annotations

import json

from gateway.plugins.rules.tree import Binary, Call, Choice, Index, Listed, Literal, Mapped, Member, Name, Node, Unary


def write(node: Node) -> str:
    """The text of a tree, in the language of rules; every operator in parentheses. ValueError for one with octets in it."""
    match node:
        case Literal():
            return _literal(node)
        case Name():
            return node.name
        case Member():
            return f"{write(node.of)}.{node.name}"
        case Index():
            return f"{write(node.of)}[{write(node.key)}]"
        case Call():
            front = "" if node.receiver is None else f"{write(node.receiver)}."
            return f"{front}{node.name}({', '.join(map(write, node.arguments))})"
        case Listed():
            return f"[{', '.join(map(write, node.items))}]"
        case Mapped():
            return "{" + ", ".join(f"{write(key)}: {write(value)}" for key, value in node.entries) + "}"
        case Unary():
            return f"({node.sign}{write(node.of)})"
        case Binary():
            return f"({write(node.left)} {node.sign} {write(node.right)})"
        case Choice():
            return f"({write(node.condition)} ? {write(node.then)} : {write(node.otherwise)})"


def _literal(node: Literal) -> str:
    match node.value:
        case None:
            return "null"
        case bool():
            return "true" if node.value else "false"
        case str() if node.kind == "string":
            return "".join(_character(one) for one in json.dumps(node.value, ensure_ascii=False))
        case int() | float():
            return repr(node.value)
        case _:
            raise ValueError("octets: which ones the tree does not tell")


def _character(one: str) -> str:
    """JSON's form leaves what ends a line in the language, or is none of its characters, as it is."""
    return one if one.isprintable() else f"\\U{ord(one):08x}"
