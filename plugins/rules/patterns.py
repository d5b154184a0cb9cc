"""Patterns and networks that an expression writes out: read and refused when the configuration is loaded."""

from __future__ import annotations

from collections.abc import Callable

from gateway.plugins.rules.functions import compiled, network
from gateway.plugins.rules.rates import period_of
from gateway.plugins.rules.tree import ExpressionError, Listed, Literal, Node
from gateway.plugins.rules.windows import parse_windows, parse_zone


def _constant(node: Node) -> str:
    if isinstance(node, Literal) and isinstance(node.value, str):
        return node.value
    raise ExpressionError("a pattern that is not written out", node.at, allowed="a string in quotes")


def check_regex(node: Node) -> None:
    """A regular expression that is written out: linear time, no look-around, no back-references."""
    try:
        compiled(_constant(node))
    except ExpressionError:
        raise
    except ValueError as error:
        raise ExpressionError(str(error), node.at, allowed="one without look-around and back-references") from error


def name_of_list(node: Node) -> str:
    """The name in `in_list("vip", …)`."""
    if isinstance(node, Literal) and isinstance(node.value, str):
        return node.value
    raise ExpressionError("a list that is not written out", node.at, allowed='the name of a list in quotes: in_list("vip", …)')


def _check_with(check: Callable[[str], object], node: Node, what: str) -> None:
    if not isinstance(node, Literal) or not isinstance(node.value, str):
        raise ExpressionError(f"{what} that is not written out", node.at, allowed="a string in quotes")
    try:
        check(node.value)
    except ValueError as error:
        raise ExpressionError(str(error), node.at) from error


def check_constants(name: str, given: tuple[Node, ...]) -> None:
    """Patterns and networks that are written out are read once, here."""
    last = given[-1]
    items = last.items if isinstance(last, Listed) else (last,)
    if name == "matches_any":
        if not isinstance(last, Listed):
            raise ExpressionError("patterns that are not written out", last.at, allowed='a list: ["…", "…"]')
        for item in items:
            try:
                compiled(_constant(item))
            except ValueError as error:
                raise ExpressionError(str(error), item.at) from error
    elif name == "within":
        _check_with(parse_windows, given[0], "a window of time")
        if len(given) > 1:
            _check_with(parse_zone, given[1], "a time zone")
    elif name == "rate":
        _check_with(period_of, given[1], "a time")
    elif name in {"in_network", "in_domain"}:
        for item in items:
            if not isinstance(item, Literal):
                continue
            if not isinstance(item.value, str):
                raise ExpressionError(f"{name}() of {item.kind}", item.at, allowed="a string or a list of strings")
            try:
                _ = network(item.value) if name == "in_network" else None
            except ValueError as error:
                raise ExpressionError(str(error), item.at, allowed="a network such as 192.0.2.0/24") from error
