"""Properties of the policy delegation codec: what is rendered is read, however it is cut; whatever comes, nothing else is raised."""

from __future__ import annotations

import re
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.codec import MAX_ATTRIBUTES, Action, PolicyFault, Reader, clean, parse_action, render

NAMES = st.from_regex(re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII), fullmatch=True)
ATTRIBUTES = st.dictionaries(NAMES, st.text(max_size=200), min_size=1, max_size=MAX_ATTRIBUTES)


@given(ATTRIBUTES, st.integers(min_value=1, max_value=40))
def test_what_is_rendered_is_read(attributes: dict[str, str], step: int) -> None:
    octets = render(attributes)
    reader = Reader()
    found = [one for at in range(0, len(octets), step) for one in reader.feed(octets[at : at + step])]
    assert found == [{name: clean(value) for name, value in attributes.items()}]
    assert reader.is_clean


@given(st.binary(max_size=400), st.integers(min_value=1, max_value=50))
def test_pieces_make_no_difference(octets: bytes, step: int) -> None:
    def read(pieces: list[bytes]) -> tuple[list[dict[str, str]], bool]:
        reader, found = Reader(), []
        try:
            for piece in pieces:
                found += reader.feed(piece)
        except PolicyFault:
            return [], False
        return found, True

    cut = read([octets[at : at + step] for at in range(0, len(octets), step)])
    assert cut == read([octets])


@given(st.text(max_size=200))
def test_an_action_is_read_again_from_its_text(text: str) -> None:
    with suppress(PolicyFault):
        action = parse_action(text)
        if action.word != "OK" and not action.text.startswith(tuple("245")):
            assert parse_action(str(action)) == Action(
                word=action.word, text=action.text, code=action.code, enhanced=action.enhanced
            )
