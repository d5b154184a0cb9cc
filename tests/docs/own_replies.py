"""Every reply of our own in the code: code, enhanced code and text as the source has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[2]
PLACES = ("gateway", "plugins")
SKIPPED = ("gateway/testing", "gateway/plugins", "gateway/server/inbox.py", "gateway/quarantine")
MAKERS = {"ours", "reply", "reject", "defer", "Reject", "Defer", "Reply", "SyntaxFault", "_end_with", "_final"}

Found = tuple[int, str, str]


def _text(node: ast.expr) -> str:
    """A text of the source with `…` for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Constant(value=bytes(octets)):
            return octets.decode()
        case ast.JoinedStr(values=parts):
            return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts)  # type: ignore[misc]
        case ast.BinOp(left=left, op=ast.Add()):
            return _text(left) + "…"
        case ast.Tuple(elts=[only]):
            return _text(only)
        case _:
            return "…"


def _values(call: ast.Call) -> tuple[list[ast.expr], dict[str, ast.expr]]:
    return list(call.args), {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def _constant(node: ast.expr | None, default: int | str) -> int | str | None:
    if node is None:
        return default
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int | str) else None


def _of_call(name: str, call: ast.Call) -> Found | None:
    arguments, named = _values(call)
    match name:
        case "ours" | "reply" if len(arguments) >= 3:
            code, enhanced, text = _constant(arguments[0], 0), _constant(arguments[1], ""), arguments[2]
        case "_end_with" | "_final" if len(arguments) == 3:  # 421, and the session ends
            code, enhanced, text = 421, _constant(arguments[1], ""), arguments[2]
        case "Reply" if len(arguments) == 2:
            code, enhanced, text = _constant(arguments[0], 0), "", arguments[1]
        case "SyntaxFault" if arguments:
            code, enhanced, text = _constant(named.get("code"), 501), _constant(named.get("enhanced"), "5.5.4"), arguments[0]
        case "reject" | "defer" | "Reject" | "Defer" if arguments or "text" in named:
            first = name.lower() == "reject"
            code = _constant(named.get("code"), 550 if first else 451)
            enhanced, text = _constant(named.get("enhanced"), "5.7.1" if first else "4.7.1"), named.get("text") or arguments[0]
        case _:
            return None
    if not isinstance(code, int):
        return None
    return code, str(enhanced or "…") if name != "Reply" else "", _text(text)


def found() -> Iterator[tuple[Found, str]]:
    """Each reply and where it is, as `file:line`."""
    for place in PLACES:
        for file in sorted((TOP / place).rglob("*.py")):
            shown = str(file.relative_to(TOP))
            if shown.startswith(SKIPPED):
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    function = node.func
                    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                    if name in MAKERS and (one := _of_call(name, node)) is not None:
                        yield one, f"{shown}:{node.lineno}"
