"""What the library says of an expression that is none, in words for a postmaster: what was found there, and what was probably meant."""

from __future__ import annotations

import re

from gateway.plugins.rules.tree import ExpressionError

_SIGNS = {"=": "==", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!", "<>": "!=", "AND": "&&", "OR": "||", "NOT": "!"}
"""As other languages write it → as this one does."""
_TOKEN = re.compile(r"<>|[A-Za-z_]+|\d+\w*|.", re.DOTALL)
_MISSING = re.compile(r"missing '(.)'")


def misread(text: str, at: int, said: str) -> ExpressionError:
    """The error of an expression that cannot be read; `said` is the library's complaint about the place."""
    if not text.strip():
        return ExpressionError("an empty expression", 0, allowed="a condition such as message.size > 1000000")
    before = re.search(r"(\w+)\s*$", text[:at])
    if before is not None and before[1] in {"not", "NOT"}:
        return ExpressionError(f"{before[1]!r} is no word of expressions", before.start(1), hint="!")
    found = _TOKEN.match(text, at)
    token = found[0] if found else ""
    if token in _SIGNS:
        return ExpressionError(f"{token!r} is not expected here", at, hint=_SIGNS[token])
    missing = _MISSING.search(said)
    if missing is not None:
        where = "the expression ends" if not text[at:].strip() else f"{token!r} stands here"
        return ExpressionError(f"{where}, and {missing[1]!r} is missing", at)
    if token in {'"', "'"} and said.startswith("token recognition"):
        return ExpressionError(f"a text that begins with {token} and does not end", at, allowed=f"{token} at its end")
    if not text[at:].strip():
        return ExpressionError("the expression ends too early", at)
    if said.startswith(("token recognition", "mismatched", "extraneous", "no viable")):
        return ExpressionError(f"{token!r} is not expected here", at)
    return ExpressionError(said, at)
