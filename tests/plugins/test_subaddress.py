"""The plugin `subaddress`: which paths go on in another form, and that no other does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugins.subaddress import Options, Subaddress
from gateway.testing import a_transaction, run_plugin


async def sent(mailbox: str, **more: Any) -> str:
    plugin = Subaddress(Options.model_validate({"domains": ["Example.org"], **more}))
    [recipient] = (await run_plugin(plugin, transaction=a_transaction(recipients=[mailbox]))).recipients
    return recipient.sent_path.decode()


@pytest.mark.parametrize(
    ("mailbox", "goes_to"),
    [
        ("alice+lists@example.org", "<alice@example.org>"),
        ("Alice+a+b@Example.ORG", "<Alice@Example.ORG>"),
        ('"alice+a b"@example.org', "<alice@example.org>"),
        ("zoë+x@example.org", "<zoë@example.org>"),
        ("alice+@example.org", "<alice@example.org>"),
    ],
)
async def test_a_subaddress_is_cut_off(mailbox: str, goes_to: str) -> None:
    assert await sent(mailbox) == goes_to


@pytest.mark.parametrize(
    "mailbox",
    ["alice@example.org", "+lists@example.org", "alice+x@elsewhere.example", "alice-x@example.org", '"a b+c"@example.org'],
)
async def test_everything_else_goes_on_as_it_came(mailbox: str) -> None:
    assert await sent(mailbox) == f"<{mailbox}>"


async def test_separators_and_what_is_kept_are_options() -> None:
    assert await sent("alice-x@example.org", separators="+-") == "<alice@example.org>"
    assert await sent("Bounces+7@example.org", keep=["bounces"]) == "<Bounces+7@example.org>"
    assert await sent("bounces2+7@example.org", keep=["bounces"]) == "<bounces2@example.org>"


@given(st.text(min_size=1, max_size=20))
async def test_what_is_sent_is_always_a_path(local_part: str) -> None:
    quoted = "".join(f"\\{c}" if c in '"\\' else c for c in local_part)
    path = await sent(f'"{quoted}"@example.org')  # run_plugin refuses an answer that is no mailbox
    assert path.endswith("@example.org>")
