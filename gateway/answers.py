"""Answers of hooks: which types each may give, read from the annotations in `hookspecs`, and their check at run time."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from gateway import hookspecs
from gateway.edits import AddHeader, InsertHeader, RemoveHeader, ReplaceBody, ReplaceHeader, ReplacePart, TagSubject
from gateway.findings import Finding
from gateway.smtp import grammar
from gateway.verdict import AddRecipient, UseForwardPath, UseReversePath

MAX_ANSWERS = 1_000
"""Values that one call of a hook may answer with."""

_PATHS = (UseForwardPath, AddRecipient, UseReversePath)
_WITH_PATHS = frozenset(["mail", "rcpt"])
"""Hooks that may answer with a path."""

EDITS = (AddHeader, InsertHeader, ReplaceHeader, RemoveHeader, TagSubject, ReplaceBody, ReplacePart)


class WrongAnswerError(Exception):
    """A hook answered with something that it may not answer with."""


def specifications() -> dict[str, types.FunctionType]:
    """The hook specifications by name, in the order they are written."""
    mark = "mailgateway_spec"
    return {name: value for name, value in vars(hookspecs).items() if inspect.isfunction(value) and hasattr(value, mark)}


def _read_annotations(spec: types.FunctionType) -> tuple[tuple[type, ...], bool]:
    """The types a hook may answer with (without None), and whether it may answer with several."""
    answer = typing.get_type_hints(spec, localns={"Message": object})["return"]
    single: list[type] = []
    several = False
    waiting = list(typing.get_args(answer)) if _is_union(answer) else [answer]
    for kind in waiting:
        if typing.get_origin(kind) in {Sequence, Iterable}:
            several = True
        elif kind is not types.NoneType:
            single.append(kind)
    return tuple(single), several


def _is_union(kind: object) -> bool:
    return typing.get_origin(kind) in {typing.Union, types.UnionType}


SPECIFICATIONS = specifications()
ARGUMENTS: dict[str, tuple[str, ...]] = {name: tuple(inspect.signature(spec).parameters) for name, spec in SPECIFICATIONS.items()}
PERMITTED: dict[str, tuple[type, ...]] = {name: _read_annotations(spec)[0] for name, spec in SPECIFICATIONS.items()}
SEVERAL: frozenset[str] = frozenset(name for name, spec in SPECIFICATIONS.items() if _read_annotations(spec)[1])
"""Hooks that may answer with a list or tuple; `check` with any iterable."""
_MANY = SEVERAL - _WITH_PATHS
"""Of these the types are all there is to check."""


def read_answer(hook: str, answer: Any) -> tuple[Any, ...]:
    """The values of an answer that is not None. WrongAnswerError when it is none this hook may give."""
    permitted = PERMITTED[hook]
    if hook == "policy_class":
        _check_class(answer)
        return (answer,)
    kind = type(answer)
    if (kind is list or kind is tuple) and hook in _MANY and len(answer) <= MAX_ANSWERS:
        for value in answer:
            if not isinstance(value, permitted):
                break
        else:
            return tuple(answer)
    if isinstance(answer, permitted):
        values: tuple[Any, ...] = (answer,)
    elif hook in SEVERAL and _holds_several(hook, answer):
        values = _take(hook, answer)
    else:
        raise WrongAnswerError(f"{hook} answered {_name(answer)}; it may answer {_list(hook)}")
    if hook in _WITH_PATHS:
        for value in values:
            if isinstance(value, _PATHS):
                _check_path(value)
    return values


def _holds_several(hook: str, answer: Any) -> bool:
    if isinstance(answer, (list, tuple)):  # no union: it would be made anew each time
        return True
    if hook == "check":
        return isinstance(answer, Iterable) and not isinstance(answer, str | bytes | Finding)
    return False


def _take(hook: str, answer: Iterable[Any]) -> tuple[Any, ...]:
    """The values one by one, bounded: an iterable of a plugin may have no end."""
    permitted = PERMITTED[hook]
    values: list[Any] = []
    for value in answer:
        if len(values) >= MAX_ANSWERS:
            raise WrongAnswerError(f"{hook} answered more than {MAX_ANSWERS} values")
        if not isinstance(value, permitted):
            raise WrongAnswerError(f"{hook} answered {_name(value)} in a list; it may answer {_list(hook)}")
        values.append(value)
    return tuple(values)


def _check_class(answer: object, depth: int = 0) -> None:
    """A class is a str, an int or a tuple of them."""
    if isinstance(answer, tuple) and depth < 4:
        for item in answer:
            _check_class(item, depth + 1)
    elif not isinstance(answer, str | int):
        raise WrongAnswerError(f"policy_class answered {_name(answer)}; it may answer str, int or a tuple of them")


def _check_path(answer: UseForwardPath | AddRecipient | UseReversePath) -> None:
    """A path of a plugin must be one a next hop can be told (RFC 5321 4.1.2)."""
    if isinstance(answer, UseReversePath) and not answer.path:
        return  # RFC 5321 4.5.5
    try:
        octets = b"<" + answer.path.encode() + b">"
        if grammar.parse_rcpt(b"TO:" + octets, utf8=True).path.octets == octets:
            return
        what = "something follows the mailbox"
    except (grammar.SyntaxFault, UnicodeEncodeError, AttributeError) as error:
        what = str(error)
    raise WrongAnswerError(f"{answer.path!r} is not a mailbox (RFC 5321 4.1.2): {what}")


def _name(answer: object) -> str:
    text = repr(answer)
    return f"{type(answer).__name__} {text[:80]}{'…' if len(text) > 80 else ''}"


def _list(hook: str) -> str:
    names = [kind.__name__ for kind in PERMITTED[hook]]
    return ", ".join([*names, "None"])
