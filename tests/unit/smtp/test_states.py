"""Every cell of state × verb (RFC 5321 4.1.4)."""

import pytest

from gateway.smtp.replies import Reply
from gateway.smtp.states import ALLOWED, VERBS, State, advance
from gateway.smtp.verbs import VERBS as IMPLEMENTED


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_each_cell(state: State, verb: str) -> None:
    after = advance(state, verb)
    if verb in ALLOWED[state]:
        assert after is ALLOWED[state][verb]
    else:
        assert isinstance(after, Reply)
        assert (after.code, after.enhanced) == (503, "5.5.1")


def test_every_verb_of_the_table_is_implemented_and_no_other() -> None:
    assert set(IMPLEMENTED) == VERBS


@pytest.mark.parametrize("state", [state for state in State if state is not State.REFUSED])
def test_what_may_always_come(state: State) -> None:
    for verb in ("NOOP", "RSET", "VRFY", "HELP", "QUIT"):
        assert not isinstance(advance(state, verb), Reply)


def test_a_refused_session_may_only_quit() -> None:
    assert [verb for verb in VERBS if not isinstance(advance(State.REFUSED, verb), Reply)] == ["QUIT"]
