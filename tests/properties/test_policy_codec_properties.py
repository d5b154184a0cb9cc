"""Properties of the policy delegation codec: what is rendered is read, however it is cut; whatever comes, nothing else is raised."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.codec import Action, PolicyFault, Reader, clean, parse_action, render

NAMES = st.text(alphabet="aZ09_.-", min_size=1, max_size=6)
ATTRIBUTES = st.dictionaries(NAMES, st.text(max_size=20), min_size=1, max_size=5)


@given(ATTRIBUTES, st.integers(min_value=1, max_value=40))
def test_what_is_rendered_is_read(attributes: dict[str, str], step: int) -> None:
    octets = render(attributes)
    reader = Reader()
    found = [one for at in range(0, len(octets), step) for one in reader.feed(octets[at : at + step])]
    assert found == [{name: clean(value) for name, value in attributes.items()}]
    assert reader.is_clean


@given(st.binary(max_size=100), st.integers(min_value=1, max_value=50))
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


@given(st.text(max_size=60))
def test_an_action_is_read_again_from_its_text(text: str) -> None:
    with suppress(PolicyFault):
        action = parse_action(text)
        if action.word != "OK" and not action.text.startswith(tuple("245")):
            assert parse_action(str(action)) == Action(
                word=action.word, text=action.text, code=action.code, enhanced=action.enhanced
            )
