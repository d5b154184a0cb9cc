"""A decision record is written as JSON's own encoder writes it, whatever stands in it."""

from __future__ import annotations

import json
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.records import json_of, record_of
from gateway.trace import RecipientRecord, Record

TEXT = st.text(max_size=6) | st.sampled_from(['"\\%s', "\ud800", "\x00\x7f", "Grüße"])
NUMBER = st.integers(0, 10**12) | st.floats(0, 10**10, allow_nan=False)
STEP = {"at_ms": 0.1, "findings": [{"kind": "Fact", "value": None}]}
CHANGES = st.sampled_from([{"size": None}, {"reason": 5}, {"time": 3}, {"recipients": [{}]}, {"more": "x"}, {"steps": ({},)}])
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Values of the right types, some of them odd."""
    record: dict[str, Any] = {}
    text, number = draw(TEXT), draw(NUMBER)
    for name, kind in Record.__annotations__.items():
        match getattr(kind, "__forward_arg__", None) or kind.__name__:  # a compiled module has the types themselves
            case "str":
                record[name] = text
            case "int":
                record[name] = int(number)
            case "float":
                record[name] = float(number)
            case _:
                record[name] = []
    record["parameters"] = draw(st.lists(TEXT, max_size=2))
    record["steps"] = [STEP] * draw(st.integers(0, 2))
    record["recipients"] = [dict.fromkeys(RecipientRecord.__annotations__, path) for path in draw(st.lists(TEXT, max_size=3))]
    record[draw(st.sampled_from(["subject", "reason", "helo"]))] = draw(TEXT)
    return record


@given(records())
def test_it_is_what_the_encoder_writes(record: dict[str, Any]) -> None:
    written = json_of(cast("Record", record))
    assert written == _encode(record)
    assert record_of(written.encode()) == record


@given(records(), CHANGES)
def test_so_is_one_with_values_of_other_types(record: dict[str, Any], change: dict[str, Any]) -> None:
    changed = record | change
    assert json_of(cast("Record", changed)) == _encode(changed)


@given(records())
def test_so_is_one_that_lacks_something(record: dict[str, Any]) -> None:
    del record["identity"]
    assert json_of(cast("Record", record)) == _encode(record)
