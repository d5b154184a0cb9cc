"""Conditions on findings in an option: `spf=pass`, `label:newsletter`, `score:DNSWL_HI`, `fact:geoip.country=NL`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from gateway import AuthResult, Fact, Findings, Label, Score

_FORM = re.compile(
    r"(?P<method>[a-z][a-z0-9._-]*)=(?P<result>[a-z]+)|(?P<kind>label|score|fact):(?P<name>[^=\s]+)(?:=(?P<value>.+))?"
)


def _check(text: str) -> str:
    found = _FORM.fullmatch(text)
    if found is None or (found["value"] is not None and found["kind"] != "fact"):
        msg = f'found {text!r}; allowed: "spf=pass", "label:NAME", "score:SYMBOL", "fact:NAME" or "fact:NAME=VALUE"'
        raise ValueError(msg)
    return text


Condition = Annotated[str, AfterValidator(_check)]
"""One of the options `skip_when` and `only_when`."""


def holds(text: str, findings: Findings) -> bool:
    """Whether a finding is as the condition says."""
    found = _FORM.fullmatch(text)
    if found is None:
        return False
    name, value = found["name"], found["value"]
    match found["kind"]:
        case None:
            return any(one.result == found["result"] for one in findings.of(AuthResult, method=found["method"]))
        case "label":
            return any(one.name == name for one in findings.of(Label))
        case "score":
            return any(one.symbol == name for one in findings.of(Score))
        case _:
            facts = [one.value for one in findings.of(Fact) if one.name == name]
            return any(_is_true(one) if value is None else _text(one) == value for one in facts)


def _text(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_true(value: str | float) -> bool:
    return bool(value)
