"""The plugin `loops`: kinds of automatic mail, mail that was here before, and too many replies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import Discard, Fact, Quarantine, Reject
from gateway.plugins.loops import Loops, Options
from gateway.testing import Clock, FakeContext, a_message, a_transaction, run_plugin


async def run(headers: dict[str, str], *, reverse_path: str = "alice@client.example", context: Any = None, **more: Any) -> Any:
    return await run_plugin(
        Loops(Options.model_validate(more), name="loops"),
        transaction=a_transaction(reverse_path=reverse_path, recipients=["bob@example.org", "carol@example.org"]),
        message=a_message(headers=list(headers.items())),
        context=context,
    )


@pytest.mark.parametrize(
    ("headers", "reverse_path", "kind"),
    [
        ({"Auto-Submitted": "auto-replied"}, "a@b.example", "auto-replied"),
        ({"Auto-Submitted": "Auto-Generated (cron); x=y"}, "a@b.example", "auto-generated"),
        ({"Auto-Submitted": "no"}, "a@b.example", ""),
        ({"Auto-Submitted": ""}, "a@b.example", ""),
        ({"Precedence": "AUTO_REPLY"}, "a@b.example", "auto-replied"),
        ({"Precedence": "bulk"}, "", "bulk"),
        ({"X-Autoreply": "yes"}, "a@b.example", "auto-replied"),
        ({"List-Id": "<l.example>"}, "a@b.example", "list"),
        ({"Content-Type": "multipart/report; boundary=x"}, "", "report"),
        ({}, "", "null-sender"),
        ({}, "a@b.example", ""),
    ],
)
async def test_says_what_is_automatic(headers: dict[str, str], reverse_path: str, kind: str) -> None:
    found = (await run(headers, reverse_path=reverse_path)).findings
    assert found == ((Fact(name="loops.automatic", value=kind),) if kind else ())


@pytest.mark.parametrize("name", ["Delivered-To", "X-Loop"])
async def test_what_a_recipient_had_before_is_refused_for_that_one(name: str) -> None:
    done = await run({name: "<Bob@Example.org>"})
    verdict = done.decisions["bob@example.org"].verdict
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.reason) == (554, "5.4.6", "mail-loop")
    assert done.decisions["carol@example.org"] is None
    assert (await run({name: "bob@example.org"}, delivered_to=["X-Other"])).verdict is None


@pytest.mark.parametrize(("then", "kind"), [("reject", Reject), ("discard", Discard), ("quarantine", Quarantine)])
async def test_too_many_automatic_replies_are_stopped_until_the_time_is_over(then: str, kind: type) -> None:
    context: Any = FakeContext(clock=Clock())
    for _ in range(3):
        assert (await run({"Auto-Submitted": "auto-replied"}, context=context, replies=3, then=then)).verdict is None
    stopped = (await run({"Auto-Submitted": "auto-replied"}, context=context, replies=3, then=then)).verdict
    assert type(stopped) is kind
    assert isinstance(stopped, Reject | Discard | Quarantine)
    assert stopped.reason == "automatic-replies"
    assert (await run({"Auto-Submitted": "auto-replied"}, context=context, replies=3, reverse_path="x@y.example")).verdict is None
    assert (await run({}, context=context, replies=3)).verdict is None
    context.clock.move(3_601)
    assert (await run({"Auto-Submitted": "auto-replied"}, context=context, replies=3, then=then)).verdict is None


async def test_with_the_null_reverse_path_authors_are_told_apart() -> None:
    context: Any = FakeContext()
    assert (await run({"From": "a@b.example"}, reverse_path="", context=context, replies=1)).verdict is None
    assert (await run({"From": "c@b.example"}, reverse_path="", context=context, replies=1)).verdict is None
    assert (await run({"From": "a@b.example"}, reverse_path="", context=context, replies=1)).verdict is not None


@given(st.binary(max_size=300))
async def test_no_octets_make_it_fail(octets: bytes) -> None:
    await run_plugin(Loops(), message=a_message(b"Auto-Submitted: " + octets + b"\r\nDelivered-To: " + octets + b"\r\n\r\n"))
