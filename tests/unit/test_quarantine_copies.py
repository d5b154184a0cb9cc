"""The JSON forms of edits and envelopes are exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import add_header, remove_header, replace_header, tag_subject
from gateway.quarantine.copies import edits_from_json, edits_to_json, envelope_from_json, envelope_to_json

EDITS = (
    add_header("X-A", "grüße\r\n\tfolded"),
    replace_header("Subject", "x", occurrence=3),
    remove_header("X-B"),
    remove_header("X-C", 0),
    tag_subject("[EXTERNAL]"),
)


def test_edits_come_back_as_they_were() -> None:
    assert edits_from_json(edits_to_json(EDITS)) == EDITS


@pytest.mark.parametrize("text", ['[{"kind": "Unknown"}]', "[{}]"])
def test_an_unknown_edit_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="does not know"):
        edits_from_json(text)


@given(
    st.binary(max_size=40),
    st.lists(st.binary(max_size=20), max_size=3),
    st.lists(
        st.tuples(st.binary(max_size=40), st.lists(st.binary(max_size=9), max_size=2).map(tuple), st.text(max_size=9)), max_size=3
    ),
)
def test_the_envelope_keeps_every_octet(
    path: bytes, parameters: list[bytes], recipients: list[tuple[bytes, tuple[bytes, ...], str]]
) -> None:
    found = envelope_from_json(envelope_to_json(path, parameters, recipients))
    assert found == (path, tuple(parameters), tuple(recipients))
