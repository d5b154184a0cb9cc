"""Whatever rspamd answers, it is read, or it is bad: gateway.plugins.rspamd."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.plugins.rspamd.answer import parse
from gateway.plugins.rspamd.edits import mark, read, rewrite_subject
from gateway.services import BadAnswerError
from gateway.testing import a_message

CLEAN = {"action": "no action", "score": 0.5}
TEXT = st.text("aX-: \r\n\0\t\u00e9\ud800", max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
ANYTHING = st.recursive(SCALARS, lambda some: st.lists(some, max_size=3) | st.dictionaries(TEXT, some, max_size=3), max_leaves=8)
NAMED = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("messages", "subject", "milter", "dkim-signature", "symbols", "required_score", "is_skipped", "action", "score"),
        ANYTHING,
    ),
)
WISHED = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("add_headers", "remove_headers", "spam_header", "reject", "no_action", "add_rcpt", "del_rcpt", "change_from"), ANYTHING
    ),
)


@given(NAMED, WISHED)
def test_no_answer_raises_anything_but_that_it_is_bad(found: dict[str, Any], wished: dict[str, Any]) -> None:
    message = a_message()
    for answer in (
        found,
        {**CLEAN, **found},
        {**CLEAN, **found, "action": "add header", "score": 1, "symbols": {}, "milter": wished},
    ):
        try:
            understood = parse(json.dumps(answer).encode())
        except BadAnswerError:
            continue
        wishes = read(understood, message, spam_header="X-Spam")
        mark(wishes, understood, spam_header="X-Spam")
        rewrite_subject(wishes, understood)
        assert all(one.isprintable() for one in wishes.not_done)
